"""The sequencer of one log: entries in, durable tiles, then a checkpoint; never two histories.

Rules, in order (SPEC 17.5):
1. One writer at a time: the store's lock is taken before anything is read. An exclusive log
   keeps it; a shared one has it for each batch and each checkpoint only, and then first follows
   what others have written since: only to a store that goes on from what we know of it.
2. On opening, the right edge is computed again from what is stored. What was published before
   (the checkpoint in the store, the mark outside it) must be a beginning of it: a store that is
   older, as after a restored backup, or another one, is never written to.
3. Entries are in order of `submit`; those that wait together become durable together, and have
   their indexes from then on.
4. A checkpoint is signed only over durable entries, only after it was checked to go on from the
   last one, and only after the mark says so: there is never a signature above the mark.
5. After a failed write nothing is known about the disk: the log ends; opening replays it.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final, Protocol

from counterseal.errors import BadSignature, CountersealError, FormatError, LedgerBroken
from counterseal.ledger import note, stored
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.reader import TileReader
from counterseal.ledger.stored import Static, check_goes_on
from counterseal.ledger.tiles import CHECKPOINT
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from counterseal.ledger.keys import LogSigner, Seen
    from counterseal.ledger.note import NoteKey
    from counterseal.ledger.store import Store

    Done = Callable[[CountersealError | None, int | None], None]

__all__ = ["LOCK_SECONDS", "Log", "Mark"]

LOCK_SECONDS: Final = 30.0  # a shared log waits so long for the others


class Mark(Protocol):
    """The last checkpoint signed, remembered where the log's own file is not."""

    def get(self) -> Checkpoint | None: ...

    def put(self, checkpoint: Checkpoint) -> None: ...


class _Batch:
    """Entries next to each other, and who is told. `first`: the index of the first, if durable."""

    __slots__ = ("done", "entries", "first")

    def __init__(self, entries: Sequence[bytes], done: Done | None) -> None:
        self.entries, self.done = entries, done
        self.first: int | None = None


class Log:
    """Thread-safe. `append` returns when the entry is durable, `submit` at once."""

    def __init__(
        self, store: Store, signer: LogSigner, mark: Mark, *, shared: bool = False
    ) -> None:
        store.lock(wait=LOCK_SECONDS if shared else 0)
        try:
            self._store, self._signer, self._mark = store, signer, mark
            self._shared = shared
            self._edge = stored.restore(store)
            self._turn_seen = stored.turn_of(store)
            self._seen: Seen | None = None  # the checkpoint that is there for others
            self._last = self._check_published()
        except BaseException:
            store.close()
            raise
        self._pending: list[_Batch] = []
        self._submitted = self._settled = 0  # entries of ours
        guard = threading.RLock()
        self._turn = threading.Condition(guard)
        self._stirred = threading.Condition(guard)  # something waits to be written
        self._signing = threading.Lock()
        self._busy = False
        self._ended: str | None = None
        if shared:
            store.unlock()

    @property
    def size(self) -> int:
        """How many entries are durable, as far as we know."""
        return self._edge.size

    @property
    def alive(self) -> bool:
        """Whether it takes entries: not after a write failed, nor when it is closed."""
        return self._ended is None

    @property
    def empty(self) -> bool:
        """Whether nothing was ever published."""
        return self.seen is None

    @property
    def seen(self) -> Seen | None:
        """The last checkpoint that is there for others."""
        if self._shared or self._seen is None:
            self._look()
        return self._seen

    @property
    def unpublished(self) -> bool:
        """Whether there are entries that no checkpoint has."""
        seen = self.seen
        with self._turn:
            size = self._edge.size + self._submitted - self._settled
        if self._shared:  # of somebody, perhaps, who is not there any more
            size = max(size, stored.size_of(self._store))
        return seen is None or size > seen.checkpoint.size

    def append(self, entry: bytes) -> int:
        """Write one entry; its index, once it is durable."""
        return self.append_all([entry])[0]

    def append_all(self, entries: Sequence[bytes]) -> range:
        """Write several entries, next to each other."""
        with self._turn:
            if not entries:
                return range(self._edge.size, self._edge.size)
            batch = self._submit(entries, None)
            while batch.first is None:
                self._step()
            return range(batch.first, batch.first + len(entries))

    def submit(self, entry: bytes, done: Done | None = None) -> None:
        """Queue an entry. `done(error, index)` is called once, when it is durable or never will be.

        It is called by whoever writes, and must neither wait nor raise.
        """
        with self._turn:
            self._submit([entry], done)
            crowded = self._submitted - self._settled >= limits.LEDGER_PENDING
        if crowded:  # whoever writes faster than the disk waits for it
            self.settle()

    def settle(self) -> None:
        """Return when everything submitted is durable.

        Whoever comes first writes for all who wait; the others come in the next transaction.
        """
        with self._turn:
            goal = self._submitted
            while self._settled < goal:
                self._step()

    def await_entries(self, seconds: float) -> bool:
        """Whether something waits to be written; returns as soon as it does, or after `stir`."""
        with self._turn:
            return bool(self._pending) or (self._stirred.wait(seconds) and bool(self._pending))

    def stir(self) -> None:
        """Wake who is in `await_entries`."""
        with self._turn:
            self._stirred.notify_all()

    def publish(self, *, time: int) -> bytes:
        """Sign a checkpoint over all that is submitted. `time`: seconds since 1970.

        A clock that was set back is not believed: a checkpoint is not earlier than the last.
        """
        self.settle()
        with self._signing, self._still():
            edge = self._edge  # never changed, only replaced
            made = Checkpoint(self._signer.keys.origin, edge.size, edge.root())
            reader = TileReader(Static(self._store, edge), made)
            for earlier in (self._last, self._mark.get()):
                if earlier is not None:
                    check_goes_on(reader, earlier)
            self._mark.put(made)
            after = time if self._seen is None else max(time, self._seen.time)
            signed = self._signer.sign(made, time=after)
            self._store.commit(put=[(CHECKPOINT, signed)])
            self._last, self._seen = made, self._signer.keys.open(signed)
            return signed

    def attach(self, lines: bytes, *, witness: Sequence[NoteKey]) -> None:
        """Publish a witness's cosignature of the last checkpoint with it."""
        with self._signing, self._still():
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
                left = self._end("it is closed")
                self._stirred.notify_all()
            self._store.close()
            _tell(left, self._failure())

    def _submit(self, entries: Sequence[bytes], done: Done | None) -> _Batch:
        """With the turn held."""
        self._check_alive()
        for entry in entries:
            if len(entry) > limits.LEDGER_ENTRY_BYTES:
                raise FormatError(
                    f"an entry of {len(entry)} bytes is longer than {limits.LEDGER_ENTRY_BYTES}"
                )
        batch = _Batch(entries, done)
        if not self._pending:
            self._stirred.notify()
        self._pending.append(batch)
        self._submitted += len(entries)
        return batch

    def _step(self) -> None:
        """With the turn held: write what waits, or wait for who does."""
        self._check_alive()
        if self._busy:
            self._turn.wait()
        else:
            self._write()

    def _write(self) -> None:
        """With the turn held, which others get while the disk works."""
        batches, self._pending = self._pending, []
        self._busy = True
        self._turn.release()
        first: int | None = None
        try:
            with self._locked():
                first = self._edge.size
                entries = [entry for batch in batches for entry in batch.entries]
                self._edge, self._turn_seen = stored.write(self._store, self._edge, entries)
        except BaseException:
            first = None
            raise
        finally:
            with self._turn:
                self._busy = False
                if first is None:
                    batches += self._end("a write failed")
                else:
                    for batch in batches:
                        batch.first = first
                        first += len(batch.entries)
                        self._settled += len(batch.entries)
                self._turn.notify_all()
            try:
                _tell(batches, None if first is not None else self._failure())
            finally:
                self._turn.acquire()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The store's lock, with what others have written before us taken in."""
        if not self._shared:
            yield
            return
        self._store.lock(wait=LOCK_SECONDS)
        try:
            self._follow()
            yield
        finally:
            self._store.unlock()

    @contextlib.contextmanager
    def _still(self) -> Iterator[None]:
        """Locked, and in a shared log nothing of ours is written meanwhile."""
        with self._turn:
            while self._shared and self._busy:
                self._turn.wait()
            self._check_alive()
            if self._shared:
                self._busy = True
        try:
            with self._locked():
                yield
        finally:
            if self._shared:
                with self._turn:
                    self._busy = False
                    self._turn.notify_all()

    def _follow(self) -> None:
        """Rule 1, with the store's lock."""
        turn = stored.turn_of(self._store)
        if turn != self._turn_seen:
            self._edge, self._turn_seen = stored.follow(self._store, self._edge), turn
        self._look()
        if self._seen is not None:
            self._last = self._seen.checkpoint

    def _look(self) -> None:
        data = self._store.get(CHECKPOINT)
        if data is not None and (self._seen is None or data != self._seen.note):
            self._seen = self._signer.keys.open(data)

    def _check_alive(self) -> None:
        if self._ended is not None:
            raise self._failure()

    def _failure(self) -> CountersealError:
        return CountersealError(
            f"the ledger takes no more entries: {self._ended}", hint="open it again"
        )

    def _end(self, why: str) -> list[_Batch]:
        """With the turn held: what is never written."""
        self._ended = why
        left, self._pending = self._pending, []
        return left

    def _check_published(self) -> Checkpoint | None:
        """Rule 2. The newer of the checkpoint and the mark, if there are any."""
        static = Static(self._store, self._edge)
        reader = TileReader(
            static, Checkpoint(self._signer.keys.origin, self._edge.size, self._edge.root())
        )
        last: Checkpoint | None = None
        self._look()
        if self._seen is not None:
            last = self._seen.checkpoint
            check_goes_on(reader, last)
        marked = self._mark.get()
        if marked is not None:
            check_goes_on(reader, marked)
            if last is None or marked.size > last.size:
                last = marked
        return last


def _tell(batches: Sequence[_Batch], error: CountersealError | None) -> None:
    """Each is told, whatever another does with it."""
    with contextlib.ExitStack() as told:
        for batch in reversed(batches):
            if batch.done is not None:
                told.callback(batch.done, error, batch.first)
