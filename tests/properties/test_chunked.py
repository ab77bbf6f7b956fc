"""The random-access driver and `cryptography.cobblestone` write and read the same bytes."""

from __future__ import annotations

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from hypothesis import example, given, settings
from hypothesis import strategies as st

from counterseal.crypto.chunked import (
    PREFIX_BYTES,
    SEALED_LEAF_BYTES,
    ChunkedMessage,
    leaf_count,
    sealed_bytes,
)
from counterseal.crypto.digest import LEAF_BYTES
from counterseal.errors import BadCiphertext

CHUNK = 16 * 1024
PATTERN = bytes(range(251)) * (3 * LEAF_BYTES // 251 + 1)

# around every edge of chunk and leaf, and anywhere
sizes = st.one_of(
    st.builds(lambda n, d: max(0, n * CHUNK + d), st.integers(0, 4), st.integers(-1, 1)),
    st.builds(lambda n, d: max(0, n * LEAF_BYTES + d), st.integers(0, 2), st.integers(-17, 17)),
    st.integers(0, 2 * LEAF_BYTES + CHUNK),
)
keys = st.binary(min_size=32, max_size=32)
contexts = st.binary(max_size=40)


def cut(message: ChunkedMessage, leaf: int) -> tuple[slice, slice]:
    start, length, sealed, sealed_length = message.leaf_range(leaf)
    return slice(start, start + length), slice(sealed, sealed + sealed_length)


@settings(max_examples=40, deadline=None)
@given(sizes, keys, contexts, st.randoms(use_true_random=False))
@example(0, bytes(32), b"", None)
@example(LEAF_BYTES, bytes(32), b"", None)
@example(2 * LEAF_BYTES, bytes(32), b"c", None)
def test_what_we_seal_in_any_order_they_open(
    size: int, key: bytes, context: bytes, order: object
) -> None:
    plain = memoryview(PATTERN)[:size]
    message = ChunkedMessage(key, context=context, size=size)
    sealed = bytearray(sealed_bytes(size))
    sealed[:PREFIX_BYTES] = message.prefix
    leaves = list(range(leaf_count(size)))
    if order is not None:
        order.shuffle(leaves)  # type: ignore[attr-defined]
    for leaf in leaves:
        from_plain, into_sealed = cut(message, leaf)
        message.seal_leaf(leaf, plain[from_plain], memoryview(sealed)[into_sealed])
    decryptor = Cobblestone256Decryptor(key, context)
    assert decryptor.update(bytes(sealed)) + decryptor.finalize() == plain


@settings(max_examples=40, deadline=None)
@given(sizes, keys, contexts, st.data())
def test_what_they_seal_we_open_leaf_by_leaf(
    size: int, key: bytes, context: bytes, data: st.DataObject
) -> None:
    plain = PATTERN[:size]
    encryptor = Cobblestone256Encryptor(key, context)
    sealed = encryptor.update(plain) + encryptor.finalize()
    assert len(sealed) == sealed_bytes(size)
    prefix = sealed[:PREFIX_BYTES]
    message = ChunkedMessage.opened(key, context=context, size=size, prefix=prefix)
    for leaf in data.draw(st.permutations(range(leaf_count(size)))):
        into_plain, from_sealed = cut(message, leaf)
        out = bytearray(into_plain.stop - into_plain.start)
        message.open_leaf(leaf, memoryview(sealed)[from_sealed], memoryview(out))
        assert out == plain[into_plain]


@given(st.integers(0, 1 << 42))
def test_the_leaves_tile_the_message(size: int) -> None:
    message = ChunkedMessage(bytes(32), context=b"", size=size)
    last = leaf_count(size) - 1
    middle = last // 2
    for leaf in {0, middle, last}:
        start, length, sealed, sealed_length = message.leaf_range(leaf)
        assert start == leaf * LEAF_BYTES
        assert sealed == PREFIX_BYTES + leaf * SEALED_LEAF_BYTES
        if leaf < last:
            assert (length, sealed_length) == (LEAF_BYTES, SEALED_LEAF_BYTES)
        else:
            assert start + length == size
            assert sealed + sealed_length == sealed_bytes(size)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3 * CHUNK), st.data())
def test_a_changed_byte_anywhere_is_refused_and_leaves_nothing(
    size: int, data: st.DataObject
) -> None:
    message = ChunkedMessage(bytes(32), context=b"c", size=size)
    sealed = bytearray(sealed_bytes(size))
    sealed[:PREFIX_BYTES] = message.prefix
    from_plain, into_sealed = cut(message, 0)
    message.seal_leaf(0, memoryview(PATTERN)[from_plain], memoryview(sealed)[into_sealed])
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    out = bytearray(size)
    try:
        again = ChunkedMessage.opened(
            bytes(32), context=b"c", size=size, prefix=bytes(sealed[:PREFIX_BYTES])
        )
        again.open_leaf(0, memoryview(sealed)[into_sealed], memoryview(out))
    except BadCiphertext:
        assert out == bytes(size)
    else:
        raise AssertionError("a changed byte was accepted")
