"""P-256 signatures for the model statement: what OpenSSF model-signing can verify (SPEC 3.7).

A key of its own, used for nothing else. The statement carries the owner's hybrid signature
beside this one; P-256 is there for other people's tools, not for our own trust.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from counterseal.crypto import p256
from counterseal.errors import BadSignature, FormatError

if TYPE_CHECKING:
    from counterseal.crypto.p256 import ClassicalSigner

__all__ = ["StatementKey", "public_pem", "verify"]


class StatementKey:
    """The private P-256 key of model statements, in memory or in a token."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes | ClassicalSigner) -> None:
        """From the scalar, 32 bytes, or from what holds it."""
        self._key: ec.EllipticCurvePrivateKey | ClassicalSigner
        if isinstance(key, bytes):
            self._key = ec.derive_private_key(int.from_bytes(key, "big"), ec.SECP256R1())
        else:
            self._key = key

    @classmethod
    def generate(cls) -> StatementKey:
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key.private_numbers().private_value.to_bytes(32, "big"))

    @property
    def public(self) -> bytes:
        """The uncompressed point, 65 bytes."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return p256.point_of(self._key.public_key())
        return self._key.public

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256, in DER."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(message, ec.ECDSA(hashes.SHA256()))
        return p256.sign(self._key, message)

    @property
    def outside(self) -> ClassicalSigner | None:
        """What holds the key, if it is a token."""
        return None if isinstance(self._key, ec.EllipticCurvePrivateKey) else self._key

    def scalar(self) -> bytes:
        """The private scalar, for a keystore to encrypt; nothing else may call this."""
        if not isinstance(self._key, ec.EllipticCurvePrivateKey):
            raise TypeError("the statement key is in a token")
        return self._key.private_numbers().private_value.to_bytes(32, "big")

    def __repr__(self) -> str:
        return "<StatementKey p256>"


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raise BadSignature unless `signature` (DER) is good."""
    try:
        p256.public_key(public).verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise BadSignature("the model statement's signature does not match") from error


def public_pem(public: bytes) -> bytes:
    """SubjectPublicKeyInfo in PEM: what `model_signing verify key --public-key` reads.

    Raises FormatError if `public`, which comes from a card, is not a point of the curve.
    """
    try:
        key = p256.public_key(public)
    except ValueError as error:
        raise FormatError("the statement key is not valid") from error
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
