"""What all workers of one node share: a mapped file, read in a tenth of a microsecond.

    header      epoch, boot, generation of ids in use, key of the id tables
    charters    16384 x (id, boot, arrival time, running requests of each of 64 workers)
    ids         2 generations x 2^20 tags of request ids

The rules:

1. Whoever changes anything holds the lock, which the system releases when a process is killed.
   Each change is one aligned word, or is repeated by the next process: no kill leaves a half.
2. Running requests are counted per worker. Every worker holds a lock of its own while it
   lives: counts of one that is gone are forgotten, and nobody is two workers at once.
3. The epoch starts at random with every file and every boot: one of an earlier life is never
   met again. It only says that something changed, never what.
4. Times are nanoseconds of CLOCK_MONOTONIC. With another boot it is another clock (see gcra).
5. When an id cannot be remembered, its request is refused (`first_time` is False).

The file is of one node: a local file system, no NFS. A `Shared` belongs to the process that
opened it; after a fork the child opens its own.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from counterseal.errors import CountersealError
from counterseal.gateway import gcra
from counterseal.gateway.locks import Lock, claim, is_claimed, open_private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from counterseal.charter.document import Rate

__all__ = ["CHARTERS", "GENERATION_NS", "WORKERS", "Shared"]

CHARTERS: Final = 16_384
WORKERS: Final = 64
GENERATION_NS: Final = 300 * gcra.NANOSECONDS  # an id is remembered for one to two of these

_MAGIC: Final = int.from_bytes(b"csgate01", "little")
_EPOCH, _BOOT, _IN_USE, _BEGUN, _HELD, _HIGH = 1, 2, 3, 4, 5, 6  # words of the header
_KEY: Final = slice(64, 96)
_HEADER_BYTES: Final = 4096

_ID_BYTES: Final = 16
_SLOT_BYTES: Final = _ID_BYTES + 8 + 8 + 4 * WORKERS
_SLOT_WORDS: Final = _SLOT_BYTES // 8
_FIRST_WORD: Final = _HEADER_BYTES // 8
_SLOT_BOOT, _SLOT_ARRIVAL = 2, 3  # words of a slot; a slot without a boot is free
_SLOT_COUNTS: Final = 8  # in half words

_TAGS: Final = 1 << 20
_MOST_TAGS: Final = _TAGS * 7 // 8  # beyond, looking for a free place takes long
_TABLE_BYTES: Final = 8 * _TAGS
_FIRST_TABLE: Final = _HEADER_BYTES + CHARTERS * _SLOT_BYTES
_FILE_BYTES: Final = _FIRST_TABLE + 2 * _TABLE_BYTES

_NEVER: Final = (1 << 64) - 1
_MOST_RUNNING: Final = (1 << 32) - 1


class Shared:
    """Opened by one worker. See the module for the rules."""

    @classmethod
    def open(cls, path: Path, *, worker: int, alone: bool = False) -> Shared:
        """Raises CountersealError if somebody else is this worker.

        `alone`: there is no other worker on this node, so that counting needs no lock of the
        system; commands beside it only ever change the epoch.
        """
        if not 0 <= worker < WORKERS:
            raise ValueError(f"a node has {WORKERS} workers at most")
        descriptor = open_private(path, os.O_CREAT)
        try:
            return cls(descriptor, path, worker, alone=alone)
        except BaseException:
            os.close(descriptor)
            raise

    @staticmethod
    def bump_at(path: Path) -> int | None:
        """The next epoch, for the workers of a gateway that may run. None: there is no file."""
        try:
            descriptor = open_private(path, 0)
        except FileNotFoundError:
            return None
        try:
            with Lock(descriptor):
                if not any(os.pread(descriptor, 8, 0)):  # nobody has begun yet
                    return None
                _check(descriptor, path)
                with (
                    mmap.mmap(descriptor, _HEADER_BYTES) as header,
                    memoryview(header) as view,
                    view.cast("Q") as words,
                ):
                    words[_EPOCH] += 1
                    return words[_EPOCH]
        finally:
            os.close(descriptor)

    def __init__(self, descriptor: int, path: Path, worker: int, *, alone: bool) -> None:
        self._descriptor = descriptor
        self._lock = Lock(descriptor)
        self._counting = threading.Lock() if alone else self._lock
        self._worker = worker
        self._places: dict[bytes, int] = {}
        self._boot = _boot()
        with self._lock:
            if not claim(descriptor, worker):
                raise CountersealError(
                    f"worker {worker} of this gateway is running already ({path})",
                    hint="a gateway is started once on a node; stop the other one",
                )
            if os.fstat(descriptor).st_size == 0:
                os.ftruncate(descriptor, _FILE_BYTES)
            self._map = mmap.mmap(descriptor, _FILE_BYTES) if _whole(descriptor) else None
            if self._map is None:
                raise _not_ours(path)
            self._bytes = memoryview(self._map)
            self._words = self._bytes.cast("Q")
            self._counts = self._bytes.cast("I")
            try:
                self._begin(path)
            except BaseException:
                self._unmap()
                raise

    def _begin(self, path: Path) -> None:
        words = self._words
        if words[0] == 0:
            self._bytes[_KEY] = secrets.token_bytes(_KEY.stop - _KEY.start)
            words[0] = _MAGIC
        if words[0] != _MAGIC:
            raise _not_ours(path)
        self._key = bytes(self._bytes[_KEY])
        if words[_BOOT] != self._boot:
            words[_EPOCH] = secrets.randbits(62)
            words[_BEGUN] = _NEVER  # of another clock: begun now, when `now` is known
            words[_BOOT] = self._boot
        words[_HIGH] = max(words[_HIGH], self._worker + 1)
        gone = [one for one in range(words[_HIGH]) if not self._lives(one)]
        for place in self._taken():
            for one in (self._worker, *gone):
                self._counts[2 * place + _SLOT_COUNTS + one] = 0

    @property
    def epoch(self) -> int:
        return self._words[_EPOCH]

    def bump(self) -> int:
        with self._lock:
            self._words[_EPOCH] += 1
            return self._words[_EPOCH]

    def admit(self, charter: bytes, *, now_ns: int, rate: Rate | None) -> int:
        """0 if this request is admitted at this rate, else the nanoseconds to wait."""
        if rate is None:
            return 0
        count, seconds, burst = rate.count, rate.seconds, rate.burst
        words = self._words
        with self._counting:
            place = self._place(charter)
            arrival = words[place + _SLOT_ARRIVAL]
            if words[place + _SLOT_BOOT] != self._boot:
                arrival = gcra.recalled(
                    arrival, now=now_ns, count=count, seconds=seconds, burst=burst
                )
                words[place + _SLOT_ARRIVAL] = arrival
                words[place + _SLOT_BOOT] = self._boot
            new, wait = gcra.admit(arrival, now=now_ns, count=count, seconds=seconds, burst=burst)
            if new is not None:
                words[place + _SLOT_ARRIVAL] = new
            return wait

    def enter(self, charter: bytes, *, limit: int) -> int:
        """How many run with this one. More than `limit`: there was no room, and it is not in."""
        limit = min(limit, _MOST_RUNNING)
        with self._counting:
            first = 2 * self._place(charter) + _SLOT_COUNTS
            running = self._running(first)
            if running >= limit:
                self._forget_gone(first)
                running = self._running(first)
            if running < limit:
                self._counts[first + self._worker] += 1
            return running + 1

    def leave(self, charter: bytes) -> None:
        """One that entered here has ended."""
        with self._counting:
            own = 2 * self._place(charter) + _SLOT_COUNTS + self._worker
            if self._counts[own] == 0:
                raise RuntimeError("more requests left than entered")
            self._counts[own] -= 1

    def first_time(self, tag: bytes, *, now: int) -> bool:
        """Whether nobody on this node came with `tag` in the last five minutes, or more.

        False also when more came than can be remembered (900,000 in five minutes): ask only for
        requests that kept to their rate. `tag` names the charter too, so that partners do not
        meet. It is hashed with a key of this file: nobody can choose where it is kept. `now`:
        nanoseconds of one clock for all; one that goes back makes it remember longer.
        """
        digest = hashlib.blake2b(tag, key=self._key, digest_size=8).digest()
        number = int.from_bytes(digest, "little") or 1
        with self._counting:
            self._turn(now)
            words, in_use = self._words, self._words[_IN_USE]
            if words[self._find(1 - in_use, number)]:
                return False
            at = self._find(in_use, number)
            if words[at] or words[_HELD] >= _MOST_TAGS:
                return False
            words[_HELD] += 1  # before the tag: a kill between leaves one too many
            words[at] = number
            return True

    def close(self) -> None:
        """Requests that still run here are forgotten."""
        if self._map is None:
            return
        with self._lock:
            for place in self._taken():
                self._counts[2 * place + _SLOT_COUNTS + self._worker] = 0
        self._unmap()
        os.close(self._descriptor)

    def _place(self, charter: bytes) -> int:
        """The word at which the slot of a charter begins; a new one if it has none."""
        known = self._places.get(charter)
        if known is not None:
            return known
        if len(charter) != _ID_BYTES:
            raise ValueError("the id of a charter has 16 bytes")
        start = int.from_bytes(charter[:8], "little")
        for step in range(CHARTERS):
            number = (start + step) % CHARTERS
            place = _FIRST_WORD + number * _SLOT_WORDS
            name = slice(8 * place, 8 * place + _ID_BYTES)
            if not self._words[place + _SLOT_BOOT]:
                self._bytes[name] = charter
                self._words[place + _SLOT_BOOT] = self._boot  # last: now it is taken
            if bytes(self._bytes[name]) == charter:
                self._places[charter] = place
                return place
        raise CountersealError(
            f"this gateway has met {CHARTERS} charters, and there is no room for another",
            hint="stop it, remove its file of shared counts, and start it again",
        )

    def _taken(self) -> Iterator[int]:
        for number in range(CHARTERS):
            place = _FIRST_WORD + number * _SLOT_WORDS
            if self._words[place + _SLOT_BOOT]:
                yield place

    def _running(self, first: int) -> int:
        return sum(self._counts[first : first + self._words[_HIGH]])

    def _forget_gone(self, first: int) -> None:
        for one in range(self._words[_HIGH]):
            if self._counts[first + one] and not self._lives(one):
                self._counts[first + one] = 0

    def _lives(self, worker: int) -> bool:
        return worker == self._worker or is_claimed(self._descriptor, worker)

    def _turn(self, now: int) -> None:
        """Begin a new generation of ids when the one in use is old enough."""
        words = self._words
        if words[_BEGUN] == _NEVER or now < words[_BEGUN]:
            words[_BEGUN] = now  # kept longer than need be, never shorter
        age = now - words[_BEGUN]
        if age < GENERATION_NS:
            return
        # The other one is cleared before it is used: a kill between is done again.
        turns = 2 if age >= 2 * GENERATION_NS else 1
        for _ in range(turns):
            other = 1 - words[_IN_USE]
            start = _FIRST_TABLE + other * _TABLE_BYTES
            self._bytes[start : start + _TABLE_BYTES] = bytes(_TABLE_BYTES)
            words[_IN_USE] = other
            words[_HELD] = 0  # last: a kill between refuses too much, not too little
        words[_BEGUN] = now

    def _find(self, generation: int, number: int) -> int:
        """The word that holds `number`, or the free one where it would be."""
        words = self._words
        first = (_FIRST_TABLE + generation * _TABLE_BYTES) // 8
        at = number % _TAGS
        while words[first + at] not in {0, number}:
            at = (at + 1) % _TAGS
        return first + at

    def _unmap(self) -> None:
        if self._map is not None:
            for view in (self._words, self._counts, self._bytes):
                view.release()
            self._map.close()
            self._map = None


def _whole(descriptor: int) -> bool:
    return os.fstat(descriptor).st_size == _FILE_BYTES


def _check(descriptor: int, path: Path) -> None:
    if not _whole(descriptor) or os.pread(descriptor, 8, 0) != _MAGIC.to_bytes(8, "little"):
        raise _not_ours(path)


def _boot() -> int:
    """Another number after every start of the machine; never 0."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return int(text.replace("-", "")[:16], 16) | 1


def _not_ours(path: Path) -> CountersealError:
    return CountersealError(
        f"{path} is not a file of this release's gateway",
        hint="stop the gateway, remove the file, and start it again",
    )
