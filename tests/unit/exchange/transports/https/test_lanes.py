"""How many connections carry a transfer."""

import threading
import time
from types import SimpleNamespace

import pytest

from counterseal.errors import Dropped
from counterseal.exchange.transports.https import lanes


class Stream:
    def __init__(self):
        self.link = SimpleNamespace(abort=lambda: None)


class Pool:
    """Connections that carry nothing."""

    def __init__(self):
        self.taken = 0

    def take(self):
        self.taken += 1
        return Stream()

    def give_back(self, stream, *, good):
        pass

    def forget(self):
        pass


class Job:
    def __init__(self, answer):
        self._answer = answer

    def ask(self, stream):
        pass

    def answer(self, stream):
        self._answer()


def run(jobs, **more):
    pool = Pool()
    lanes.run(
        pool,
        jobs,
        tally=lanes.Tally(0, 1),
        patience=5,
        renew=lambda _, left: left,
        progress=lambda *_: None,
        **more,
    )
    return pool.taken


def test_a_second_connection_starts_while_the_line_is_waited_for():
    meet = threading.Barrier(2, timeout=30)  # nobody passes it alone
    assert run([Job(meet.wait) for _ in range(4)], lanes=2, work=lambda: 0.0) == 2


def test_none_starts_while_the_processor_is_waited_for():
    jobs = [Job(lambda: time.sleep(0.02)) for _ in range(25)]
    assert run(jobs, lanes=2, work=time.monotonic) == 1


def test_no_more_start_than_are_allowed():
    jobs = [Job(lambda: time.sleep(0.02)) for _ in range(25)]
    assert run(jobs, lanes=1, work=lambda: 0.0) == 1


def test_a_failure_ends_the_connections_that_there_are():
    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run([Job(fail)] * 3, lanes=3, work=lambda: 0.0)


def test_a_connection_that_is_lost_without_patience():
    def lost():
        raise Dropped("lost")

    pool = Pool()
    with pytest.raises(Dropped):
        lanes.run(
            pool,
            [Job(lost)],
            lanes=1,
            tally=lanes.Tally(0, 1),
            patience=0,
            renew=lambda _, left: left,
            progress=lambda *_: None,
        )
