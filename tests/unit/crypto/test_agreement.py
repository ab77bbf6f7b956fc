"""Seal a short secret to a hybrid public key."""

from __future__ import annotations

import pytest

from counterseal.crypto.agreement import AgreementKey, AgreementSuite, SealKey
from counterseal.errors import BadCiphertext, FormatError

SECRET = bytes(range(32))


@pytest.fixture(scope="module", params=list(AgreementSuite))
def key(request: pytest.FixtureRequest) -> AgreementKey:
    return AgreementKey.generate(request.param)


def test_what_is_sealed_to_a_key_it_opens(key: AgreementKey) -> None:
    sealed = key.public.seal(SECRET, info=b"here")
    assert len(sealed) == key.public.suite.sealed_bytes(len(SECRET))
    assert key.open(sealed, info=b"here") == SECRET


def test_sealing_twice_gives_different_bytes(key: AgreementKey) -> None:
    assert key.public.seal(SECRET, info=b"") != key.public.seal(SECRET, info=b"")


def test_another_context_is_refused(key: AgreementKey) -> None:
    with pytest.raises(BadCiphertext):
        key.open(key.public.seal(SECRET, info=b"here"), info=b"there")


def test_another_key_is_refused(key: AgreementKey) -> None:
    other = AgreementKey.generate(key.public.suite)
    with pytest.raises(BadCiphertext):
        other.open(key.public.seal(SECRET, info=b""), info=b"")


def test_a_key_that_shares_one_half_only_is_refused(key: AgreementKey) -> None:
    classical, pq = key.seeds()
    stranger = AgreementKey.generate(key.public.suite).seeds()
    sealed = key.public.seal(SECRET, info=b"")
    for seeds in ((classical, stranger[1]), (stranger[0], pq)):
        with pytest.raises(BadCiphertext):
            AgreementKey(key.public.suite, *seeds).open(sealed, info=b"")


@pytest.mark.parametrize("length", [0, 1, 1087, 1088, 1089, 1120, 1135, 1153, 1154])
def test_a_cut_message_is_refused(key: AgreementKey, length: int) -> None:
    with pytest.raises(BadCiphertext):
        key.open(key.public.seal(SECRET, info=b"")[:length], info=b"")


def test_a_longer_message_is_refused(key: AgreementKey) -> None:
    with pytest.raises(BadCiphertext):
        key.open(key.public.seal(SECRET, info=b"") + b"\0", info=b"")


def test_a_changed_byte_anywhere_is_refused(key: AgreementKey) -> None:
    sealed = key.public.seal(SECRET, info=b"")
    for place in (0, 500, 1087, 1088, 1089, 1119, 1120, 1152, 1153, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(BadCiphertext):
            key.open(bytes(changed), info=b"")


def test_zero_bytes_open_nothing(key: AgreementKey) -> None:
    with pytest.raises(BadCiphertext):
        key.open(bytes(key.public.suite.sealed_bytes(32)), info=b"")


def test_a_public_key_off_the_curve_or_of_low_order_is_refused(key: AgreementKey) -> None:
    public = key.public
    with pytest.raises(FormatError):
        SealKey(public.suite, bytes(len(public.classical)), public.pq).seal(SECRET, info=b"")


def test_an_mlkem_key_that_is_not_reduced_is_refused(key: AgreementKey) -> None:
    broken = SealKey(key.public.suite, key.public.classical, b"\xff" * 1184)
    with pytest.raises(FormatError):
        broken.seal(SECRET, info=b"")


def test_a_hybrid_encoded_point_is_refused() -> None:
    public = AgreementKey.generate(AgreementSuite.P256).public
    for prefix in (b"\x00", b"\x02", b"\x06", b"\x07"):
        with pytest.raises(FormatError):
            SealKey(public.suite, prefix + public.classical[1:], public.pq).seal(SECRET, info=b"")


def test_a_public_key_of_another_length_is_refused(key: AgreementKey) -> None:
    public = key.public
    with pytest.raises(FormatError):
        SealKey(public.suite, public.classical + b"\0", public.pq)
    with pytest.raises(FormatError):
        SealKey(public.suite, public.classical, public.pq[:-1])


def test_the_same_seeds_make_the_same_key(key: AgreementKey) -> None:
    again = AgreementKey(key.public.suite, *key.seeds())
    assert again.public == key.public
    assert again.open(key.public.seal(SECRET, info=b"x"), info=b"x") == SECRET
