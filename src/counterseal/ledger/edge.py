"""The right edge of a growing tree: what it takes to append, at most 255 hashes for each level."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from counterseal.errors import LedgerBroken
from counterseal.ledger.tiles import ENTRIES, WIDTH, Tile, hashes_of, unbundle
from counterseal.ledger.tree import EMPTY_ROOT, leaf_hash, node_hash, perfect_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Edge", "cut_bundle", "fold"]


class Edge:
    """A log's size, its partial tiles and its partial bundle. Pure."""

    __slots__ = ("bundle", "levels", "size")

    def __init__(self) -> None:
        self.size = 0
        self.levels: list[list[bytes]] = [[]]
        self.bundle = bytearray()

    def copy(self) -> Edge:
        """Another one: what is not durable must not touch what is."""
        other = Edge()
        other.size = self.size
        other.levels = [list(level) for level in self.levels]
        other.bundle = bytearray(self.bundle)
        return other

    @classmethod
    def restore(cls, size: int, bundle: bytes, read: Callable[[Tile], bytes]) -> Edge:
        """Compute it again from the entries of the partial bundle and the full tiles."""
        edge = cls()
        edge.size = size
        edge.bundle = bytearray(bundle)
        edge.levels = []
        count, level = size, 0
        while True:
            full, width = divmod(count, WIDTH)
            if level == 0:
                tail = Tile(ENTRIES, full, width)
                edge.levels.append([leaf_hash(entry) for entry in unbundle(bundle, tile=tail)])
            else:
                below = [Tile(level - 1, index) for index in range(full * WIDTH, count)]
                edge.levels.append(
                    [perfect_root(hashes_of(read(tile), tile=tile)) for tile in below]
                )
            if not full:
                return edge
            count, level = full, level + 1

    def append(self, entries: Iterable[bytes]) -> list[tuple[str, bytes]]:
        """Take entries in; returns the tiles and bundles that became full, by path."""
        full: list[tuple[str, bytes]] = []
        leaves, bundle = self.levels[0], self.bundle
        for entry in entries:
            bundle += len(entry).to_bytes(2, "big") + entry
            leaves.append(sha256(b"\0" + entry).digest())
            self.size += 1
            if len(leaves) == WIDTH:
                index = self.size // WIDTH - 1
                full.append((Tile(ENTRIES, index).path, bytes(bundle)))
                bundle.clear()
                full += self._carry()
        return full

    def _carry(self) -> list[tuple[str, bytes]]:
        full: list[tuple[str, bytes]] = []
        level, index = 0, self.size // WIDTH - 1
        while len(self.levels[level]) == WIDTH:
            full.append((Tile(level, index).path, b"".join(self.levels[level])))
            above = perfect_root(self.levels[level])
            self.levels[level].clear()
            level += 1
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level].append(above)
            index //= WIDTH
        return full

    def root(self) -> bytes:
        return fold(self.levels)

    def cut(self, tile: Tile) -> bytes | None:
        """A partial tile or bundle, as it was when it had that width; None if it is not here."""
        level = max(tile.level, 0)
        if level >= len(self.levels) or tile.index != self.size >> (8 * (level + 1)):
            return None
        hashes = self.levels[level]
        if tile.width > len(hashes):
            return None
        if tile.level == ENTRIES:
            whole = Tile(ENTRIES, tile.index, len(hashes))
            return cut_bundle(bytes(self.bundle), whole, tile.width)
        return b"".join(hashes[: tile.width])


def cut_bundle(data: bytes, tile: Tile, width: int) -> bytes:
    """The first `width` entries of a bundle."""
    at = 0
    for _ in range(width):
        at += 2 + int.from_bytes(data[at : at + 2], "big")
    if at > len(data) or tile.width < width:
        raise LedgerBroken(f"altered: {tile.path} has fewer entries than it should")
    return data[:at]


def fold(levels: Sequence[Sequence[bytes]]) -> bytes:
    """The root over partial tiles, from level 0 up: each level's are to the left of those below."""
    found: bytes | None = None
    for hashes in levels:
        end = len(hashes)
        while end:
            start = end - (end & -end)  # the perfect subtrees, the smallest first
            part = perfect_root(hashes[start:end])
            found = part if found is None else node_hash(part, found)
            end = start
    return EMPTY_ROOT if found is None else found
