"""The half of a key that lives in a token is asked, and its answers are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from counterseal.crypto import p256, statement
from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.crypto.signing import P256_ORDER, SigningKey, SigningSuite
from counterseal.crypto.statement import StatementKey
from counterseal.errors import BadCiphertext, TrustError

if TYPE_CHECKING:
    from collections.abc import Callable


class Half:
    """A token in miniature; `spoil` changes what it answers."""

    def __init__(self, spoil: Callable[[bytes], bytes] = lambda answer: answer) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = p256.point_of(self._key.public_key())
        self.spoil = spoil
        self.asked: list[bytes] = []

    def sign(self, digest: bytes) -> bytes:
        self.asked.append(digest)
        signature = self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        r, s = decode_dss_signature(signature)
        return self.spoil(r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    def exchange(self, point: bytes) -> bytes:
        self.asked.append(point)
        return self.spoil(self._key.exchange(ec.ECDH(), p256.public_key(point)))


def signing(half: Half) -> SigningKey:
    return SigningKey(SigningSuite.P256, half, bytes(32))


def agreement(half: Half) -> AgreementKey:
    return AgreementKey(AgreementSuite.P256, half, bytes(64))


def flipped(answer: bytes) -> bytes:
    return bytes([answer[0] ^ 1]) + answer[1:]


def test_a_key_outside_signs_as_one_inside() -> None:
    key = signing(Half())
    for count in range(16):  # half of all ECDSA signatures have a high s before we turn it
        made = key.sign(b"m%d" % count)
        key.public.verify(b"m%d" % count, made)
        assert int.from_bytes(made.classical[32:], "big") <= P256_ORDER // 2


def test_a_key_outside_opens_as_one_inside() -> None:
    key = agreement(Half())
    assert key.open(key.public.seal(b"secret", info=b"i"), info=b"i") == b"secret"


def test_a_statement_key_outside() -> None:
    key = StatementKey(Half())
    statement.verify(key.public, b"m", key.sign(b"m"))


SPOILED = {
    "one bit": flipped,
    "nothing": lambda _: b"",
    "zeros": lambda answer: bytes(len(answer)),
    "too short": lambda answer: answer[:-1],
    "too long": lambda answer: answer + b"\0",
    "r or s above the order": lambda answer: b"\xff" * len(answer),
}


@pytest.mark.parametrize("sentence", SPOILED)
def test_a_spoiled_signature_does_not_come_out(sentence: str) -> None:
    half = Half(SPOILED[sentence])
    for key in (signing(half), StatementKey(half)):
        with pytest.raises(TrustError, match="answered wrongly"):
            key.sign(b"m")


@pytest.mark.parametrize("sentence", SPOILED)
def test_a_spoiled_secret_is_the_tokens_fault_and_not_the_senders(sentence: str) -> None:
    half = Half()
    key = agreement(half)
    sealed = key.public.seal(b"secret", info=b"i")
    half.spoil = SPOILED[sentence]
    with pytest.raises(TrustError, match="answered wrongly"):
        key.open(sealed, info=b"i")


def test_a_fault_that_is_over_at_once_is_noticed_too() -> None:
    half = Half()
    key = agreement(half)
    sealed = key.public.seal(b"secret", info=b"i")

    def once(answer: bytes) -> bytes:
        half.spoil = lambda answer: answer
        return flipped(answer)

    half.spoil = once
    with pytest.raises(TrustError):
        key.open(sealed, info=b"i")
    assert key.open(sealed, info=b"i") == b"secret"


def test_what_the_sender_spoiled_is_the_senders_fault() -> None:
    key = agreement(Half())
    sealed = key.public.seal(b"secret", info=b"i")
    for broken in (sealed[:-1] + b"\0", sealed[:-1], b""):
        with pytest.raises(BadCiphertext):
            key.open(broken, info=b"i")


@pytest.mark.parametrize(
    "point", [bytes(65), b"\x04" + b"\1" * 64, b"\0", b"", b"\x02" + b"\1" * 32]
)
def test_the_token_is_never_asked_about_a_point_off_the_curve(point: bytes) -> None:
    half = Half()
    with pytest.raises(ValueError):
        p256.exchange(half, point)
    assert not half.asked


def test_a_key_that_is_not_the_one_published_is_noticed() -> None:
    liar, other = Half(), Half()
    liar.public = other.public
    with pytest.raises(TrustError):
        p256.check_signer(liar)
    with pytest.raises(TrustError):
        p256.check_agreement(liar)
    p256.check_signer(other)
    p256.check_agreement(other)


def test_seeds_of_a_key_outside_there_are_none() -> None:
    for key in (signing(Half()), agreement(Half())):
        with pytest.raises(TypeError):
            key.seeds()
        assert not any(key.pq_seed())
    with pytest.raises(TypeError):
        StatementKey(Half()).scalar()
