"""Leaves in parallel: a few threads take tasks from one queue; each has its own two buffers.

AES-GCM, BLAKE3, SHA-256, reads and writes all release the GIL, so two threads do twice the
work. The buffers are reused: page allocation, not the cipher, is what costs (ADR 5).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Final

from counterseal.crypto.chunked import SEALED_LEAF_BYTES
from counterseal.crypto.digest import LEAF_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Task = Callable[["Scratch"], int]

__all__ = ["Scratch", "borrow", "give_back", "run"]

MAX_THREADS: Final = 8  # 2 MiB of buffers each: 16 MiB at most
INLINE_TASKS: Final = 2  # starting threads costs more than this little work


class Scratch:
    """One thread's buffers."""

    __slots__ = ("plain", "sealed")

    def __init__(self) -> None:
        self.plain = memoryview(bytearray(LEAF_BYTES))
        self.sealed = memoryview(bytearray(SEALED_LEAF_BYTES))


_POOL: list[Scratch] = []
POOL_SIZE: Final = 4


def borrow() -> Scratch:
    """Buffers whose pages the kernel has already given us: new ones cost as much as a leaf."""
    try:
        return _POOL.pop()
    except IndexError:
        return Scratch()


def give_back(scratch: Scratch) -> None:
    """Keep buffers for the next package, without what was decrypted into them."""
    scratch.plain[:] = bytes(LEAF_BYTES)
    if len(_POOL) < POOL_SIZE:
        _POOL.append(scratch)


class _Run:
    def __init__(self, tasks: Iterable[Task], spare: list[Scratch]) -> None:
        self._tasks: Iterator[Task] = iter(tasks)
        self._spare = spare
        self._lock = threading.Lock()
        self.done = 0
        self.failure: BaseException | None = None
        self.ended: set[threading.Thread] = set()
        self.news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def work(self) -> None:
        try:
            try:
                scratch = self._spare.pop()
            except IndexError:
                scratch = borrow()
            self._work(scratch)
            self._spare.append(scratch)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            self.failure = self.failure or error
        finally:
            self.ended.add(threading.current_thread())
            self.news.put(None)

    def _work(self, scratch: Scratch) -> None:
        while self.failure is None:
            with self._lock:
                task = next(self._tasks, None)
            if task is None:
                return
            count = task(scratch)
            with self._lock:
                self.done += count

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self.news.get(timeout=seconds)


def run(
    tasks: Iterable[Task],
    *,
    total: int,
    count: int,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
    spare: list[Scratch] | None = None,
) -> None:
    """Do all tasks; the first failure stops the rest and is raised here.

    A task returns how many of `total` bytes it has done. `count` (about how many tasks there
    are) decides whether threads are worth starting. The iterable is advanced under a lock.
    Buffers are taken from `spare`, as far as there are any, and put there.
    """
    wanted = threads or len(os.sched_getaffinity(0))
    state = _Run(tasks, [] if spare is None else spare)
    size = min(wanted, MAX_THREADS, count)
    if size <= 1 or count <= INLINE_TASKS:
        state.work()
    else:
        _in_threads(state, size, total, progress)
    if state.failure is not None:
        raise state.failure
    if progress is not None:
        progress(total, total)


def _in_threads(
    state: _Run, size: int, total: int, progress: Callable[[int, int], None] | None
) -> None:
    # Not `Thread.join`: Ctrl-C in it makes Python 3.11 take a running thread for an ended one.
    pool = [threading.Thread(target=state.work, daemon=True) for _ in range(size)]
    try:
        for thread in pool:
            thread.start()
        while not state.ended.issuperset(pool):
            state.wait(0.1)
            if progress is not None:
                progress(min(state.done, total), total)
    except BaseException as error:  # Ctrl-C arrives here, in the main thread
        state.failure = error
        _wait_for_started(state, pool)
        raise


def _wait_for_started(state: _Run, pool: list[threading.Thread]) -> None:
    """Nobody leaves while a thread may still write: the caller closes its descriptors.

    A thread that has no ident yet will find the failure before it takes a task.
    """
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            while not state.ended.issuperset(t for t in pool if t.ident is not None):
                state.wait(0.1)
            return
