import signal
import threading
import time

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
    assert all(before <= after for (before, _), (after, _) in zip(seen, seen[1:], strict=False))


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
    assert threading.active_count() == 1


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
        workers.run(
            tasks(500, done, wait=0.01), total=1, count=500, threads=2, progress=progress
        )
    assert len(done) < 500
    assert threading.active_count() == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_control_c(threads):
    """It arrives in the main thread; nobody goes on writing after `run` has returned."""
    done = []
    timer = threading.Timer(0.15, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        workers.run(tasks(2000, done, wait=0.005), total=1, count=2000, threads=threads)
    timer.join()
    assert threading.active_count() == 1
    count = len(done)
    assert 0 < count < 2000
    time.sleep(0.05)
    assert len(done) == count


def test_a_second_control_c_waits_for_the_threads():
    done = []
    timers = [
        threading.Timer(after, interrupt) for after in (0.1, 0.15)
    ]
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        workers.run(tasks(20, done, wait=0.2), total=1, count=20, threads=3)
        time.sleep(1)
    for timer in timers:
        timer.join()
    assert threading.active_count() == 1


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
    assert not started[0].is_alive()
    assert len(done) < 500
