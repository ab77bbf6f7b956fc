"""Zip files from strangers. Half of all model formats are one, and two parsers may read the
same zip differently: what is checked by one is then not what the other loads. So only the
one plain layout is accepted that every zip parser reads alike.

```
┌──────────┬──────────┬─────┬───────────────────┬──────────────────────┬─────┐
│ member 1 │ member 2 │ ... │ central directory │ zip64 record+locator │ end │
└──────────┴──────────┴─────┴───────────────────┴──────────────────────┴─────┘
 nothing before,      no overlap,        each name once,        no comment after
```
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import read
from counterseal.models.stream import open_stream

if TYPE_CHECKING:
    from counterseal.models.files import Files

__all__ = ["BROKEN", "MAGIC", "open_archive", "read_member"]

MAGIC: Final = b"PK\x03\x04"
MAX_MEMBERS: Final = 65_536
MAX_DIRECTORY_BYTES: Final = 1 << 25  # 512 bytes a member: bounds what zipfile keeps in memory
MAX_RATIO: Final = 200
MAX_TOTAL_BYTES: Final = 64 << 30
# Below this the ratio says nothing: an honest array of zeros packs 1000 to 1.
RATIO_FLOOR_BYTES: Final = 16 << 20

_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64: Final = struct.Struct("<4sLQL")
_LOCAL_HEADER_BYTES: Final = 30
_ENCRYPTED: Final = 0x1
_PLAIN: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# What zipfile raises on broken input, BadZipFile apart (found by fuzzing).
BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def open_archive(files: Files, name: str) -> zipfile.ZipFile:
    """Open one zip file for reading; it unpacks to what it declares, or a read fails.

    Raises UnsafeFormat for bombs, ambiguous layouts and names that lead out.
    """
    _check_layout(files, name)
    try:
        archive = zipfile.ZipFile(open_stream(files, name))
    except BROKEN as error:
        raise FormatError(f'"{name}" is a broken zip file: {error}') from error
    members = archive.infolist()
    _check_members(name, members)
    _check_sizes(name, members)
    return archive


def read_member(archive: zipfile.ZipFile, member: str, *, limit: int | None = None) -> bytes:
    """Return one whole member, or only its first `limit` bytes."""
    try:
        with archive.open(member) as stream:
            return stream.read(-1 if limit is None else limit)
    except KeyError as error:
        raise FormatError(f"the archive has no member {member!a}") from error
    except BROKEN as error:
        raise FormatError(f"the archive's member {member!a} is broken: {error}") from error


def _check_layout(files: Files, name: str) -> None:
    size = files.size(name)
    if size < _END.size or bytes(read(files, name, 0, 4)) != MAGIC:
        raise FormatError(f'"{name}" is not a zip file')
    at = size - _END.size
    magic, disk, disk2, here, count, length, start, comment = _END.unpack(
        read(files, name, at, _END.size)
    )
    if magic != b"PK\x05\x06" or comment:
        raise UnsafeFormat(
            f'"{name}" is a zip file with something after its end',
            hint="zip parsers disagree about such files; save the model again",
        )
    if at >= _LOCATOR64.size + _END64.size:
        locator = _LOCATOR64.unpack(read(files, name, at - _LOCATOR64.size, _LOCATOR64.size))
        if locator[0] == b"PK\x06\x07":
            at -= _LOCATOR64.size + _END64.size
            record = _END64.unpack(read(files, name, at, _END64.size))
            if record[0] != b"PK\x06\x06" or locator[2] != at:
                raise UnsafeFormat(f'"{name}" is a zip file with a misplaced zip64 record')
            # Both ends must agree unless the short one says "look there" (all ones).
            for short, long, unset in (
                (count, record[7], 0xFFFF),
                (length, record[8], 0xFFFFFFFF),
                (start, record[9], 0xFFFFFFFF),
            ):
                if short not in {long, unset}:
                    raise UnsafeFormat(f'"{name}" is a zip file with two different directories')
            here, count, length, start = record[6:]
    if disk or disk2 or here != count or start + length != at:
        raise UnsafeFormat(f'"{name}" is a zip file with a misplaced directory')
    if count > MAX_MEMBERS or length > MAX_DIRECTORY_BYTES:
        raise UnsafeFormat(f'"{name}" is a zip file with too many members ({count})')


def _check_members(name: str, members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        shown = ascii(member.filename[:200])
        if member.filename in seen:
            raise UnsafeFormat(f'"{name}" has two members named {shown}')
        seen.add(member.filename)
        # zipfile cuts a name at NUL and turns backslashes around: another parser may not.
        plain = member.filename == member.orig_filename and member.filename.isprintable()
        parts = member.filename.removesuffix("/").split("/")
        if not plain or "\\" in member.filename or {"", ".", ".."} & {*parts}:
            raise UnsafeFormat(f'"{name}" has a member with an unsafe name: {shown}')
        if member.flag_bits & _ENCRYPTED:
            raise UnsafeFormat(
                f'"{name}" has an encrypted member: {shown}', hint="save it without a password"
            )
        if member.compress_type not in _PLAIN:
            raise UnsafeFormat(f'"{name}" has a member in a rare compression: {shown}')


def _check_sizes(name: str, members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if total > MAX_TOTAL_BYTES or total > max(packed * MAX_RATIO, RATIO_FLOOR_BYTES):
        raise UnsafeFormat(
            f'"{name}" is a zip bomb: {packed} bytes unpack to {total}',
            hint="save the model again without compression",
        )
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            # Overlapping members are how 10 MB unpack to petabytes without any ratio showing.
            raise UnsafeFormat(f'"{name}" is a zip bomb: its members overlap')
        end = member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size
