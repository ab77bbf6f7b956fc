"""One file of `Files` as a seekable stream, for parsers that want one (zipfile, h5py)."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from counterseal.models.files import Files

__all__ = ["FileStream", "open_stream"]

BUFFER_BYTES: Final = 1 << 16  # small reads of a sealed file would each open a chunk again


class FileStream(io.RawIOBase):
    """Random access to one file; reading past the end gives nothing, as on disk."""

    def __init__(self, files: Files, name: str) -> None:
        super().__init__()
        self._files = files
        self._file = name
        self._size = files.size(name)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        if count:
            self._files.read_into(self._file, self._at, view[:count])
            self._at += count
        return count


def open_stream(files: Files, name: str) -> io.BufferedReader:
    return io.BufferedReader(FileStream(files, name), BUFFER_BYTES)
