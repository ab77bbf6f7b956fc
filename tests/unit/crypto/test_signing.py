"""A signature is two signatures, and both must verify."""

from __future__ import annotations

import pytest

from counterseal.crypto.signing import (
    P256_ORDER,
    Signature,
    SigningKey,
    SigningSuite,
    VerifyKey,
)
from counterseal.errors import BadSignature, FormatError

SUITES = list(SigningSuite)


@pytest.fixture(scope="module", params=SUITES)
def key(request: pytest.FixtureRequest) -> SigningKey:
    return SigningKey.generate(request.param)


def test_what_a_key_signs_it_verifies(key: SigningKey) -> None:
    key.public.verify(b"message", key.sign(b"message"))


def test_an_empty_message_can_be_signed(key: SigningKey) -> None:
    key.public.verify(b"", key.sign(b""))


def test_another_message_is_refused(key: SigningKey) -> None:
    with pytest.raises(BadSignature):
        key.public.verify(b"other", key.sign(b"message"))


def test_each_half_alone_is_refused(key: SigningKey) -> None:
    good, other = key.sign(b"m"), key.sign(b"another message")
    for half in (Signature(good.classical, other.pq), Signature(other.classical, good.pq)):
        with pytest.raises(BadSignature):
            key.public.verify(b"m", half)


@pytest.mark.parametrize("length", [0, 1, 63, 65, 3308, 3310])
def test_a_half_of_another_length_is_refused(key: SigningKey, length: int) -> None:
    good = key.sign(b"m")
    for half in (Signature(bytes(length), good.pq), Signature(good.classical, bytes(length))):
        with pytest.raises(BadSignature):
            key.public.verify(b"m", half)


def test_a_public_key_that_is_none_verifies_nothing(key: SigningKey) -> None:
    public = key.public
    signature = key.sign(b"m")
    for broken in (
        VerifyKey(public.suite, bytes(len(public.classical)), public.pq),
        VerifyKey(public.suite, public.classical, bytes(len(public.pq))),
    ):
        with pytest.raises(BadSignature):
            broken.verify(b"m", signature)


def test_a_public_key_of_another_length_is_refused(key: SigningKey) -> None:
    public = key.public
    with pytest.raises(FormatError):
        VerifyKey(public.suite, public.classical[:-1], public.pq)
    with pytest.raises(FormatError):
        VerifyKey(public.suite, public.classical, public.pq + b"\0")


def test_the_same_seeds_make_the_same_key(key: SigningKey) -> None:
    again = SigningKey(key.public.suite, *key.seeds())
    assert again.public == key.public
    key.public.verify(b"m", again.sign(b"m"))


def test_key_ids_are_the_sha256_of_each_half(key: SigningKey) -> None:
    import hashlib

    halves = (key.public.classical, key.public.pq)
    assert key.public.key_ids == tuple(hashlib.sha256(half).hexdigest() for half in halves)


def test_p256_signatures_are_always_low_s() -> None:
    key = SigningKey.generate(SigningSuite.P256)
    for number in range(16):
        raw = key.sign(b"%d" % number).classical
        assert len(raw) == 64
        assert int.from_bytes(raw[32:], "big") <= P256_ORDER // 2


@pytest.mark.parametrize("r_s", [(0, 1), (1, 0), (P256_ORDER, 1), (2**256 - 1, 1)])
def test_p256_numbers_out_of_range_are_refused(r_s: tuple[int, int]) -> None:
    key = SigningKey.generate(SigningSuite.P256)
    raw = b"".join(number.to_bytes(32, "big") for number in r_s)
    with pytest.raises(BadSignature):
        key.public.verify(b"m", Signature(raw, key.sign(b"m").pq))


def test_seeds_that_are_none_are_a_programmers_mistake() -> None:
    with pytest.raises(ValueError):
        SigningKey(SigningSuite.ED25519, b"short", bytes(32))
    with pytest.raises(ValueError):
        SigningKey(SigningSuite.P256, bytes(32), bytes(32))
    with pytest.raises(ValueError):
        SigningKey(SigningSuite.ED25519, bytes(32), b"short")
