"""The payload in leaves: seal files into a package, read leaves out of one (SPEC 3.4).

Each leaf (1 MiB) is one task: read, hash, encrypt, write; or read, decrypt, check, hand over.
A leaf leaves this module only after its AEAD tags *and* its signed digest were right: the
tags alone prove nothing against another recipient, who holds the same content key.
"""

from __future__ import annotations

import itertools
import os
from functools import partial
from typing import IO, TYPE_CHECKING, Protocol

from counterseal.crypto.chunked import PREFIX_BYTES, leaf_count
from counterseal.crypto.digest import DIGEST_BYTES, LEAF_BYTES, equal, leaf_digest, sha256_stream
from counterseal.errors import BadCiphertext, FormatError
from counterseal.models.files import FileReader, Files, FolderFiles
from counterseal.models.manifest import leaf_digests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from counterseal.crypto.chunked import ChunkedMessage
    from counterseal.exchange.workers import Scratch

    Task = Callable[[Scratch], int]

__all__ = ["FileSealing", "open_leaf", "pread_exactly", "pwrite_all", "write_all"]


class _Reader(Protocol):
    def read_into(self, offset: int, buffer: memoryview) -> None: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


class FileSealing:
    """One file on its way into a package: its digests fill up as its tasks are done."""

    def __init__(
        self,
        message: ChunkedMessage,
        *,
        at: int,
        output: int,
        with_sha256: bool,
        leaves: int | None = None,
    ) -> None:
        """The message goes to offset `at` of descriptor `output`; `leaves` are known so far."""
        known = leaf_digests(message.size) if leaves is None else leaves
        self.message = message
        self.leaves = bytearray(DIGEST_BYTES * known)
        self.sha256: str | None = None
        self._at = at
        self._output = output
        self._with_sha256 = with_sha256
        self._stream_sha256 = sha256_stream()
        self._reader: _Reader | None = None

    @classmethod
    def streaming(cls, message: ChunkedMessage, output: int, *, with_sha256: bool) -> FileSealing:
        """For a stream: leaves come in order, and `message.size` is set before the last."""
        pwrite_all(output, memoryview(message.prefix), 0)
        return cls(message, at=0, output=output, with_sha256=with_sha256, leaves=0)

    def tasks(self, source: Files, name: str) -> Iterator[Task]:
        """All tasks of this file. SHA-256 is sequential, so it goes first, beside the leaves."""
        reader = self._reader = _open(source, name, self.message.size)
        leaves = leaf_count(self.message.size)
        # One atomic step for the threads that share it, unlike `remaining -= 1`.
        others_left = itertools.count(leaves + self._with_sha256 - 1, -1)

        def task(work: Callable[[_Reader, Scratch], int]) -> Task:
            def run(scratch: Scratch) -> int:
                count = work(reader, scratch)
                if next(others_left) == 0:
                    reader.check()
                    reader.close()
                return count

            return run

        if self._with_sha256:
            yield task(self._hash)
        pwrite_all(self._output, memoryview(self.message.prefix), self._at)
        for leaf in range(leaves):
            yield task(partial(self._seal, leaf=leaf))

    def close(self) -> None:
        """Close the source, if a failure left it open."""
        if self._reader is not None:
            self._reader.close()

    def _hash(self, reader: _Reader, scratch: Scratch) -> int:
        digest = sha256_stream()
        for start in range(0, self.message.size, LEAF_BYTES):
            part = scratch.plain[: min(LEAF_BYTES, self.message.size - start)]
            reader.read_into(start, part)
            digest.update(part)
        self.sha256 = digest.hexdigest()
        return 0

    def _seal(self, reader: _Reader, scratch: Scratch, *, leaf: int) -> int:
        start, length, _, _ = self.message.leaf_range(leaf)
        reader.read_into(start, scratch.plain[:length])
        self.seal_leaf(scratch, leaf)
        return length

    def stream_leaf(self, scratch: Scratch, leaf: int, length: int) -> None:
        """Seal the next leaf of a stream, `length` bytes in `scratch.plain`."""
        if length:
            self.leaves += bytes(DIGEST_BYTES)
        if self._with_sha256:
            self._stream_sha256.update(scratch.plain[:length])
        self.seal_leaf(scratch, leaf)
        if length < LEAF_BYTES and self._with_sha256:
            self.sha256 = self._stream_sha256.hexdigest()

    def seal_leaf(self, scratch: Scratch, leaf: int) -> None:
        """Hash, encrypt and write the leaf whose plaintext is in `scratch.plain`."""
        _, length, sealed_start, sealed_length = self.message.leaf_range(leaf)
        plain = scratch.plain[:length]
        if length:
            at = leaf * DIGEST_BYTES
            self.leaves[at : at + DIGEST_BYTES] = leaf_digest(plain)
        sealed = scratch.sealed[:sealed_length]
        self.message.seal_leaf(leaf, plain, sealed)
        pwrite_all(self._output, sealed, self._at + sealed_start)


def open_leaf(
    descriptor: int,
    message: ChunkedMessage,
    leaf: int,
    plain: memoryview,
    sealed: memoryview,
    *,
    at: int,
    digest: bytes,
) -> None:
    """Decrypt one whole leaf of the message at offset `at` into `plain`, checked, or wipe it."""
    _, length, sealed_start, sealed_length = message.leaf_range(leaf)
    pread_exactly(descriptor, sealed[:sealed_length], at + sealed_start)
    message.open_leaf(leaf, sealed[:sealed_length], plain)
    if length and not equal(leaf_digest(plain), digest):
        plain[:] = bytes(length)
        raise BadCiphertext("the payload is not what its sender signed")


def read_prefix(descriptor: int, at: int) -> bytes:
    prefix = bytearray(PREFIX_BYTES)
    pread_exactly(descriptor, memoryview(prefix), at)
    return bytes(prefix)


def pread_exactly(descriptor: int, buffer: memoryview, offset: int) -> None:
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if not count:
            raise BadCiphertext("the package is cut short")
        done += count


def pwrite_all(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def write_all(stream: IO[bytes], data: memoryview) -> None:
    """Write all of `data`: an unbuffered stream may take less at a time."""
    while len(data):
        data = data[stream.write(data) :]


class _FromFiles:
    """Any `Files` as a reader of one file."""

    def __init__(self, files: Files, name: str) -> None:
        self._files = files
        self._name = name

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if len(buffer):
            self._files.read_into(self._name, offset, buffer)

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


class _FromDisk:
    """A file that must stay as it is: SHA-256 and the leaves are read in two passes."""

    def __init__(self, path: Path, name: str, size: int) -> None:
        self._path = path
        self._name = name
        self._before = _stamp(path)
        self._file = FileReader(path)
        self.read_into = self._file.read_into
        self.close = self._file.close
        if self._file.size != size:
            self.close()
            raise FormatError(f'"{name}" changed while it was being sealed')

    def check(self) -> None:
        if _stamp(self._path) != self._before:
            raise FormatError(f'"{self._name}" changed while it was being sealed')


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _open(source: Files, name: str, size: int) -> _Reader:
    if isinstance(source, FolderFiles):
        return _FromDisk(source.path(name), name, size)
    return _FromFiles(source, name)
