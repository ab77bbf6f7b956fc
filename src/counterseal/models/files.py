"""The one view of a model that everything above shares: named files with random access.

A folder on disk, a dict in memory and a sealed package all look alike through `Files`, so
a format adapter written once loads from each of them, and a sealed package never needs to
put plaintext on disk.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, Self

from counterseal.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["FileReader", "Files", "FolderFiles", "MemoryFiles", "read"]


class Files(Protocol):
    """Named byte strings with random access. Names are relative POSIX paths (`names.py`)."""

    def names(self) -> Sequence[str]:
        """All names, sorted by code point."""
        ...

    def size(self, name: str) -> int:
        """Length in bytes; raises FormatError for a name that is not there."""
        ...

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes from `offset` on; past the end is a FormatError."""
        ...


def read(files: Files, name: str, offset: int = 0, length: int | None = None) -> bytearray:
    """Return `length` bytes (default: to the end) of one file, as a buffer of its own."""
    size = files.size(name)
    length = size - offset if length is None else length
    if offset < 0 or length < 0 or offset + length > size:
        raise FormatError(f'"{name}" has {size} bytes, not {offset}+{length}')
    buffer = bytearray(length)
    if length:
        files.read_into(name, offset, memoryview(buffer))
    return buffer


class MemoryFiles:
    """Files held in memory."""

    def __init__(self, contents: Mapping[str, bytes | bytearray | memoryview]) -> None:
        self._contents = {name: memoryview(data).cast("B") for name, data in contents.items()}

    def names(self) -> Sequence[str]:
        return sorted(self._contents)

    def size(self, name: str) -> int:
        return len(self._view(name))

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        view = self._view(name)
        _check_range(name, len(view), offset, len(buffer))
        buffer[:] = view[offset : offset + len(buffer)]

    def _view(self, name: str) -> memoryview:
        if name not in self._contents:
            raise FormatError(f'there is no file "{name}"')
        return self._contents[name]


class FolderFiles:
    """Regular files on disk under one root; the caller says which (`names.walk`)."""

    def __init__(self, root: Path, paths: Mapping[str, Path]) -> None:
        self.root = root
        self._paths = dict(paths)

    def names(self) -> Sequence[str]:
        return sorted(self._paths)

    def path(self, name: str) -> Path:
        if name not in self._paths:
            raise FormatError(f'there is no file "{name}"')
        return self._paths[name]

    def size(self, name: str) -> int:
        return self.path(name).stat().st_size

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        with FileReader(self.path(name)) as reader:
            _check_range(name, reader.size, offset, len(buffer))
            reader.read_into(offset, buffer)


class FileReader:
    """One open file read at given offsets; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        # O_NOFOLLOW: a symlink put in place after the folder was listed must not be followed.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._path = path
        self.size = os.fstat(self._descriptor).st_size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if count == 0:
                raise FormatError(f'"{self._path.name}" became shorter while it was read')
            done += count

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_range(name: str, size: int, offset: int, length: int) -> None:
    if offset < 0 or offset + length > size:
        raise FormatError(f'"{name}" has {size} bytes, not {offset}+{length}')
