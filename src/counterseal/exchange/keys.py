"""Every key of a package, its label and what it is bound to (SPEC 3.3). One key, one purpose."""

from __future__ import annotations

import os

from counterseal.crypto.chunked import ChunkedMessage
from counterseal.crypto.derive import KEY_BYTES, bind, derive
from counterseal.crypto.digest import equal
from counterseal.errors import BadCiphertext

__all__ = ["ContentKey"]


class ContentKey:
    """The 32 random bytes that all keys of one package come from."""

    __slots__ = ("_key", "package")

    def __init__(self, key: bytes, package: str) -> None:
        self._key = key
        self.package = package

    @classmethod
    def generate(cls) -> ContentKey:
        return cls(os.urandom(KEY_BYTES), os.urandom(16).hex())

    def commitment(self) -> str:
        """Published in the signed header: all recipients hold the same key, or notice."""
        return derive(self._key, "commitment", self._id).hex()

    def check(self, commitment: str) -> None:
        if not equal(self.commitment().encode(), commitment.encode()):
            raise BadCiphertext("this was not sealed for this key, or was changed")

    def manifest_message(self, size: int, *, prefix: bytes | None = None) -> ChunkedMessage:
        key = derive(self._key, "manifest", self._id)
        return _message(key, bind("manifest", self._id), size, prefix)

    def file_message(self, index: int, size: int, *, prefix: bytes | None = None) -> ChunkedMessage:
        # The index is bound twice, in the key and in the context: two files of one package
        # cannot change places, and no file fits into another package.
        number = index.to_bytes(4, "big")
        key = derive(self._key, "file", self._id, number)
        return _message(key, bind("file", self._id, number), size, prefix)

    def secret(self) -> bytes:
        """For a stanza to wrap or a key ring to protect; nothing else may call this."""
        return self._key

    @property
    def _id(self) -> bytes:
        return bytes.fromhex(self.package)

    def __repr__(self) -> str:
        return f"<ContentKey of {self.package}>"


def _message(key: bytes, context: bytes, size: int, prefix: bytes | None) -> ChunkedMessage:
    if prefix is None:
        return ChunkedMessage(key, context=context, size=size)
    return ChunkedMessage.opened(key, context=context, size=size, prefix=prefix)
