"""Wrap a key once; protect secrets under a key that lasts."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterseal.crypto.wrap import (
    WRAPPED_KEY_BYTES,
    protect,
    unprotect,
    unwrap_key,
    wrap_key,
)
from counterseal.errors import BadCiphertext

KEY = bytes(range(32))


def test_wrap_round_trip() -> None:
    wrapped = wrap_key(KEY, under=bytes(32))
    assert len(wrapped) == WRAPPED_KEY_BYTES
    assert unwrap_key(wrapped, under=bytes(32)) == KEY


def test_unwrap_refuses_another_key_and_a_changed_byte() -> None:
    wrapped = bytearray(wrap_key(KEY, under=bytes(32)))
    with pytest.raises(BadCiphertext):
        unwrap_key(bytes(wrapped), under=KEY)
    wrapped[3] ^= 1
    with pytest.raises(BadCiphertext):
        unwrap_key(bytes(wrapped), under=bytes(32))


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_wrapped_key_of_another_length_is_refused_though_its_tag_is_good(length: int) -> None:
    wrapped = AESGCM(bytes(32)).encrypt(bytes(12), bytes(length), None)
    with pytest.raises(BadCiphertext):
        unwrap_key(wrapped, under=bytes(32))


def test_protect_round_trip_and_fresh_bytes() -> None:
    first, second = (protect(b"secret", key=KEY, label="x") for _ in range(2))
    assert first != second
    assert unprotect(first, key=KEY, label="x") == b"secret"


@pytest.mark.parametrize(("key", "label"), [(bytes(32), "x"), (KEY, "y")])
def test_unprotect_refuses_another_key_or_label(key: bytes, label: str) -> None:
    with pytest.raises(BadCiphertext):
        unprotect(protect(b"secret", key=KEY, label="x"), key=key, label=label)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 47, 48])
def test_unprotect_refuses_what_is_too_short(length: int) -> None:
    with pytest.raises(BadCiphertext):
        unprotect(bytes(length), key=KEY, label="x")
