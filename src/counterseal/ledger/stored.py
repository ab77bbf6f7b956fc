"""What a store has of a log: its tail, its right edge, its static resources.

    tile/...      17.2 of SPEC.md: full tiles and bundles, each written once
    tail/N        the entries after them, a row for each transaction
    tail:turn     random, another with each transaction that writes entries

That says at the price of one small read whether somebody else has written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from counterseal.errors import FormatError, LedgerBroken, RolledBack
from counterseal.ledger import tree
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.edge import Edge, cut_bundle
from counterseal.ledger.reader import TileReader
from counterseal.ledger.tiles import (
    CHECKPOINT,
    ENTRIES,
    KEY,
    WIDTH,
    Tile,
    bundle,
    count_bundled,
    unbundle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from counterseal.ledger.store import Store

__all__ = [
    "Static",
    "check_goes_on",
    "first_rows",
    "follow",
    "restore",
    "size_of",
    "turn_of",
    "write",
]

_TAIL: Final = "tail/"
_TURN: Final = "tail:turn"  # next to the last row: no page more for a transaction
_TURN_BYTES: Final = 16


def first_rows() -> list[tuple[str, bytes]]:
    """What a store of an empty log has."""
    return [(_tail(0), b"")]


def turn_of(store: Store) -> bytes | None:
    """Whose turn it was last; None before the first entry."""
    return store.get(_TURN)


def write(store: Store, before: Edge, entries: Sequence[bytes]) -> tuple[Edge, bytes]:
    """Store entries after those of `before`, all or nothing; the new edge, and its turn."""
    edge, turn = before.copy(), os.urandom(_TURN_BYTES)
    full = edge.append(entries)
    kept = edge.size % WIDTH
    if full:
        gone = [path for path, _ in store.under(_TAIL)]
        tail = (_tail(edge.size - kept), bytes(edge.bundle))
    else:
        # After a full bundle there is an empty row of this name: it is replaced.
        gone = [_tail(before.size)] if before.size % WIDTH == 0 else []
        tail = (_tail(before.size), bundle(entries))
    store.commit(gone=gone, new=[*full, tail], put=[(_TURN, turn)])
    return edge, turn


def restore(store: Store) -> Edge:
    """The right edge of what is stored, computed again."""
    first, data = _rest(store)
    count = _count(data)
    if count >= WIDTH or first % WIDTH:
        raise _damaged()
    if first:
        _read(store, Tile(ENTRIES, first // WIDTH - 1))
    return Edge.restore(first + count, data, lambda tile: _read(store, tile))


def size_of(store: Store) -> int:
    """How many entries are stored."""
    first, data = _rest(store)
    return first + _count(data)


def follow(store: Store, edge: Edge) -> Edge:
    """The right edge of what is stored, if it goes on from `edge`; costs what is new.

    Raises RolledBack if the store has less, LedgerBroken if what it has is something else.
    """
    first, rest = _rest(store)
    size = first + _count(rest)
    if size < edge.size:
        raise _older(size, edge.size, "written")
    _check_same_tiles(store, edge)
    after, known = edge.copy(), bytes(edge.bundle)
    for piece in _from_bundle(store, edge.size // WIDTH, first, rest):
        if not piece.startswith(known):
            raise _split(size, edge.size)
        fresh = piece[len(known) :]
        entries = unbundle(fresh, tile=Tile(ENTRIES, 0, _count(fresh)))
        for path, blob in after.append(entries):
            if store.get(path) != blob:
                raise LedgerBroken(f"altered: {path} in the ledger's store is not of its entries")
        known = b""
    if after.size != size:
        raise _damaged()
    return after


def _from_bundle(store: Store, number: int, first: int, rest: bytes) -> Iterator[bytes]:
    for full in range(number, first // WIDTH):
        yield _read(store, Tile(ENTRIES, full))
    yield rest


def _check_same_tiles(store: Store, edge: Edge) -> None:
    """Two histories have nothing in common after they part: the last full tile tells."""
    if edge.size >= WIDTH:
        made = Checkpoint("", edge.size, edge.root())
        TileReader(Static(store, edge), made).hashes(0, edge.size // WIDTH - 1)


def check_goes_on(reader: TileReader, earlier: Checkpoint) -> None:
    """Return only if the tree that `reader` reads begins with that of `earlier`."""
    if earlier.size > reader.size:
        raise _older(reader.size, earlier.size, "signed")
    if earlier.size == 0:
        return
    if reader.root_of(0, earlier.size) != earlier.root:
        raise _split(reader.size, earlier.size)


class Static:
    """A log as static resources: what may be served to anybody who may read it.

    Partial tiles of every width are there, also of sizes that were never published: they are
    cut from what is there now.
    """

    def __init__(self, store: Store, edge: Edge | None = None) -> None:
        self._store = store
        self._edge = edge

    def __call__(self, path: str) -> bytes:
        """Raises FileNotFoundError for anything else: the store has secrets as well."""
        found = self._store.get(path) if path in {CHECKPOINT, KEY} else self._tile(path)
        if found is None:
            raise FileNotFoundError(path)
        return found

    def _tile(self, path: str) -> bytes | None:
        try:
            tile = Tile.parse(path)
        except FormatError:
            return None
        if tile.width < WIDTH and self._edge is not None:
            found = self._edge.cut(tile)
            if found is not None:
                return found
        full = self._store.get(tile.full.path)
        if full is None and tile.width < WIDTH:
            # What its writers have written since.
            edge = self._edge
            self._edge = restore(self._store) if edge is None else follow(self._store, edge)
            found = self._edge.cut(tile)
            if found is not None:
                return found
            full = self._store.get(tile.full.path)
        if full is None or tile.width == WIDTH:
            return full
        if tile.level == ENTRIES:
            return cut_bundle(full, tile.full, tile.width)
        return full[: tile.width * tree.HASH_BYTES]


def _rest(store: Store) -> tuple[int, bytes]:
    """The index of the first entry that no full bundle has, and all from there on."""
    rows = store.under(_TAIL)
    if not rows:
        raise LedgerBroken("the ledger's last entries are gone from its store")
    return int(rows[0][0].removeprefix(_TAIL)), b"".join(blob for _, blob in rows)


def _count(data: bytes) -> int:
    count = count_bundled(data)
    if count is None:
        raise _damaged()
    return count


def _read(store: Store, tile: Tile) -> bytes:
    found = store.get(tile.path)
    if found is None:
        raise LedgerBroken(f"missing: {tile.path} is gone from the ledger's store")
    return found


def _older(size: int, were: int, what: str) -> RolledBack:
    return RolledBack(
        f"this ledger has {size} entries, but {were} were {what}: it is an older copy",
        hint="find the newest copy: going on from an older one would be a second history",
    )


def _split(size: int, earlier: int) -> LedgerBroken:
    return LedgerBroken(
        f"split view: the log of {size} entries does not go on from the one of {earlier}",
        hint="two signed checkpoints that contradict each other are evidence: keep both",
    )


def _damaged() -> LedgerBroken:
    return LedgerBroken("the ledger's last entries are damaged in its store")


def _tail(first: int) -> str:
    return f"{_TAIL}{first:020d}"
