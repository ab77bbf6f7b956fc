"""Any leaf of a chunked-encryption message; the vectors stand in tests/vectors."""

from __future__ import annotations

import pytest

from counterseal.crypto.chunked import (
    PREFIX_BYTES,
    SEALED_LEAF_BYTES,
    ChunkedMessage,
    leaf_count,
    sealed_bytes,
)
from counterseal.crypto.digest import LEAF_BYTES
from counterseal.errors import BadCiphertext

KEY = bytes(range(32))
SIZES = [0, 1, 16383, 16384, 16385, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 2 * LEAF_BYTES]


def seal(message: ChunkedMessage, plain: bytes) -> bytearray:
    sealed = bytearray(sealed_bytes(len(plain)))
    sealed[:PREFIX_BYTES] = message.prefix
    for leaf in range(leaf_count(len(plain))):
        start, length, sealed_start, sealed_length = message.leaf_range(leaf)
        message.seal_leaf(
            leaf,
            memoryview(plain)[start : start + length],
            memoryview(sealed)[sealed_start : sealed_start + sealed_length],
        )
    return sealed


def open_(message: ChunkedMessage, sealed: bytes | bytearray) -> bytes:
    plain = bytearray(message.size)
    for leaf in reversed(range(leaf_count(message.size))):  # any order
        start, length, sealed_start, sealed_length = message.leaf_range(leaf)
        message.open_leaf(
            leaf,
            memoryview(sealed)[sealed_start : sealed_start + sealed_length],
            memoryview(plain)[start : start + length],
        )
    return bytes(plain)


@pytest.mark.parametrize("size", SIZES)
def test_round_trip_and_geometry(size: int) -> None:
    plain = (b"counterseal" * (size // 11 + 1))[:size]
    message = ChunkedMessage(KEY, context=b"c", size=size)
    sealed = seal(message, plain)
    ends = [sum(message.leaf_range(leaf)[2:]) for leaf in range(leaf_count(size))]
    assert ends[-1] == sealed_bytes(size) == len(sealed)
    assert ends[:-1] == [PREFIX_BYTES + SEALED_LEAF_BYTES * n for n in range(1, len(ends))]
    prefix = bytes(sealed[:PREFIX_BYTES])
    again = ChunkedMessage.opened(KEY, context=b"c", size=size, prefix=prefix)
    assert open_(again, sealed) == plain


@pytest.mark.parametrize(
    ("key", "context"), [(bytes(32), b"c"), (KEY, b"d"), (KEY, b""), (KEY, b"c\0")]
)
def test_the_commitment_refuses_another_key_or_context(key: bytes, context: bytes) -> None:
    prefix = ChunkedMessage(KEY, context=b"c", size=0).prefix
    with pytest.raises(BadCiphertext):
        ChunkedMessage.opened(key, context=context, size=0, prefix=prefix)


@pytest.mark.parametrize("length", [0, 1, 23, 24, 25, 55, 57])
def test_a_prefix_of_another_length_is_refused(length: int) -> None:
    prefix = (ChunkedMessage(KEY, context=b"c", size=0).prefix + b"\0")[:length]
    with pytest.raises(BadCiphertext):
        ChunkedMessage.opened(KEY, context=b"c", size=0, prefix=prefix)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_a_programmers_mistake(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        ChunkedMessage(bytes(length), context=b"", size=0)


def test_a_bad_chunk_wipes_what_was_decrypted_before_it() -> None:
    plain = b"secret weights " * 4000
    message = ChunkedMessage(KEY, context=b"", size=len(plain))
    sealed = seal(message, plain)
    sealed[-1] ^= 1  # the tag of the last chunk; the ones before it are good
    out = bytearray(len(plain))
    with pytest.raises(BadCiphertext):
        message.open_leaf(0, memoryview(sealed)[PREFIX_BYTES:], memoryview(out))
    assert out == bytes(len(plain))


def test_leaves_cannot_trade_places() -> None:
    size = 2 * LEAF_BYTES + 5
    message = ChunkedMessage(KEY, context=b"", size=size)
    sealed = seal(message, bytes(size))
    first = memoryview(sealed)[PREFIX_BYTES : PREFIX_BYTES + SEALED_LEAF_BYTES]
    with pytest.raises(BadCiphertext):
        message.open_leaf(1, first, memoryview(bytearray(LEAF_BYTES)))


@pytest.mark.parametrize("change", [-1, 1, -17, 16])
def test_a_leaf_that_was_cut_or_grew_is_refused(change: int) -> None:
    message = ChunkedMessage(KEY, context=b"", size=20_000)
    sealed = bytes(seal(message, bytes(20_000))[PREFIX_BYTES:])
    wrong = sealed[:change] if change < 0 else sealed + bytes(change)
    with pytest.raises(BadCiphertext):
        message.open_leaf(0, memoryview(wrong), memoryview(bytearray(20_000)))


def test_buffers_of_another_length_are_a_programmers_mistake() -> None:
    message = ChunkedMessage(KEY, context=b"", size=100)
    sealed = memoryview(bytearray(116))
    with pytest.raises(ValueError, match="buffer"):
        message.seal_leaf(0, memoryview(bytes(99)), sealed)
    with pytest.raises(ValueError, match="buffer"):
        message.seal_leaf(0, memoryview(bytes(100)), sealed[:-1])
    with pytest.raises(ValueError, match="buffer"):
        message.open_leaf(0, sealed, memoryview(bytearray(101)))


@pytest.mark.parametrize("leaf", [-1, 1])
def test_there_is_no_leaf_outside_the_message(leaf: int) -> None:
    with pytest.raises(ValueError, match="leaf"):
        ChunkedMessage(KEY, context=b"", size=5).leaf_range(leaf)


def test_two_messages_with_one_key_never_share_a_salt() -> None:
    salts = {ChunkedMessage(KEY, context=b"", size=0).prefix[:24] for _ in range(50)}
    assert len(salts) == 50


@pytest.mark.parametrize("size", [0, 5, LEAF_BYTES, LEAF_BYTES + 5])
def test_the_whole_message_at_once(size: int) -> None:
    plain = (b"counterseal" * (size // 11 + 1))[:size]
    message = ChunkedMessage(KEY, context=b"c", size=size)
    sealed = message.seal_whole(plain)
    assert bytes(seal(message, plain)) == sealed
    assert message.open_whole(sealed) == plain
    for wrong in (sealed[:-1], sealed + b"\0", sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(BadCiphertext):
            message.open_whole(wrong)
    with pytest.raises(ValueError, match="another size"):
        message.seal_whole(plain + b"x")
