"""CPace beyond the draft's vectors, which are in tests/vectors/test_cpace.py."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterseal.crypto import cpace
from counterseal.crypto.cpace import CONFIRMATION_BYTES, SHARE_BYTES, Run
from counterseal.errors import Aborted, TrustError

P = 2**255 - 19
INPUTS = {"password": b"hobby-valid-actor", "channel": b"CI", "session": b"sid"}


def pair(**theirs):
    """Two runs; `theirs` are the inputs in which the responder differs."""
    a = Run(INPUTS["password"], role="initiator", data=b"A", **without_password(INPUTS))
    other = {**INPUTS, **theirs}
    b = Run(other["password"], role="responder", data=b"B", **without_password(other))
    return a, b


def without_password(inputs):
    return {name: value for name, value in inputs.items() if name != "password"}


def finish(a, b, *, data_a=b"A", data_b=b"B"):
    return a.finish(b.share, data_b), b.finish(a.share, data_a)


def is_square(number):
    return pow(number, (P - 1) // 2, P) in (0, 1)


def reference_elligator2(r):
    """map_to_curve_elligator2 of RFC 9380, appendix F.3, as it is written there: with a branch."""
    x1 = -cpace._A * pow(1 + 2 * r * r, -1, P) % P
    square = is_square(x1**3 + cpace._A * x1 * x1 + x1)
    return x1 if square else (-x1 - cpace._A) % P


def test_both_sides_have_one_key_and_confirm_it():
    a, b = finish(*pair())
    assert a.isk == b.isk
    assert len(a.isk) == len(a.confirmation) == CONFIRMATION_BYTES
    a.check(b.confirmation)
    b.check(a.confirmation)
    assert a.confirmation != b.confirmation


def test_every_run_has_another_share_and_key():
    runs = [pair() for _ in range(3)]
    assert len({one.share for runs in runs for one in runs}) == 6
    assert len({finish(*two)[0].isk for two in runs}) == 3


@pytest.mark.parametrize("name", INPUTS)
def test_both_must_have_every_input_alike(name):
    a, b = finish(*pair(**{name: INPUTS[name] + b"x"}))
    for one, other in ((a, b), (b, a)):
        with pytest.raises(TrustError):
            one.check(other.confirmation)


@pytest.mark.parametrize("changed", ["data_a", "data_b"])
def test_what_is_sent_along_is_authenticated(changed):
    a, b = finish(*pair(), **{changed: b"changed"})
    assert a.isk != b.isk
    with pytest.raises(TrustError):
        a.check(b.confirmation)


def test_two_initiators_do_not_agree():
    one, other = (
        Run(INPUTS["password"], role="initiator", data=b"", **without_password(INPUTS))
        for _ in range(2)
    )
    assert one.finish(other.share, b"").isk != other.finish(one.share, b"").isk


def test_inputs_cannot_run_into_each_other():
    found = {cpace._generator(*inputs) for inputs in itertools.permutations((b"a", b"ab", b"b"))}
    assert len(found) == 6


@pytest.mark.parametrize("share", [b"", bytes(31), bytes(33), b"\1" * 31, b"\x09" + bytes(32)])
def test_a_share_has_32_bytes(share):
    a, _ = pair()
    with pytest.raises(Aborted):
        a.finish(share, b"")


def test_a_scalar_serves_once_even_if_the_first_share_was_bad():
    a, b = pair()
    with pytest.raises(Aborted):
        a.finish(bytes(SHARE_BYTES), b"B")
    with pytest.raises(RuntimeError):
        a.finish(b.share, b"B")


def test_nothing_secret_in_a_repr():
    a, b = pair()
    agreed = a.finish(b.share, b"B")
    assert repr(a) == "<Run initiator>"
    assert agreed.isk.hex() not in repr(agreed)
    assert str(agreed.isk) not in repr(agreed)


@given(st.one_of(st.integers(0, 2**255 - 1), st.sampled_from([0, 1, P - 1, P, P + 1])))
def test_the_map_is_that_of_the_rfc_and_ends_on_the_curve(r):
    u = cpace._elligator2(r)
    assert u == reference_elligator2(r)
    assert 0 <= u < P
    assert is_square(u**3 + cpace._A * u * u + u)


def test_the_map_has_no_exceptional_input():
    assert not is_square(-pow(2, -1, P) % P)  # 1 + 2 r^2 is never zero
    assert not is_square(cpace._A**2 - 4)  # u^3 + A u^2 + u is zero at u = 0 only
