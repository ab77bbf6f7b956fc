"""Wrap a key under one that is used exactly once, and store secrets under one that lasts."""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterseal.crypto.derive import derive
from counterseal.errors import BadCiphertext

__all__ = ["WRAPPED_KEY_BYTES", "protect", "unprotect", "unwrap_key", "wrap_key"]

WRAPPED_KEY_BYTES: Final = 48
_SALT_BYTES: Final = 32


def wrap_key(key: bytes, *, under: bytes) -> bytes:
    # Fixed nonce: `under` is derived from fresh shares and wraps exactly this key (SPEC 3.5).
    return AESGCM(under).encrypt(bytes(12), key, None)


def unwrap_key(wrapped: bytes, *, under: bytes) -> bytes:
    """Raise BadCiphertext unless `wrapped` is exactly a 32-byte key wrapped under `under`."""
    try:
        if len(wrapped) == WRAPPED_KEY_BYTES:  # a sender could wrap a key of another length
            return AESGCM(under).decrypt(bytes(12), wrapped, None)
    except InvalidTag:
        pass
    raise BadCiphertext("this was not sealed for this key, or was changed")


def protect(secret: bytes, *, key: bytes, label: str) -> bytes:
    """Encrypt a secret for our own store; a fresh key per call, so nonces cannot repeat."""
    salt = os.urandom(_SALT_BYTES)
    return salt + AESGCM(derive(key, label, salt)).encrypt(bytes(12), secret, None)


def unprotect(protected: bytes, *, key: bytes, label: str) -> bytes:
    salt, ciphertext = protected[:_SALT_BYTES], protected[_SALT_BYTES:]
    try:
        return AESGCM(derive(key, label, salt)).decrypt(bytes(12), ciphertext, None)
    except (InvalidTag, ValueError):
        raise BadCiphertext("a stored secret was changed or belongs to another key") from None
