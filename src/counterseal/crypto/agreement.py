"""Seal a short secret to a hybrid public key (SPEC 2.3). Who sent it is signed elsewhere.

X25519 + ML-KEM-768 is X-Wing (HPKE KEM 0x647A); P-256 + ML-KEM-768 (0x0050) is for keys
whose classical half lives in a token. Both with HKDF-SHA-512 and AES-256-GCM. The sealed
secret stays secret while either half of the KEM holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke as engine
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterseal.crypto import hpke, p256
from counterseal.errors import BadCiphertext, FormatError

if TYPE_CHECKING:
    from counterseal.crypto.p256 import ClassicalAgreement

__all__ = ["AgreementKey", "AgreementSuite", "Opener", "SealKey"]

MLKEM768_PUBLIC_BYTES: Final = 1184  # FIPS 203, table 3
MLKEM768_CIPHERTEXT_BYTES: Final = 1088
MLKEM_SEED_BYTES: Final = 64
TAG_BYTES: Final = 16
_HKDF_SHA512: Final = 3
_AES_256_GCM: Final = 2
_SUITE: Final = engine.Suite(
    engine.KEM.MLKEM768_X25519, engine.KDF.HKDF_SHA512, engine.AEAD.AES_256_GCM
)


class AgreementSuite(StrEnum):
    X25519 = "x25519+mlkem768"
    P256 = "p256+mlkem768"

    @property
    def classical_bytes(self) -> int:
        return 32 if self is AgreementSuite.X25519 else 65

    def sealed_bytes(self, secret: int) -> int:
        """Length of what `SealKey.seal` makes of `secret` bytes."""
        return MLKEM768_CIPHERTEXT_BYTES + self.classical_bytes + secret + TAG_BYTES


class Opener(Protocol):
    """What can open: a key in memory or a token that keeps its half to itself."""

    @property
    def public(self) -> SealKey: ...

    def open(self, sealed: bytes, *, info: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SealKey:
    """The public halves, as they stand in a card or a prekey bundle."""

    suite: AgreementSuite
    classical: bytes
    pq: bytes

    def __post_init__(self) -> None:
        if len(self.classical) != self.suite.classical_bytes or (
            len(self.pq) != MLKEM768_PUBLIC_BYTES
        ):
            raise FormatError("a public agreement key has the wrong length")

    def seal(self, secret: bytes, *, info: bytes) -> bytes:
        """Seal `secret` for the owner of this key; opening needs the same `info`.

        Raises FormatError if the public key is not one (off the curve, out of range).
        """
        try:
            if self.suite is AgreementSuite.X25519:
                public = engine.MLKEM768X25519PublicKey(
                    mlkem.MLKEM768PublicKey.from_public_bytes(self.pq),
                    x25519.X25519PublicKey.from_public_bytes(self.classical),
                )
                return _SUITE.encrypt(secret, public, info=info)
            return self._seal_p256(secret, info)
        except ValueError as error:
            raise FormatError("a public agreement key is not valid") from error

    def _seal_p256(self, secret: bytes, info: bytes) -> bytes:
        theirs = p256.public_key(self.classical)
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        pq_secret, pq_ct = mlkem.MLKEM768PublicKey.from_public_bytes(self.pq).encapsulate()
        ecdh_ct = p256.point_of(ephemeral.public_key())
        shared = hpke.combine(
            pq_secret, ephemeral.exchange(ec.ECDH(), theirs), ecdh_ct, self.classical
        )
        return pq_ct + ecdh_ct + _p256_aead(shared, info, encrypt=secret)


class AgreementKey:
    """Both private halves in memory, or the P-256 one in a token.

    Above `trust` only `open` and `public` are used.
    """

    __slots__ = ("_classical", "_pq", "public")

    public: SealKey

    def __init__(
        self, suite: AgreementSuite, classical: bytes | ClassicalAgreement, pq: bytes
    ) -> None:
        """From the X25519 key or P-256 scalar (32 bytes) and the FIPS 203 seed (64 bytes)."""
        self._pq = mlkem.MLKEM768PrivateKey.from_seed_bytes(pq)
        self._classical: x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | ClassicalAgreement
        if not isinstance(classical, bytes):
            self._classical, public = classical, classical.public
        elif suite is AgreementSuite.X25519:
            self._classical = x25519.X25519PrivateKey.from_private_bytes(classical)
            public = self._classical.public_key().public_bytes_raw()
        else:
            scalar = int.from_bytes(classical, "big")
            self._classical = ec.derive_private_key(scalar, ec.SECP256R1())
            public = p256.point_of(self._classical.public_key())
        self.public = SealKey(suite, public, self._pq.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, suite: AgreementSuite = AgreementSuite.X25519) -> AgreementKey:
        if suite is AgreementSuite.X25519:
            classical = x25519.X25519PrivateKey.generate().private_bytes_raw()
        else:
            scalar = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
            classical = scalar.to_bytes(32, "big")
        return cls(suite, classical, mlkem.MLKEM768PrivateKey.generate().private_bytes_raw())

    def open(self, sealed: bytes, *, info: bytes) -> bytes:
        """Raise BadCiphertext for another's, a changed, or another context's message."""
        try:
            if isinstance(self._classical, x25519.X25519PrivateKey):
                key = engine.MLKEM768X25519PrivateKey(self._pq, self._classical)
                return _SUITE.decrypt(sealed, key, info=info)
            return self._open_p256(self._classical, sealed, info)
        except (InvalidTag, ValueError) as error:
            raise BadCiphertext("this was not sealed for this key, or was changed") from error

    def _open_p256(
        self, key: ec.EllipticCurvePrivateKey | ClassicalAgreement, sealed: bytes, info: bytes
    ) -> bytes:
        split = MLKEM768_CIPHERTEXT_BYTES + self.public.suite.classical_bytes
        pq_ct, ecdh_ct = sealed[:MLKEM768_CIPHERTEXT_BYTES], sealed[MLKEM768_CIPHERTEXT_BYTES:split]
        pq_secret = self._pq.decapsulate(pq_ct)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            ecdh_secret = key.exchange(ec.ECDH(), p256.public_key(ecdh_ct))
        else:
            ecdh_secret = p256.exchange(key, ecdh_ct)
        shared = hpke.combine(pq_secret, ecdh_secret, ecdh_ct, self.public.classical)
        try:
            return _p256_aead(shared, info, decrypt=sealed[split:])
        except InvalidTag:
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                # Whose fault? What the sender spoiled is thrown away, so a token that
                # miscounts must not look like a sender.
                p256.check_agreement(key, answered=(ecdh_ct, ecdh_secret))
            raise

    @property
    def outside(self) -> ClassicalAgreement | None:
        """The half that lives in a token, if it does."""
        if isinstance(self._classical, x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey):
            return None
        return self._classical

    def seeds(self) -> tuple[bytes, bytes]:
        """The private halves, for a keystore to encrypt; nothing else may call this."""
        if isinstance(self._classical, x25519.X25519PrivateKey):
            classical = self._classical.private_bytes_raw()
        elif isinstance(self._classical, ec.EllipticCurvePrivateKey):
            classical = self._classical.private_numbers().private_value.to_bytes(32, "big")
        else:
            raise TypeError("the classical half is in a token")
        return classical, self.pq_seed()

    def pq_seed(self) -> bytes:
        """The post-quantum private half, for a keystore; nothing else may call this."""
        return self._pq.private_bytes_raw()

    def __repr__(self) -> str:
        return f"<AgreementKey {self.public.suite}>"


def _p256_aead(
    shared: bytes, info: bytes, *, encrypt: bytes | None = None, decrypt: bytes = b""
) -> bytes:
    key, nonce = hpke.schedule(
        shared, info, kem=hpke.P256_MLKEM768, kdf=_HKDF_SHA512, aead=_AES_256_GCM
    )
    if encrypt is not None:
        return AESGCM(key).encrypt(nonce, encrypt, None)
    return AESGCM(key).decrypt(nonce, decrypt, None)
