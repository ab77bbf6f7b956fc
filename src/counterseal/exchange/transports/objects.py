"""A transport over anything that stores named bytes: a folder, a stick, a bucket, a dictionary.

    boxes/BOX/letters/TIME-DIGEST   count of blocks, their names, then the letter: one object
    boxes/BOX/blocks/NAME           BLAKE3-256 of its bytes
    boxes/BOX/board                 the letter put up

Each box has its own blocks, so whoever cleans one up takes nothing from another. An object
appears whole or not at all (the store's promise); the letter is written last. After that the
sender looks once more: a receiver may just have taken away blocks that both letters share.
"""

from __future__ import annotations

import contextlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import DIGEST_BYTES, sha256
from counterseal.errors import Dropped, FormatError
from counterseal.exchange.transports import Waiting, silent
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from counterseal.exchange.transports import BlockSink, BlockSource, Progress

__all__ = ["ObjectTransport", "Objects"]

POLL_SECONDS: Final = 0.5
COUNT_BYTES: Final = 4
MAX_BLOCKS: Final = 32_768
MAX_OBJECT: Final = COUNT_BYTES + DIGEST_BYTES * MAX_BLOCKS + limits.LETTER_BYTES
_LETTER: Final = re.compile(r"[0-9]{20}-[0-9a-f]{32}")


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
        self._upload(box, names, blocks, progress)
        digest = sha256(bind("stored letter", letter))[:16].hex()
        there = [name for name in self._letters(box) if name.endswith(digest)]
        place = there[0] if there else f"{int(self._now() * 1000):020d}-{digest}"
        data = b"".join([len(names).to_bytes(COUNT_BYTES, "big"), *map(bytes.fromhex, names)])
        self._objects.put(f"boxes/{box}/letters/{place}", data + letter)
        self._upload(box, names, blocks, silent)

    def waiting(self, boxes: Sequence[str], *, wait: float) -> Iterator[Waiting]:
        deadline = self._now() + wait
        while True:
            found = False
            for box in boxes:
                for name in self._letters(box):
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
            data = self._objects.get(place, limit=sink.size(name))
            if data is None:
                raise Dropped(
                    "a block of this shipment is gone from the store",
                    hint="ask the sender to send it again; what arrived is kept",
                )
            sink.put(name, data)
            counted.add(len(data))

        self._each(bring, missing)

    def done(self, letter: Waiting) -> None:
        place = f"boxes/{letter.box}/letters/{letter.id}"
        stored = self._objects.get(place, limit=MAX_OBJECT)
        self._objects.delete(place)
        if stored is None:
            return
        gone = set(_split(stored)[0])
        for name in self._letters(letter.box):
            other = self._objects.get(f"boxes/{letter.box}/letters/{name}", limit=MAX_OBJECT)
            with contextlib.suppress(FormatError):
                gone -= set(_split(other)[0]) if other is not None else set()
        for name in gone:
            self._objects.delete(f"boxes/{letter.box}/blocks/{name}")

    def publish(self, box: str, letter: bytes) -> None:
        self._objects.put(f"boxes/{box}/board", letter)

    def lookup(self, box: str) -> bytes | None:
        return self._objects.get(f"boxes/{box}/board", limit=limits.LETTER_BYTES)

    def close(self) -> None:
        """Nothing is held open."""

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

    def _letters(self, box: str) -> list[str]:
        names = self._objects.names(f"boxes/{box}/letters")
        return sorted(name for name in names if _LETTER.fullmatch(name))

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

    def add(self, count: int) -> None:
        self._done += count
        self._progress(self._done, self._total)


def _split(stored: bytes) -> tuple[list[str], bytes]:
    """The names of the blocks, and the letter."""
    count = int.from_bytes(stored[:COUNT_BYTES], "big")
    end = COUNT_BYTES + DIGEST_BYTES * count
    if len(stored) < max(end, COUNT_BYTES) or count > MAX_BLOCKS:
        raise FormatError("a stored letter is cut short")
    listed = stored[COUNT_BYTES:end]
    names = [listed[i : i + DIGEST_BYTES].hex() for i in range(0, len(listed), DIGEST_BYTES)]
    return names, stored[end:]
