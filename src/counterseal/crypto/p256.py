"""P-256 in the forms that we write, and halves of keys that live elsewhere, in a token (SPEC 2.11).

A token keeps its key to itself: it signs a digest, or multiplies a point. What it answers is
checked before it is used: a token may be broken, exchanged for another, or be pushed into
mistakes by somebody with a laser; one faulty ECDSA signature can give its key away.
"""

from __future__ import annotations

from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from counterseal.crypto.digest import equal, sha256
from counterseal.errors import TrustError

__all__ = [
    "POINT_BYTES",
    "ClassicalAgreement",
    "ClassicalSigner",
    "check_agreement",
    "check_signer",
    "exchange",
    "fresh_point",
    "point_of",
    "public_key",
    "sign",
]

POINT_BYTES: Final = 65  # uncompressed: 4 | x | y
SECRET_BYTES: Final = 32  # the x coordinate, with its leading zeros
_WRONG: Final = "the token answered wrongly"
_HINT: Final = "do not use it any more: it is broken, was exchanged, or is being tampered with"


class ClassicalSigner(Protocol):
    """The P-256 half of a signing key, where it cannot be read."""

    @property
    def public(self) -> bytes: ...

    def sign(self, digest: bytes) -> bytes:
        """ECDSA over a SHA-256 digest: r | s, 64 bytes."""
        ...


class ClassicalAgreement(Protocol):
    """The P-256 half of an agreement key, where it cannot be read."""

    @property
    def public(self) -> bytes: ...

    def exchange(self, point: bytes) -> bytes:
        """The x coordinate of key times point, which is on the curve."""
        ...


def sign(half: ClassicalSigner, message: bytes) -> bytes:
    """Have it signed; return DER, as a key in memory would. A wrong one is never returned."""
    digest = sha256(message)
    answer = half.sign(digest)
    r, s = int.from_bytes(answer[:32], "big"), int.from_bytes(answer[32:], "big")
    signature = encode_dss_signature(r, s)
    try:
        prehashed = ec.ECDSA(Prehashed(hashes.SHA256()))
        public_key(half.public).verify(signature, digest, prehashed)
    except (InvalidSignature, ValueError):
        raise TrustError(f"{_WRONG}: its signature is not good", hint=_HINT) from None
    return signature


def exchange(half: ClassicalAgreement, point: bytes) -> bytes:
    """Agree with the owner of `point`, which comes from outside; ValueError if it is none.

    Checked here although tokens should: one that multiplies a point of another, weak curve
    gives its key away to whoever sends a few of them.
    """
    public_key(point)
    answer = half.exchange(point)
    if len(answer) != SECRET_BYTES:
        raise TrustError(f"{_WRONG}: {len(answer)} bytes instead of 32", hint=_HINT)
    return answer


def check_signer(half: ClassicalSigner) -> None:
    """Raise TrustError unless it signs with the key that `half.public` is of."""
    sign(half, b"counterseal/1 does this token hold the key")


def check_agreement(
    half: ClassicalAgreement, *, answered: tuple[bytes, bytes] = (b"", b"")
) -> None:
    """Raise TrustError unless it agrees with the key that `half.public` is of.

    `answered` is an earlier (point, answer): the same question must have the same answer.
    """
    own = ec.generate_private_key(ec.SECP256R1())
    expected = own.exchange(ec.ECDH(), public_key(half.public))
    good = equal(exchange(half, point_of(own.public_key())), expected)
    point, answer = answered
    if point and not equal(exchange(half, point), answer):
        good = False
    if not good:
        raise TrustError(f"{_WRONG}: it does not agree on the same secret", hint=_HINT)


def fresh_point() -> bytes:
    """A point of which nobody knows the logarithm any more."""
    return point_of(ec.generate_private_key(ec.SECP256R1()).public_key())


def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """Raise ValueError unless `point` is on the curve."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def point_of(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
