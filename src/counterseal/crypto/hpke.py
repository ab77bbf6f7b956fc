"""The RFC 9180 key schedule, base mode, single shot, and the KEM 0x0050 (P-256 + ML-KEM-768).

`cryptography` brings HPKE with X-Wing but not the P-256 hybrid, and cannot use a private key
that lives in a token. This is the missing part: draft-ietf-hpke-pq, checked in
tests/vectors against the draft's vectors and against `cryptography`'s own X-Wing.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

__all__ = ["P256_MLKEM768", "combine", "schedule"]

P256_MLKEM768: Final = 0x0050
_COMBINER_LABEL: Final = b"MLKEM768-P256"

# KDF id -> hash (RFC 9180, table 3); AEAD id -> key bytes (table 5)
_HASHES: Final = {1: hashes.SHA256(), 2: hashes.SHA384(), 3: hashes.SHA512()}
_AEAD_KEY_BYTES: Final = {1: 16, 2: 32, 3: 32}


def combine(pq_secret: bytes, ecdh_secret: bytes, ecdh_ct: bytes, ecdh_public: bytes) -> bytes:
    """Join both secrets; the result is safe while either scheme is (hybrid-kems section 4)."""
    return hashlib.sha3_256(
        pq_secret + ecdh_secret + ecdh_ct + ecdh_public + _COMBINER_LABEL
    ).digest()


def schedule(
    shared_secret: bytes, info: bytes, *, kem: int, kdf: int, aead: int
) -> tuple[bytes, bytes]:
    """Return (key, nonce) of the first and only message in base mode (RFC 9180 section 5.1)."""
    suite = b"HPKE" + b"".join(part.to_bytes(2, "big") for part in (kem, kdf, aead))
    algorithm = _HASHES[kdf]

    def extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return HKDF.extract(algorithm, salt or None, b"HPKE-v1" + suite + label + ikm)

    def expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return HKDFExpand(algorithm, length, labeled).derive(secret)

    mode_base = b"\0"
    context = mode_base + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared_secret, b"secret", b"")
    return (
        expand(secret, b"key", context, _AEAD_KEY_BYTES[aead]),
        expand(secret, b"base_nonce", context, 12),
    )
