"""Signatures of checkpoints: the raw Ed25519 and ML-DSA-44 of signed notes (c2sp.org/signed-note).

Other tools must be able to read these notes, so a note has one signature for each algorithm
and not the pair of `signing`. That both are there is what a reader of ours asks for (SPEC 17.3).
Message separation is in the notes' own formats.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from counterseal.errors import BadSignature

__all__ = [
    "ED25519_PUBLIC_BYTES",
    "ED25519_SIGNATURE_BYTES",
    "MLDSA44_PUBLIC_BYTES",
    "MLDSA44_SIGNATURE_BYTES",
    "SEED_BYTES",
    "Ed25519Key",
    "MlDsa44Key",
    "verify_ed25519",
    "verify_mldsa44",
]

SEED_BYTES: Final = 32
ED25519_PUBLIC_BYTES: Final = 32  # RFC 8032
ED25519_SIGNATURE_BYTES: Final = 64
MLDSA44_PUBLIC_BYTES: Final = 1312  # FIPS 204, table 2
MLDSA44_SIGNATURE_BYTES: Final = 2420


class Ed25519Key:
    """A private key from its 32-byte seed."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def __repr__(self) -> str:
        return "<Ed25519Key>"


class MlDsa44Key:
    """A private key from its 32-byte seed; the context string is empty."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = mldsa.MLDSA44PrivateKey.from_seed_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def __repr__(self) -> str:
        return "<MlDsa44Key>"


def verify_ed25519(public: bytes, signature: bytes, message: bytes) -> None:
    """Return only if the signature is good; otherwise raise BadSignature."""
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise BadSignature("the Ed25519 signature does not match") from None


def verify_mldsa44(public: bytes, signature: bytes, message: bytes) -> None:
    """Return only if the signature is good; otherwise raise BadSignature."""
    try:
        mldsa.MLDSA44PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise BadSignature("the ML-DSA-44 signature does not match") from None
