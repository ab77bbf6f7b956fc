"""Tiles and bundles: where the hashes and entries of a log lie (c2sp.org/tlog-tiles).

    tile/2/000.p/1                          1 hash   over 65,536 entries
    tile/1/000        tile/1/001.p/17       1 hash   over 256 entries
    tile/0/000 ...    tile/0/273.p/112      1 hash   of an entry
    tile/entries/000  tile/entries/273.p/112        the entries

A full tile is never changed; `.p/W` is the beginning of one that is not full yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from counterseal.errors import FormatError, LedgerBroken
from counterseal.ledger.tree import HASH_BYTES
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "CHECKPOINT",
    "ENTRIES",
    "KEY",
    "WIDTH",
    "Tile",
    "bundle",
    "count_bundled",
    "edge_of",
    "hashes_of",
    "limit_of",
    "tiles_of",
    "unbundle",
]

WIDTH: Final = 256
ENTRIES: Final = -1  # the "level" of a bundle
CHECKPOINT: Final = "checkpoint"
KEY: Final = "key.json"  # the owner's statement (SPEC 17.3); the one name that is not C2SP's

_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile, or bundle. `width` is 256 unless it is partial."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        level = "entries" if self.level == ENTRIES else str(self.level)
        rest, last = divmod(self.index, 1000)
        elements = [f"{last:03d}"]
        while rest:
            rest, element = divmod(rest, 1000)
            elements.append(f"x{element:03d}")
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(elements))}{partial}"

    @property
    def full(self) -> Tile:
        return Tile(self.level, self.index)

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Read a path; another spelling of the same tile is refused."""
        match = _PATH.fullmatch(path)
        if match is None:
            raise FormatError(f"{path!r} is not the path of a tile")
        level = ENTRIES if match[1] == "entries" else int(match[1])
        index = int(match[2].replace("x", "").replace("/", ""))
        tile = cls(level, index, int(match[3] or WIDTH))
        if tile.path != path or level > 63:
            raise FormatError(f"{path!r} is not the path of a tile")
        return tile


def limit_of(path: str) -> int:
    """How many bytes what lies at `path` may have."""
    if path == CHECKPOINT:
        return limits.LEDGER_NOTE_BYTES
    if path == KEY:
        return limits.LEDGER_KEY_BYTES
    tile = Tile.parse(path)
    if tile.level == ENTRIES:
        return tile.width * (limits.LEDGER_ENTRY_BYTES + 2)
    return tile.width * HASH_BYTES


def edge_of(size: int) -> list[Tile]:
    """The partial tiles of a log of `size` entries, from level 0 up."""
    found: list[Tile] = []
    level, count = 0, size
    while count:
        count, width = divmod(count, WIDTH)
        if width:
            found.append(Tile(level, count, width))
        level += 1
    return found


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile and bundle of a log of `size` entries."""
    for level in (ENTRIES, *range(64)):
        full, width = divmod(size >> (8 * max(level, 0)), WIDTH)
        if not full and not width:
            return
        for index in range(full):
            yield Tile(level, index)
        if width:
            yield Tile(level, full, width)


def bundle(entries: Iterable[bytes]) -> bytes:
    """Entries with their lengths."""
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def count_bundled(data: bytes) -> int | None:
    """How many entries there are; None if the last one is cut off."""
    count, at, end = 0, 0, len(data)
    while at < end:
        at += 2 + int.from_bytes(data[at : at + 2], "big")
        count += 1
    return count if at == end else None


def unbundle(data: bytes, *, tile: Tile) -> list[bytes]:
    """The entries of a bundle; as many as its path says."""
    entries: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        entries.append(data[start:at])
    if at != end or len(entries) != tile.width:
        first = tile.index * WIDTH
        raise LedgerBroken(
            f"missing entry: {tile.path} does not have the entries {first} to "
            f"{first + tile.width - 1}"
        )
    return entries


def hashes_of(data: bytes, *, tile: Tile) -> list[bytes]:
    if len(data) != tile.width * HASH_BYTES:
        raise LedgerBroken(f"altered: {tile.path} has not the length of a tile")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
