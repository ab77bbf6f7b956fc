"""A signature is two signatures, classical and post-quantum, and both must verify (SPEC 2.2).

Two suites: Ed25519 + ML-DSA-65, and P-256 + ML-DSA-65 for keys whose classical half lives
in a hardware token. The suite is a property of the key, never negotiated: a verifier uses
the suite of the key it has pinned. Message separation is the caller's (DSSE payload type).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from counterseal.crypto import p256
from counterseal.crypto.digest import sha256
from counterseal.errors import BadSignature, FormatError

if TYPE_CHECKING:
    from counterseal.crypto.p256 import ClassicalSigner

__all__ = ["Signature", "Signer", "SigningKey", "SigningSuite", "VerifyKey"]

MLDSA65_PUBLIC_BYTES: Final = 1952  # FIPS 204, table 2
MLDSA65_SIGNATURE_BYTES: Final = 3309
SEED_BYTES: Final = 32
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class SigningSuite(StrEnum):
    ED25519 = "ed25519+mldsa65"
    P256 = "p256+mldsa65"


@dataclass(frozen=True, slots=True)
class Signature:
    """Both halves. P-256 halves are 64 bytes r||s with s in the lower half of the range."""

    classical: bytes
    pq: bytes


class Signer(Protocol):
    """What can sign: a key in memory or a token that keeps its half to itself."""

    @property
    def public(self) -> VerifyKey: ...

    def sign(self, message: bytes) -> Signature: ...


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """The public halves, as they stand in a card."""

    suite: SigningSuite
    classical: bytes
    pq: bytes

    def __post_init__(self) -> None:
        expected = 32 if self.suite is SigningSuite.ED25519 else 65
        if len(self.classical) != expected or len(self.pq) != MLDSA65_PUBLIC_BYTES:
            raise FormatError("a public signing key has the wrong length")

    @property
    def key_ids(self) -> tuple[str, str]:
        """The DSSE keyids of the two halves: SHA-256 of the raw public key, in hex."""
        return sha256(self.classical).hex(), sha256(self.pq).hex()

    def verify(self, message: bytes, signature: Signature) -> None:
        """Return only if both halves are good; otherwise raise BadSignature.

        Both are always computed, so timing does not tell which one failed.
        """
        classical = self._classical_is_good(message, signature.classical)
        pq = self._pq_is_good(message, signature.pq)
        if not (classical and pq):
            raise BadSignature("the signature does not match")

    def _classical_is_good(self, message: bytes, signature: bytes) -> bool:
        try:
            if self.suite is SigningSuite.ED25519:
                ed25519.Ed25519PublicKey.from_public_bytes(self.classical).verify(
                    signature, message
                )
            else:
                p256.public_key(self.classical).verify(
                    _der(signature), message, ec.ECDSA(hashes.SHA256())
                )
        except (InvalidSignature, ValueError):  # ValueError: not a point on the curve
            return False
        return True

    def _pq_is_good(self, message: bytes, signature: bytes) -> bool:
        try:
            mldsa.MLDSA65PublicKey.from_public_bytes(self.pq).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class SigningKey:
    """Both private halves in memory, or the P-256 one in a token.

    Above `trust` only `sign` and `public` are used.
    """

    __slots__ = ("_classical", "_pq", "public")

    public: VerifyKey

    def __init__(self, suite: SigningSuite, classical: bytes | ClassicalSigner, pq: bytes) -> None:
        """From 32-byte seeds: RFC 8032 seed or P-256 scalar, and the FIPS 204 seed."""
        self._classical: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | ClassicalSigner
        if not isinstance(classical, bytes):
            self._classical, public = classical, classical.public
        elif suite is SigningSuite.ED25519:
            self._classical = ed25519.Ed25519PrivateKey.from_private_bytes(classical)
            public = self._classical.public_key().public_bytes_raw()
        else:
            scalar = int.from_bytes(classical, "big")
            self._classical = ec.derive_private_key(scalar, ec.SECP256R1())
            public = p256.point_of(self._classical.public_key())
        self._pq = mldsa.MLDSA65PrivateKey.from_seed_bytes(pq)
        self.public = VerifyKey(suite, public, self._pq.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, suite: SigningSuite = SigningSuite.ED25519) -> SigningKey:
        if suite is SigningSuite.ED25519:
            classical = ed25519.Ed25519PrivateKey.generate().private_bytes_raw()
        else:
            scalar = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
            classical = scalar.to_bytes(SEED_BYTES, "big")
        return cls(suite, classical, mldsa.MLDSA65PrivateKey.generate().private_bytes_raw())

    def sign(self, message: bytes) -> Signature:
        if isinstance(self._classical, ed25519.Ed25519PrivateKey):
            classical = self._classical.sign(message)
        elif isinstance(self._classical, ec.EllipticCurvePrivateKey):
            classical = _raw_low_s(self._classical.sign(message, ec.ECDSA(hashes.SHA256())))
        else:
            classical = _raw_low_s(p256.sign(self._classical, message))
        return Signature(classical, self._pq.sign(message))

    @property
    def outside(self) -> ClassicalSigner | None:
        """The half that lives in a token, if it does."""
        if isinstance(self._classical, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
            return None
        return self._classical

    def seeds(self) -> tuple[bytes, bytes]:
        """The private halves, for a keystore to encrypt; nothing else may call this."""
        if isinstance(self._classical, ed25519.Ed25519PrivateKey):
            classical = self._classical.private_bytes_raw()
        elif isinstance(self._classical, ec.EllipticCurvePrivateKey):
            scalar = self._classical.private_numbers().private_value
            classical = scalar.to_bytes(SEED_BYTES, "big")
        else:
            raise TypeError("the classical half is in a token")
        return classical, self.pq_seed()

    def pq_seed(self) -> bytes:
        """The post-quantum private half, for a keystore; nothing else may call this."""
        return self._pq.private_bytes_raw()

    def __repr__(self) -> str:
        return f"<SigningKey {self.public.suite}>"


def _raw_low_s(der: bytes) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + min(s, P256_ORDER - s).to_bytes(32, "big")


def _der(raw: bytes) -> bytes:
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    # (r, s) and (r, order - s) are both valid ECDSA signatures: accepting one form only
    # keeps a relay from making a second, different package out of a signed one.
    if len(raw) != 64 or s > P256_ORDER // 2:
        raise InvalidSignature
    return encode_dss_signature(r, s)
