"""A transport over anything that stores named bytes: a folder, a stick, a bucket, a dictionary.

    boxes/BOX/letters/TIME-DIGEST   count of blocks, their names, then the letter: one object
    boxes/BOX/coming/TIME-DIGEST    the same without the letter, while its blocks are uploaded
    boxes/BOX/blocks/NAME           BLAKE3-256 of its bytes
    boxes/BOX/leaving/TIME-DIGEST   the same, while somebody takes its blocks away
    boxes/BOX/board                 the letter put up

Each box has its own blocks, so whoever cleans one up takes nothing from another. An object
appears whole or not at all (the store's promise); the letter is written after its blocks.

Two letters may share blocks, and a receiver may take away the ones of the first while the
sender counts on them for the second. So a sender announces what is coming before it looks
which blocks are there; a receiver says what is leaving before it looks which are wanted; and
after the letter is written the sender waits for those who leave, and looks once more. What was
announced and never came, or began to leave and never did, is taken away in time.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import DIGEST_BYTES, sha256
from counterseal.errors import BadCiphertext, Dropped, FormatError
from counterseal.exchange.transports import Waiting, silent
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from counterseal.exchange.transports import BlockSink, BlockSource, Progress

__all__ = ["ObjectTransport", "Objects"]

POLL_SECONDS: Final = 0.5
PATIENCE: Final = 60.0  # with somebody who is taking blocks away, or died while at it
DAY: Final = 86_400.0
KEEP_SECONDS: Final = {
    "letters": 367 * DAY,  # all have ended by then
    "coming": 31 * DAY,  # nobody goes on with a letter that has ended
    "leaving": DAY / 24,
}
COUNT_BYTES: Final = 4
MAX_BLOCKS: Final = 32_768
MAX_OBJECT: Final = COUNT_BYTES + DIGEST_BYTES * MAX_BLOCKS + limits.LETTER_BYTES
_PLACE: Final = re.compile(r"[0-9]{20}-[0-9a-f]{32}")


class Objects(Protocol):
    """Named bytes. Names are relative paths of plain components. Raises Dropped if out of reach."""

    parallel: int

    def put(self, name: str, data: bytes) -> None:
        """Whole or not at all; replaces."""
        ...

    def get(self, name: str, *, limit: int) -> bytes | None:
        """None if there is no such object; FormatError if it is longer than `limit`."""
        ...

    def names(self, folder: str) -> Iterable[str]:
        """The last components of what lies directly in a folder; empty if there is none."""
        ...

    def delete(self, name: str) -> None:
        """Also if there is none."""
        ...


class ObjectTransport:
    """Letters and blocks as objects. Satisfies `Transport`."""

    live: Final = False

    def __init__(
        self,
        objects: Objects,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._objects = objects
        self._now = now
        self._sleep = sleep

    def deliver(
        self, box: str, letter: bytes, blocks: BlockSource, *, progress: Progress = silent
    ) -> None:
        names = list(dict.fromkeys(blocks.names))
        place = self._place(box, "letters", letter)
        if names:
            coming = self._place(box, "coming", letter)
            self._objects.put(coming, _list(names))
            self._upload(box, names, blocks, progress)
            self._objects.put(place, _list(names) + letter)
            self._wait_for_leaving(box)
            if self._is_there(box, place):
                self._upload(box, names, blocks, silent)
            self._objects.delete(coming)
            if not self._is_there(box, place):  # received already; our notice kept the blocks
                self._free(box, set(names), instead_of=coming)
        else:
            self._objects.put(place, _list(names) + letter)
        self._tidy(box)

    def waiting(self, boxes: Sequence[str], *, wait: float) -> Iterator[Waiting]:
        deadline = self._now() + wait
        while True:
            found = False
            for box in boxes:
                for name in self._places(box, "letters"):
                    letter = self._letter(box, name)
                    if letter is not None:
                        found = True
                        yield letter
            left = deadline - self._now()
            if found or left <= 0:
                return
            self._sleep(min(POLL_SECONDS, left))

    def fetch(self, letter: Waiting, sink: BlockSink, *, progress: Progress = silent) -> None:
        missing = sink.missing()
        total = sum(map(sink.size, missing))
        counted = _Counted(total, progress)

        def bring(name: str) -> None:
            place = f"boxes/{letter.box}/blocks/{name}"
            try:
                data = self._objects.get(place, limit=sink.size(name))
                if data is None:
                    raise Dropped(
                        "a block of this shipment is gone from the store",
                        hint="ask the sender to send it again; what arrived is kept",
                    )
                sink.put(name, data)
            except (BadCiphertext, FormatError):
                self._objects.delete(place)  # so that the sender's next attempt brings it anew
                raise
            counted.add(len(data))

        self._each(bring, missing)

    def done(self, letter: Waiting) -> None:
        self._take_away(letter.box, "letters", letter.id)
        self._tidy(letter.box)

    def publish(self, box: str, letter: bytes) -> None:
        self._objects.put(f"boxes/{box}/board", letter)

    def lookup(self, box: str) -> bytes | None:
        return self._objects.get(f"boxes/{box}/board", limit=limits.LETTER_BYTES)

    def close(self) -> None:
        """Nothing is held open."""

    def _place(self, box: str, shelf: str, data: bytes) -> str:
        """Where `data` goes: where it is already, if it is."""
        digest = sha256(bind("stored letter", data))[:16].hex()
        there = [name for name in self._places(box, shelf) if name.endswith(digest)]
        place = there[0] if there else f"{int(self._now() * 1000):020d}-{digest}"
        return f"boxes/{box}/{shelf}/{place}"

    def _is_there(self, box: str, place: str) -> bool:
        return place.rpartition("/")[2] in self._places(box, "letters")

    def _take_away(self, box: str, shelf: str, name: str) -> None:
        """Something from a shelf, and the blocks that nothing else lists."""
        blocks, place = self._listed(box, shelf, name), f"boxes/{box}/{shelf}/{name}"
        if blocks:
            self._free(box, blocks, instead_of=place)
        else:
            self._objects.delete(place)

    def _free(self, box: str, blocks: set[str], *, instead_of: str) -> None:
        leaving = self._place(box, "leaving", instead_of.encode())
        self._objects.put(leaving, _list(sorted(blocks)))
        self._objects.delete(instead_of)
        for other in ("coming", "letters"):  # in this order: from there they come to here
            for name in self._places(box, other):
                blocks -= self._listed(box, other, name)
        for block in sorted(blocks):
            self._objects.delete(f"boxes/{box}/blocks/{block}")
        self._objects.delete(leaving)

    def _wait_for_leaving(self, box: str) -> None:
        left = PATIENCE
        while left > 0 and not all(self._old("leaving", p) for p in self._places(box, "leaving")):
            self._sleep(POLL_SECONDS)
            left -= POLL_SECONDS

    def _tidy(self, box: str) -> None:
        for shelf in KEEP_SECONDS:
            for place in self._places(box, shelf):
                if self._old(shelf, place):
                    self._take_away(box, shelf, place)

    def _old(self, shelf: str, place: str) -> bool:
        return int(place[:20]) / 1000 < self._now() - KEEP_SECONDS[shelf]

    def _listed(self, box: str, shelf: str, place: str) -> set[str]:
        """The blocks that something lists; none if it is gone by now, or is not ours."""
        with contextlib.suppress(FormatError):
            stored = self._objects.get(f"boxes/{box}/{shelf}/{place}", limit=MAX_OBJECT)
            if stored:
                return set(_split(stored)[0])
        return set()

    def _upload(
        self, box: str, names: Sequence[str], blocks: BlockSource, progress: Progress
    ) -> None:
        there = set(self._objects.names(f"boxes/{box}/blocks"))
        lacking = [name for name in names if name not in there]
        total = sum(map(blocks.size, names))
        counted = _Counted(total, progress, done=total - sum(map(blocks.size, lacking)))

        def carry(name: str) -> None:
            data = blocks.read(name)
            self._objects.put(f"boxes/{box}/blocks/{name}", data)
            counted.add(len(data))

        self._each(carry, lacking)

    def _each(self, work: Callable[[str], None], names: Sequence[str]) -> None:
        if self._objects.parallel <= 1:
            for name in names:
                work(name)
            return
        with ThreadPoolExecutor(self._objects.parallel) as pool:
            for _ in pool.map(work, names):
                pass

    def _places(self, box: str, shelf: str) -> list[str]:
        names = self._objects.names(f"boxes/{box}/{shelf}")
        return sorted(name for name in names if _PLACE.fullmatch(name))

    def _letter(self, box: str, name: str) -> Waiting | None:
        """None for what is gone by now, and for what is no letter: anyone may write here."""
        try:
            stored = self._objects.get(f"boxes/{box}/letters/{name}", limit=MAX_OBJECT)
            if stored is None:
                return None
            return Waiting(box, name, _split(stored)[1])
        except FormatError:
            return None


class _Counted:
    """Bytes from several threads, told to one watcher."""

    def __init__(self, total: int, progress: Progress, *, done: int = 0) -> None:
        self._total, self._progress, self._done = total, progress, done
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)


def _list(names: Sequence[str]) -> bytes:
    return b"".join([len(names).to_bytes(COUNT_BYTES, "big"), *map(bytes.fromhex, names)])


def _split(stored: bytes) -> tuple[list[str], bytes]:
    """The names of the blocks, and the letter."""
    count = int.from_bytes(stored[:COUNT_BYTES], "big")
    end = COUNT_BYTES + DIGEST_BYTES * count
    if len(stored) < max(end, COUNT_BYTES) or count > MAX_BLOCKS:
        raise FormatError("a stored letter is cut short")
    listed = stored[COUNT_BYTES:end]
    names = [listed[i : i + DIGEST_BYTES].hex() for i in range(0, len(listed), DIGEST_BYTES)]
    return names, stored[end:]
