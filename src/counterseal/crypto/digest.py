"""Digests: SHA-256 for what others must be able to check, BLAKE3 for leaves at memory speed."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import blake3

__all__ = [
    "DIGEST_BYTES",
    "LEAF_BYTES",
    "equal",
    "leaf_digest",
    "leaf_stream",
    "sha256",
    "sha256_stream",
]

Buffer = bytes | bytearray | memoryview

DIGEST_BYTES: Final = 32
LEAF_BYTES: Final = 1 << 20  # SPEC 3.6: 64 chunks; the unit of hashing, of reading, of a thread


def sha256(*parts: Buffer) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def sha256_stream() -> hashlib._Hash:
    """An incremental SHA-256; `update` releases the GIL for buffers above 2 KiB."""
    return hashlib.sha256()


def leaf_digest(leaf: Buffer) -> bytes:
    """BLAKE3 of one leaf, 32 bytes. SHA-256 would cost six times the encryption itself."""
    return blake3.blake3(leaf).digest()


def leaf_stream() -> blake3.blake3:
    """An incremental BLAKE3; `update` releases the GIL for large buffers."""
    return blake3.blake3()


def equal(left: bytes, right: bytes) -> bool:
    """Compare in time independent of where the first difference is."""
    return hmac.compare_digest(left, right)
