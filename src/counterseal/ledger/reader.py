"""Read tiles that nobody is trusted to serve: each is checked up to the signed root.

The partial tiles of the right edge give the root together, or there is nothing to read. A full
tile is good if its root stands in the tile above it, which is good for the same reason.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from counterseal.errors import LedgerBroken
from counterseal.ledger.edge import cut_bundle, fold
from counterseal.ledger.tiles import ENTRIES, WIDTH, Tile, edge_of, hashes_of, limit_of, unbundle
from counterseal.ledger.tree import node_hash, perfect_root, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from counterseal.ledger.checkpoint import Checkpoint

    Fetch = Callable[[str], bytes]  # raises FileNotFoundError for what is not there

__all__ = ["TileReader", "fetch_bounded"]

_KEPT: Final = 32  # tiles in memory: 256 KiB


def fetch_bounded(fetch: Fetch, path: str) -> bytes:
    """What lies at `path`, or LedgerBroken that says it is missing."""
    try:
        data = fetch(path)
    except FileNotFoundError:
        raise LedgerBroken(
            f"missing: the log's owner does not show {path}",
            hint="a log that hides a part of itself is to be believed in no part",
        ) from None
    if len(data) > limit_of(path):
        raise LedgerBroken(f"altered: {path} is longer than it can be")
    return data


class TileReader:
    """The tiles and entries under one checkpoint, whose signatures the caller has checked."""

    def __init__(self, fetch: Fetch, checkpoint: Checkpoint) -> None:
        self._fetch = fetch
        self.size = checkpoint.size
        self._edge: dict[int, Tile] = {tile.level: tile for tile in edge_of(self.size)}
        self._kept: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        levels = [
            hashes_of(self._read(tile), tile=tile) if (tile := self._edge.get(level)) else []
            for level in range(max(self._edge, default=-1) + 1)
        ]
        if fold(levels) != checkpoint.root:
            raise LedgerBroken(
                "altered: the tiles do not give the root that was signed",
                hint="keep what you have: with the signed checkpoint it is evidence",
            )
        self._levels = levels

    def hashes(self, level: int, index: int) -> list[bytes]:
        """The hashes of one tile, checked."""
        edge = self._edge.get(level)
        if edge is not None and edge.index == index:
            return self._levels[level]
        kept = self._kept.get((level, index))
        if kept is not None:
            self._kept.move_to_end((level, index))
            return kept
        tile = Tile(level, index)
        above, place = divmod(index, WIDTH)
        expected = self.hashes(level + 1, above)[place]
        found = hashes_of(self._read(tile), tile=tile)
        if perfect_root(found) != expected:
            raise LedgerBroken(f"altered: {tile.path} is not what was signed")
        self._kept[level, index] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def root_of(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]) of RFC 6962: what `tree.Range` is."""
        if not 0 <= start < end <= self.size:
            raise ValueError("not a range of this log")
        level, first, last = 0, start, end
        while first % WIDTH == 0 and last % WIDTH == 0:
            level, first, last = level + 1, first // WIDTH, last // WIDTH
        if last == first + 1:
            index, place = divmod(first, WIDTH)
            return self.hashes(level, index)[place]
        middle = start + split(end - start)
        return node_hash(self.root_of(start, middle), self.root_of(middle, end))

    def bundles(self, start: int, end: int) -> Iterator[tuple[int, list[bytes]]]:
        """The entries from `start` to `end` in bundles, each with the index of its first."""
        for number in range(start // WIDTH, -(-end // WIDTH)):
            first = number * WIDTH
            entries = self._bundle(number)
            low, high = max(start - first, 0), min(end - first, len(entries))
            yield first + low, entries[low:high]

    def entry(self, index: int) -> bytes:
        return next(self.bundles(index, index + 1))[1][0]

    def _bundle(self, number: int) -> list[bytes]:
        first = number * WIDTH
        tile = Tile(ENTRIES, number, min(WIDTH, self.size - first))
        entries = unbundle(self._read(tile), tile=tile)
        found = [sha256(b"\0" + entry).digest() for entry in entries]
        expected = self.hashes(0, number)
        if found != expected:
            wrong = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
            raise LedgerBroken(
                f"altered entry: {first + wrong} is not what was signed",
                hint="keep what you have: with the signed checkpoint it is evidence",
            )
        return entries

    def _read(self, tile: Tile) -> bytes:
        if tile.width < WIDTH:
            try:
                return fetch_bounded(self._fetch, tile.path)
            except LedgerBroken:
                # A log may drop a partial tile once it is full (tlog-tiles, "Partial Tiles").
                try:
                    data = fetch_bounded(self._fetch, tile.full.path)
                except LedgerBroken:
                    data = None
                if data is None:
                    raise
                if tile.level == ENTRIES:
                    return cut_bundle(data, tile.full, tile.width)
                return data[: limit_of(tile.path)]
        return fetch_bounded(self._fetch, tile.path)
