"""One key, one purpose, one label: HKDF-SHA-512 with unambiguous inputs (SPEC 3.3).

Every derived key names its purpose and everything it is bound to. The parts are
length-prefixed, so that no two different lists of parts give the same bytes.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

__all__ = ["KEY_BYTES", "Deriver", "bind", "derive", "derive_from_shares"]

KEY_BYTES: Final = 32
_PREFIX: Final = b"counterseal/1 "


def bind(label: str, *parts: bytes) -> bytes:
    """Encode a label and the parts it is bound to: injective, and never empty."""
    encoded = [_PREFIX, label.encode("ascii"), b"\0"]
    for part in parts:
        encoded += [len(part).to_bytes(4, "big"), part]
    return b"".join(encoded)


def derive(key: bytes, label: str, *parts: bytes, length: int = KEY_BYTES) -> bytes:
    """Derive a key from `key`, which must be uniformly random (not a shared secret)."""
    return HKDFExpand(hashes.SHA512(), length, bind(label, *parts)).derive(key)


class Deriver:
    """`derive` for a key of which many others are derived: the same keys, in a third of the time.

    Up to 64 bytes HKDF-Expand is one HMAC (RFC 5869 2.3); its key is taken in once, here.
    """

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = HMAC(key, hashes.SHA512())

    def derive(self, label: str, *parts: bytes) -> bytes:
        block = self._keyed.copy()
        block.update(bind(label, *parts) + b"\x01")
        return block.finalize()[:KEY_BYTES]

    def __repr__(self) -> str:
        return "<Deriver>"


def derive_from_shares(shares: bytes, label: str, *parts: bytes, salt: bytes) -> bytes:
    """Derive a key from several shares; it stays secret as long as one share does."""
    return HKDF(hashes.SHA512(), KEY_BYTES, salt, bind(label, *parts)).derive(shares)
