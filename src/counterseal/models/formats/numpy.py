"""numpy arrays: `.npy` and `.npz`, never with pickled objects inside.

The header of a `.npy` file is a Python literal; ours is parsed by `ast.literal_eval` after
a length check, and its type must be plain numbers, texts or records of them.
"""

from __future__ import annotations

import ast
import math
import re
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models import archives
from counterseal.models.files import MemoryFiles, read

if TYPE_CHECKING:
    from counterseal.models.files import Files
    from counterseal.models.formats.seam import LoadOptions

__all__ = ["MAGIC", "MAX_HEADER_BYTES", "Npy", "Npz", "parse_header"]

MAGIC: Final = b"\x93NUMPY"
MAX_HEADER_BYTES: Final = 10_000  # numpy's own limit: literal_eval is slow on deep nesting
_PLAIN: Final = re.compile(r"[<>|=]?[?bBiufcSUVmM][0-9]*(\[[0-9]*[a-zA-Zμ]+\])?")
_HINT: Final = "save numbers: array.astype(float), or numpy.save(..., allow_pickle=False)"


class Npy:
    """One array."""

    name = "numpy"
    media_type = "application/x-npy"

    def claims(self, name: str, head: bytes) -> bool:
        return name.endswith(".npy") or head.startswith(MAGIC)

    def check(self, files: Files, name: str) -> None:
        length = min(files.size(name), MAX_HEADER_BYTES + 12)
        parse_header(name, bytes(read(files, name, 0, length)))

    def load(self, files: Files, name: str, options: LoadOptions) -> Any:
        """Return the array, read in one piece and not copied."""
        del options
        length = min(files.size(name), MAX_HEADER_BYTES + 12)
        descr, fortran, shape, start = parse_header(name, bytes(read(files, name, 0, length)))
        numpy = require("numpy", extra="sklearn")
        try:
            dtype = numpy.lib.format.descr_to_dtype(descr)
        except (TypeError, ValueError, KeyError) as error:
            raise FormatError(f'"{name}" has an unknown type: {descr!a}') from error
        if math.prod(shape) * dtype.itemsize != files.size(name) - start:
            raise FormatError(f'"{name}" does not have the size that its header says')
        buffer = numpy.empty(files.size(name) - start, dtype="uint8")
        if len(buffer):
            files.read_into(name, start, memoryview(buffer))
        if not len(buffer):
            return numpy.empty(shape, dtype)
        return buffer.view(dtype).reshape(shape, order="F" if fortran else "C")


class Npz:
    """Several arrays in a zip file; loads as a dict."""

    name = "numpy"
    media_type = "application/x-npz"

    def claims(self, name: str, head: bytes) -> bool:
        del head
        return name.endswith(".npz")

    def check(self, files: Files, name: str) -> None:
        with archives.open_archive(files, name) as archive:
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    raise FormatError(f'"{name}" has a member that is no array: {member!a}')
                head = archives.read_member(archive, member, limit=MAX_HEADER_BYTES + 12)
                parse_header(f"{name}: {member}", head)

    def load(self, files: Files, name: str, options: LoadOptions) -> dict[str, Any]:
        self.check(files, name)
        with archives.open_archive(files, name) as archive:
            return {
                member.removesuffix(".npy"): Npy().load(
                    MemoryFiles({member: archives.read_member(archive, member)}), member, options
                )
                for member in archive.namelist()
            }


def parse_header(name: str, head: bytes) -> tuple[Any, bool, tuple[int, ...], int]:
    """Return type description, Fortran order, shape and where the data starts."""
    version = tuple(head[6:8])
    if not head.startswith(MAGIC) or version not in {(1, 0), (2, 0), (3, 0)}:
        raise FormatError(f'"{name}" is not a numpy array file')
    width = 2 if version == (1, 0) else 4
    start = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    if start > len(head) or start > MAX_HEADER_BYTES + 8 + width:
        raise FormatError(f'"{name}" has a broken or too long header')
    try:
        text = head[8 + width : start].decode("utf-8" if version == (3, 0) else "latin-1")
        header = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise FormatError(f'"{name}" has a header that is no literal') from error
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise FormatError(f'"{name}" has an unknown header')
    descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    if not isinstance(fortran, bool) or not _is_shape(shape):
        raise FormatError(f'"{name}" has an impossible shape: {shape!a}')
    if not _is_plain(descr):
        raise UnsafeFormat(
            f'"{name}" holds Python objects ({descr!a}): loading them runs pickles', hint=_HINT
        )
    return descr, fortran, shape, start


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= 64
        and all(type(n) is int and 0 <= n < 1 << 63 for n in shape)
    )


def _is_plain(descr: Any) -> bool:
    """Numbers, texts, times, or a record of such; "O" (objects) and the unknown are not."""
    if isinstance(descr, str):
        return _PLAIN.fullmatch(descr) is not None
    return isinstance(descr, list) and all(
        isinstance(field, tuple) and len(field) in {2, 3} and _is_plain(field[1]) for field in descr
    )
