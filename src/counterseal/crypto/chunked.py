"""Any leaf of a C2SP chunked-encryption message (Cobblestone-256), in any order, on any thread.

    salt 24 | commitment 32 | chunk 0 | chunk 1 | ... | last chunk (always short, maybe empty)

`cryptography.cobblestone` reads and writes the same bytes, but only as one stream; this is
the random-access driver, which needs nothing but HKDF-Expand and AES-GCM. A *leaf* is 64
chunks (1 MiB): what one thread encrypts at a time and what one BLAKE3 leaf digest covers.
Source: c2sp.org/chunked-encryption (v1).
"""

from __future__ import annotations

import os
import threading
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from counterseal.crypto.digest import LEAF_BYTES, equal
from counterseal.errors import BadCiphertext

__all__ = ["PREFIX_BYTES", "SEALED_LEAF_BYTES", "ChunkedMessage", "leaf_count", "sealed_bytes"]

CHUNK_BYTES: Final = 16 * 1024  # "Message chunking"
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
SALT_BYTES: Final = 24
COMMITMENT_BYTES: Final = 32
PREFIX_BYTES: Final = SALT_BYTES + COMMITMENT_BYTES
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES
CHUNKS_PER_LEAF: Final = LEAF_BYTES // CHUNK_BYTES
SEALED_LEAF_BYTES: Final = CHUNKS_PER_LEAF * SEALED_CHUNK_BYTES
_INFO: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
_FAILED: Final = "the payload was changed, cut or belongs to another package"

# One thread at a time does the 64 calls of a leaf, while the others read, hash and write. AES
# takes 0.7 us a chunk, so threads side by side only pass the GIL back and forth: for 1 GiB on
# 2 cores 151 ms with two threads and 242 ms with eight; taking turns 108 and 115 ms.
_TURN: Final = threading.Lock()


def sealed_bytes(size: int) -> int:
    """Length of the message that `size` bytes become."""
    return PREFIX_BYTES + size + TAG_BYTES * (size // CHUNK_BYTES + 1)


def leaf_count(size: int) -> int:
    """Number of sealed leaves. A size that is a multiple of the leaf ends in an empty one."""
    return size // LEAF_BYTES + 1


class ChunkedMessage:
    """Keys and geometry of one message of `size` plaintext bytes; no bytes of it are held."""

    __slots__ = ("_aead", "_nonce", "prefix", "size")

    def __init__(self, key: bytes, *, context: bytes, size: int, salt: bytes | None = None) -> None:
        """`key`: 32 uniformly random bytes. `salt`: only to read; a writer takes a new one."""
        if len(key) != KEY_BYTES:  # HKDF would take any; the standard wants exactly this
            raise ValueError("the key of a chunked message has 32 bytes")
        salt = os.urandom(SALT_BYTES) if salt is None else salt
        length = KEY_BYTES + 12 + COMMITMENT_BYTES
        material = HKDFExpand(hashes.SHA512(), length, _INFO + salt + context).derive(key)
        self._aead = AESGCM(material[:32])
        self._nonce = int.from_bytes(material[32:44], "big")
        self.prefix = salt + material[44:]
        self.size = size

    @classmethod
    def opened(cls, key: bytes, *, context: bytes, size: int, prefix: bytes) -> ChunkedMessage:
        """For a message whose first 56 bytes are `prefix`; the key commitment is checked first."""
        message = cls(key, context=context, size=size, salt=prefix[:SALT_BYTES])
        if not equal(message.prefix, prefix):
            raise BadCiphertext(_FAILED)
        return message

    @property
    def salt(self) -> bytes:
        return self.prefix[:SALT_BYTES]

    def leaf_range(self, leaf: int) -> tuple[int, int, int, int]:
        """(plain offset, plain length, sealed offset, sealed length) of one leaf."""
        if not 0 <= leaf < leaf_count(self.size):
            raise ValueError(f"leaf {leaf} of {leaf_count(self.size)}")
        start = leaf * LEAF_BYTES
        length = min(LEAF_BYTES, self.size - start)
        last = length < LEAF_BYTES
        sealed = length + TAG_BYTES * (length // CHUNK_BYTES + (1 if last else 0))
        return start, length, PREFIX_BYTES + leaf * SEALED_LEAF_BYTES, sealed

    def seal_leaf(self, leaf: int, plain: memoryview, sealed: memoryview) -> None:
        """Encrypt one whole leaf into `sealed`."""
        if (len(plain), len(sealed)) != self._lengths(leaf):
            raise ValueError("the buffers do not have the lengths of this leaf")
        encrypt = self._aead.encrypt_into
        pieces = self._pieces(leaf, plain, sealed)
        with _TURN:
            for nonce, piece, sealed_piece in pieces:
                encrypt(nonce, piece, None, sealed_piece)

    def open_leaf(self, leaf: int, sealed: memoryview, plain: memoryview) -> None:
        """Decrypt one whole leaf into `plain`, or wipe `plain` and raise BadCiphertext.

        `plain` must have the length of the leaf; a `sealed` of another one was cut or grew.
        """
        length, expected = self._lengths(leaf)
        if len(plain) != length:
            raise ValueError("the buffer does not have the length of this leaf")
        if len(sealed) != expected:
            raise BadCiphertext(_FAILED)
        decrypt = self._aead.decrypt_into
        pieces = self._pieces(leaf, plain, sealed)
        try:
            with _TURN:
                for nonce, piece, sealed_piece in pieces:
                    decrypt(nonce, sealed_piece, None, piece)
        except InvalidTag:
            plain[:] = bytes(len(plain))  # what was decrypted before the bad chunk goes too
            raise BadCiphertext(_FAILED) from None

    def _lengths(self, leaf: int) -> tuple[int, int]:
        _, length, _, sealed = self.leaf_range(leaf)
        return length, sealed

    def _pieces(
        self, leaf: int, plain: memoryview, sealed: memoryview
    ) -> list[tuple[bytes, memoryview, memoryview]]:
        """(nonce, plaintext, ciphertext) of each chunk of a leaf, made before the turn begins.

        Only the message's last leaf ends in a short chunk, which may be empty.
        """
        first = leaf * CHUNKS_PER_LEAF
        return [
            (
                (self._nonce ^ (first + i)).to_bytes(12, "big"),
                plain[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES],
                sealed[i * SEALED_CHUNK_BYTES : (i + 1) * SEALED_CHUNK_BYTES],
            )
            for i in range(-(-len(sealed) // SEALED_CHUNK_BYTES))
        ]

    def seal_whole(self, plain: bytes) -> bytes:
        """The whole message at once, for small ones."""
        if len(plain) != self.size:
            raise ValueError("the message was made for another size")
        sealed = memoryview(bytearray(sealed_bytes(self.size)))
        sealed[:PREFIX_BYTES] = self.prefix
        for leaf in range(leaf_count(self.size)):
            start, length, sealed_start, sealed_length = self.leaf_range(leaf)
            part = memoryview(plain)[start : start + length]
            self.seal_leaf(leaf, part, sealed[sealed_start : sealed_start + sealed_length])
        return bytes(sealed)

    def open_whole(self, sealed: bytes) -> bytes:
        """The whole plaintext; the prefix was checked by `opened`."""
        if len(sealed) != sealed_bytes(self.size):
            raise BadCiphertext(_FAILED)
        plain = memoryview(bytearray(self.size))
        for leaf in range(leaf_count(self.size)):
            start, length, sealed_start, sealed_length = self.leaf_range(leaf)
            part = memoryview(sealed)[sealed_start : sealed_start + sealed_length]
            self.open_leaf(leaf, part, plain[start : start + length])
        return bytes(plain)
