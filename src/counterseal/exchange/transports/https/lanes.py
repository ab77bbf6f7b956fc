"""Several connections at once: each takes the next job when it has room for one.

The first starts alone, and the others while the line is what everybody waits for: where it is
the processor, more of them would only wait for each other.

A job is asked for before the answer to the one before it has come (`DEPTH`): on a long line,
waiting for each block would cost more than the block. Where a connection is lost, its lane goes
on with a new one, until nothing has moved anywhere for `patience` seconds.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from counterseal.errors import Dropped, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from counterseal.exchange.transports import Progress
    from counterseal.exchange.transports.https.http1 import Stream
    from counterseal.exchange.transports.https.pool import Pool

__all__ = ["Job", "Tally", "run"]

DEPTH: Final = 2
LOOK_EVERY: Final = 0.1
BUSY: Final = 0.35  # of a processor: then another connection would not carry more
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0


class Tally:
    """Bytes done, over all lanes."""

    def __init__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.done += count


class Job(Protocol):
    """One block. When the connection was lost, `ask` and `answer` are called again."""

    def ask(self, stream: Stream) -> None: ...

    def answer(self, stream: Stream) -> None: ...


J = TypeVar("J", bound=Job)


class _Lanes(Generic[J]):
    def __init__(
        self,
        pool: Pool,
        jobs: Iterable[J],
        *,
        tally: Tally,
        patience: float,
        renew: Callable[[Stream, Sequence[J]], Sequence[J]],
    ) -> None:
        self.tally = tally
        self.failure: BaseException | None = None
        self.ended: set[threading.Thread] = set()
        self.news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._pool = pool
        self._jobs = iter(jobs)
        self._patience = patience
        self._renew = renew
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        self._stop = threading.Event()

    def work(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            self.fail(error)
        finally:
            self.ended.add(threading.current_thread())
            self.news.put(None)

    def fail(self, error: BaseException) -> None:
        """The first failure counts; everybody else ends at once."""
        with self._lock:
            self.failure = self.failure or error
            self._stop.set()
            for stream in self._streams:
                stream.link.abort()

    def _next(self) -> J | None:
        with self._lock:
            return None if self._stop.is_set() else next(self._jobs, None)

    def _work(self) -> None:
        waiting: deque[J] = deque()
        moved, since, pause = self.tally.done, time.monotonic(), FIRST_PAUSE
        while not self._stop.is_set():
            try:
                self._with_connection(waiting)
            except (Dropped, TimedOut):
                self._pool.forget()
                if self.tally.done != moved:
                    moved, since, pause = self.tally.done, time.monotonic(), FIRST_PAUSE
                if self._stop.is_set() or time.monotonic() + pause > since + self._patience:
                    raise
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def _with_connection(self, waiting: deque[J]) -> None:
        """Do jobs until there are none; `waiting` are those without an answer."""
        stream = self._pool.take()
        with self._lock:
            self._streams.add(stream)
        good = False
        try:
            if waiting:
                left = self._renew(stream, list(waiting))
                waiting.clear()
                waiting.extend(left)
            for begun in waiting:
                _ask(begun, stream, waiting)
            while True:
                while len(waiting) < DEPTH and (job := self._next()) is not None:
                    waiting.append(job)
                    _ask(job, stream, waiting)
                if not waiting:
                    break
                waiting[0].answer(stream)
                waiting.popleft()
            good = not self._stop.is_set()
        finally:
            with self._lock:
                self._streams.discard(stream)
            self._pool.give_back(stream, good=good)


def _ask(job: J, stream: Stream, waiting: deque[J]) -> None:
    try:
        job.ask(stream)
    except Dropped:
        while waiting:  # it may have said why before it hung up
            waiting[0].answer(stream)
            waiting.popleft()
        raise


def run(
    pool: Pool,
    jobs: Iterable[J],
    *,
    lanes: int,
    tally: Tally,
    patience: float,
    renew: Callable[[Stream, Sequence[J]], Sequence[J]],
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
    work: Callable[[], float] = time.process_time,
) -> None:
    """Do all jobs, over at most so many `lanes`; the first failure stops the rest, is raised here.

    `renew` looks, over a new connection, which of the jobs that were under way are still to be
    done, and from where. The iterable is advanced under a lock; `progress` is called in the
    caller's thread.
    """
    state = _Lanes(pool, jobs, tally=tally, patience=patience, renew=renew)
    # Not `Thread.join`: Ctrl-C in it makes Python 3.11 take a running thread for an ended one.
    threads: list[threading.Thread] = []

    def start() -> tuple[float, float]:
        threads.append(threading.Thread(target=state.work, daemon=True))
        threads[-1].start()
        return clock(), work()

    try:
        at, worked = start()
        while not state.ended.issuperset(threads):
            with contextlib.suppress(queue.Empty):
                state.news.get(timeout=LOOK_EVERY)
            progress(tally.done, tally.total)
            passed = clock() - at
            if len(threads) < lanes and not state.ended and passed >= LOOK_EVERY:
                idle = work() - worked < BUSY * passed
                at, worked = start() if idle else (clock(), work())
    except BaseException as error:  # Ctrl-C arrives here, in the main thread
        state.fail(error)
        while not state.ended.issuperset(t for t in threads if t.ident is not None):
            with contextlib.suppress(queue.Empty, KeyboardInterrupt):
                state.news.get(timeout=0.1)
        raise
    if state.failure is not None:
        raise state.failure
