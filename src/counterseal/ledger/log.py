"""The sequencer of one log: entries in, durable tiles, then a checkpoint; never two histories.

Rules, in order (SPEC 17.5):
1. One writer: the store's lock is taken before anything is read.
2. On opening, the right edge is computed again from what is stored. What was published before
   (the checkpoint in the store, the mark outside it) must be a beginning of it: a store that is
   older, as after a restored backup, or another one, is never written to.
3. Entries are in order of `submit`; those that wait together become durable together.
4. A checkpoint is signed only over durable entries, only after it was checked to go on from the
   last one, and only after the mark says so: there is never a signature above the mark.
5. After a failed write nothing is known about the disk: the log ends; opening replays it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from counterseal.errors import (
    BadSignature,
    CountersealError,
    FormatError,
    LedgerBroken,
    RolledBack,
)
from counterseal.ledger import note, tree
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.edge import Edge, cut_bundle
from counterseal.ledger.reader import TileReader
from counterseal.ledger.tiles import CHECKPOINT, ENTRIES, KEY, WIDTH, Tile, bundle
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.ledger.keys import LogSigner
    from counterseal.ledger.note import NoteKey
    from counterseal.ledger.store import Store

__all__ = ["TAIL", "Log", "Mark", "Static", "first_rows"]

TAIL: Final = "tail/"  # entries that fill no bundle yet: a row for each transaction


class Mark(Protocol):
    """The last checkpoint signed, remembered where the log's own file is not."""

    def get(self) -> Checkpoint | None: ...

    def put(self, checkpoint: Checkpoint) -> None: ...


def first_rows() -> list[tuple[str, bytes]]:
    """What a store of an empty log has."""
    return [(_tail(0), b"")]


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
            self._edge = restore(self._store)  # what its writer has written since
            found = self._edge.cut(tile)
            if found is not None:
                return found
            full = self._store.get(tile.full.path)
        if full is None or tile.width == WIDTH:
            return full
        if tile.level == ENTRIES:
            return cut_bundle(full, tile.full, tile.width)
        return full[: tile.width * tree.HASH_BYTES]


class Log:
    """Thread-safe. `append` returns when the entry is durable, `submit` at once."""

    def __init__(self, store: Store, signer: LogSigner, mark: Mark) -> None:
        store.lock()
        try:
            self._store, self._signer, self._mark = store, signer, mark
            self._edge = restore(store)
            self._shown = -1  # the size of the checkpoint that is there for others
            self._last = self._check_published()
        except BaseException:
            store.close()
            raise
        self._pending: list[bytes] = []
        self._next = self._edge.size
        self._turn = threading.Condition()
        self._signing = threading.Lock()
        self._busy = False
        self._ended: str | None = None

    @property
    def size(self) -> int:
        """How many entries are durable."""
        return self._edge.size

    @property
    def empty(self) -> bool:
        """Whether nothing was ever published."""
        return self._shown < 0

    @property
    def unpublished(self) -> bool:
        """Whether there are entries that no checkpoint has."""
        return self._next > self._shown

    def append(self, entry: bytes) -> int:
        """Write one entry; its index, once it is durable."""
        return self.append_all([entry])[0]

    def append_all(self, entries: Sequence[bytes]) -> range:
        """Write several entries, next to each other."""
        with self._turn:
            indexes = self._submit(entries)
        self.settle(indexes.stop)
        return indexes

    def submit(self, entry: bytes) -> int:
        """Queue an entry; its index, which it has if the log does not fail before `settle`."""
        with self._turn:
            index = self._submit([entry])[0]
            crowded = len(self._pending) >= limits.LEDGER_PENDING
        if crowded:  # whoever writes faster than the disk waits for it
            self.settle(index + 1)
        return index

    def settle(self, size: int | None = None) -> None:
        """Return when the first `size` entries (default: all submitted) are durable.

        Whoever comes first writes for all who wait; the others come in the next transaction.
        """
        with self._turn:
            goal = self._next if size is None else size
            if goal > self._next:
                raise ValueError("there are not as many entries")
            while self._edge.size < goal:
                self._check_alive()
                if self._busy:
                    self._turn.wait()
                else:
                    self._write()

    def publish(self, *, time: int) -> bytes:
        """Sign a checkpoint over all that is submitted. `time`: seconds since 1970."""
        self.settle()
        with self._signing:
            with self._turn:
                self._check_alive()
                edge = self._edge  # never changed, only replaced
            made = Checkpoint(self._signer.keys.origin, edge.size, edge.root())
            reader = TileReader(Static(self._store, edge), made)
            for earlier in (self._last, self._mark.get()):
                if earlier is not None:
                    check_goes_on(reader, earlier)
            self._mark.put(made)
            signed = self._signer.sign(made, time=time)
            self._store.commit(put=[(CHECKPOINT, signed)])
            self._last, self._shown = made, made.size
            return signed

    def attach(self, lines: bytes, *, witness: Sequence[NoteKey]) -> None:
        """Publish a witness's cosignature of the last checkpoint with it."""
        with self._signing:
            signed = self._store.get(CHECKPOINT)
            if signed is None:
                raise LedgerBroken("nothing is published yet")
            opened = note.open_note(signed + lines, known=witness)
            if set(opened.by) != set(witness):
                raise BadSignature("a cosignature of this witness is missing")
            self._store.commit(put=[(CHECKPOINT, signed + lines)])

    def read(self, path: str) -> bytes:
        """A static resource of the log, as partners may fetch it."""
        return Static(self._store, self._edge)(path)

    def close(self) -> None:
        """Write what is queued and let go of the lock."""
        try:
            if self._ended is None:
                self.settle()
        finally:
            with self._turn:
                self._ended = "it is closed"
                self._turn.notify_all()
            self._store.close()

    def _submit(self, entries: Sequence[bytes]) -> range:
        self._check_alive()
        for entry in entries:
            if len(entry) > limits.LEDGER_ENTRY_BYTES:
                raise FormatError(
                    f"an entry of {len(entry)} bytes is longer than {limits.LEDGER_ENTRY_BYTES}"
                )
        first = self._next
        self._pending += entries
        self._next += len(entries)
        return range(first, self._next)

    def _write(self) -> None:
        """With the turn held, which others get while the disk works."""
        batch, self._pending = self._pending, []
        self._busy = True
        self._turn.release()
        edge: Edge | None = None
        try:
            edge = self._store_batch(batch)
        finally:
            self._turn.acquire()
            self._busy = False
            if edge is None:
                self._ended = "a write failed"
            else:
                self._edge = edge
            self._turn.notify_all()

    def _store_batch(self, batch: list[bytes]) -> Edge:
        before, edge = self._edge, self._edge.copy()
        full = edge.append(batch)
        kept = edge.size % WIDTH
        if full:
            gone = [path for path, _ in self._store.under(TAIL)]
            tail = (_tail(edge.size - kept), bytes(edge.bundle))
        else:
            # After a full bundle there is an empty row of this name: it is replaced.
            gone = [_tail(before.size)] if before.size % WIDTH == 0 else []
            tail = (_tail(before.size), bundle(batch))
        self._store.commit(gone=gone, new=[*full, tail])
        return edge

    def _check_alive(self) -> None:
        if self._ended is not None:
            raise CountersealError(
                f"the ledger takes no more entries: {self._ended}", hint="open it again"
            )

    def _check_published(self) -> Checkpoint | None:
        """Rule 2. The newer of the checkpoint and the mark, if there are any."""
        static = Static(self._store, self._edge)
        reader = TileReader(
            static, Checkpoint(self._signer.keys.origin, self._edge.size, self._edge.root())
        )
        last: Checkpoint | None = None
        if (data := self._store.get(CHECKPOINT)) is not None:
            last = self._signer.keys.open(data).checkpoint
            check_goes_on(reader, last)
            self._shown = last.size
        marked = self._mark.get()
        if marked is not None:
            check_goes_on(reader, marked)
            if last is None or marked.size > last.size:
                last = marked
        return last


def check_goes_on(reader: TileReader, earlier: Checkpoint) -> None:
    """Return only if the tree that `reader` reads begins with that of `earlier`."""
    if earlier.size > reader.size:
        raise RolledBack(
            f"this ledger has {reader.size} entries, but {earlier.size} were signed: "
            "it is an older copy",
            hint="find the newest copy: going on from an older one would be a second history",
        )
    if earlier.size == 0:
        return
    if reader.root_of(0, earlier.size) != earlier.root:
        raise LedgerBroken(
            f"split view: the log of {reader.size} entries does not go on from the one of "
            f"{earlier.size}",
            hint="two signed checkpoints that contradict each other are evidence: keep both",
        )


def restore(store: Store) -> Edge:
    """The right edge of what is stored, computed again."""
    rows = store.under(TAIL)
    if not rows:
        raise LedgerBroken("the ledger's last entries are gone from its store")

    def read(tile: Tile) -> bytes:
        found = store.get(tile.path)
        if found is None:
            raise LedgerBroken(f"missing: {tile.path} is gone from the ledger's store")
        return found

    data = b"".join(blob for _, blob in rows)
    first = int(rows[0][0].removeprefix(TAIL))
    count, at = 0, 0
    while at < len(data):
        at += 2 + int.from_bytes(data[at : at + 2], "big")
        count += 1
    if at != len(data) or count >= WIDTH or first % WIDTH:
        raise LedgerBroken("the ledger's last entries are damaged in its store")
    if first:
        read(Tile(ENTRIES, first // WIDTH - 1))
    return Edge.restore(first + count, data, read)


def _tail(first: int) -> str:
    return f"{TAIL}{first:020d}"
