import signal
import threading
import time
from itertools import pairwise

import pytest

from counterseal.exchange import workers


def tasks(count, done, *, wait=0.0):
    def task(number):
        def run(scratch):
            assert len(scratch.plain) == 1 << 20
            time.sleep(wait)
            done.append(number)
            return 10

        return run

    return (task(number) for number in range(count))


BEFORE = set()


@pytest.fixture(autouse=True)
def _threads_before():
    BEFORE.clear()
    BEFORE.update(threading.enumerate())


def alone():
    """No thread of ours is left; one that has told of its end takes a moment to end."""
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - BEFORE and time.monotonic() < deadline:
        time.sleep(0.001)
    return not set(threading.enumerate()) - BEFORE


def interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.mark.parametrize("threads", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_every_task_is_done_once(count, threads):
    done, seen = [], []
    workers.run(
        tasks(count, done),
        total=10 * count,
        count=count,
        threads=threads,
        progress=lambda *now: seen.append(now),
    )
    assert sorted(done) == list(range(count))
    assert seen[-1] == (10 * count, 10 * count)
    assert all(before <= after for (before, _), (after, _) in pairwise(seen))


def test_little_work_needs_no_thread():
    names = []
    workers.run([lambda _: names.append(threading.current_thread()) or 1], total=1, count=1)
    assert names == [threading.main_thread()]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_failure_stops_the_rest(threads):
    done = []

    def failing(_):
        raise KeyError("first")

    def all_tasks():
        yield from tasks(3, done)
        yield failing
        yield from tasks(1000, done, wait=0.01)

    with pytest.raises(KeyError, match="first"):
        workers.run(all_tasks(), total=1, count=1000, threads=threads)
    assert len(done) < 20
    assert alone()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failing_source_of_tasks(threads):
    def all_tasks():
        yield from tasks(2, [])
        raise LookupError("no more")

    with pytest.raises(LookupError):
        workers.run(all_tasks(), total=1, count=9, threads=threads)


def test_a_failing_progress_bar_ends_it():
    def progress(*_):
        raise RuntimeError("terminal gone")

    done = []
    with pytest.raises(RuntimeError, match="terminal gone"):
        workers.run(tasks(500, done, wait=0.01), total=1, count=500, threads=2, progress=progress)
    assert len(done) < 500
    assert alone()


@pytest.mark.parametrize("threads", [1, 3])
def test_control_c(threads):
    """It arrives in the main thread; nobody goes on writing after `run` has returned."""
    done = []
    timer = threading.Timer(0.15, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        workers.run(tasks(2000, done, wait=0.005), total=1, count=2000, threads=threads)
    timer.join()
    assert alone()
    count = len(done)
    assert 0 < count < 2000
    time.sleep(0.05)
    assert len(done) == count


def test_nobody_writes_after_two_control_c():
    """In Python 3.11 `Thread.join` forgets a running thread when Ctrl-C interrupts it."""
    working, late, returned = set(), [], threading.Event()

    def task(_):
        working.add(threading.current_thread())
        time.sleep(0.2)
        if returned.is_set():
            late.append(1)
        return 1

    timers = [threading.Timer(after, interrupt) for after in (0.05, 0.1)]
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        workers.run((task for _ in range(20)), total=20, count=20, threads=3)
    returned.set()
    assert len(working) == 3
    assert alone()
    assert late == []


def test_no_room_for_buffers_is_not_success(monkeypatch):
    def no_room():
        raise MemoryError

    monkeypatch.setattr(workers, "Scratch", no_room)
    for threads in (1, 3):
        with pytest.raises(MemoryError):
            workers.run(tasks(10, []), total=1, count=10, threads=threads)


def test_no_more_threads_than_allowed(monkeypatch):
    monkeypatch.setattr(workers, "MAX_THREADS", 2)
    names = set()
    workers.run(
        ((lambda _: names.add(threading.current_thread().name) or time.sleep(0.001) or 1) for _ in range(50)),
        total=50,
        count=50,
        threads=64,
    )  # fmt: skip
    assert len(names) <= 2


def test_a_thread_that_cannot_start_ends_it(monkeypatch):
    real, started = threading.Thread.start, []

    def start(self):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    done = []
    with pytest.raises(RuntimeError, match="can't start"):
        workers.run(tasks(500, done, wait=0.01), total=1, count=500, threads=3)
    assert alone()
    assert len(done) < 500
