"""The workers here are real processes, and what kills them is SIGKILL."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from counterseal.charter.document import Rate
from counterseal.errors import CountersealError, TrustError
from counterseal.gateway import shared
from counterseal.gateway.shared import CHARTERS, GENERATION_NS, Shared

CHARTER, OTHER = bytes(range(16)), bytes(16)
SECOND = 1_000_000_000
RATE = Rate(count=10, seconds=1, burst=5)
NOW = 50 * SECOND

WORKER = """
import sys
from pathlib import Path
from counterseal.charter.document import Rate
from counterseal.gateway.shared import Shared

charter = bytes(range(16))
rate = Rate(count=10, seconds=1, burst=500)
worker = Shared.open(Path(sys.argv[1]), worker=int(sys.argv[2]))
print("open", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Worker:
    """`ask` evaluates an expression of `worker` in another process."""

    def __init__(self, path, number):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.answer() == "open"

    def tell(self, expression):
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().strip()

    def ask(self, expression):
        self.tell(expression)
        return eval(self.answer())  # noqa: S307 - what our own worker printed

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shared"


@pytest.fixture
def start(path):
    """Starts worker processes, and ends them."""
    started = []

    def start(number):
        started.append(Worker(path, number))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture
def opened(path):
    """Opens workers in this process, and closes them."""
    found = []

    def opened(number=0):
        found.append(Shared.open(path, worker=number))
        return found[-1]

    yield opened
    for one in found:
        one.close()


def test_the_epoch_is_one_number_for_all(path, opened, start):
    ours, theirs = opened(0), start(1)
    before = ours.epoch
    assert theirs.ask("worker.epoch") == before
    assert ours.bump() == before + 1 == theirs.ask("worker.epoch")
    assert Shared.bump_at(path) == before + 2 == ours.epoch
    assert theirs.ask("worker.bump()") == ours.epoch == before + 3


def test_a_bump_where_no_gateway_ever_ran_makes_no_file(path):
    assert Shared.bump_at(path) is None
    assert not path.exists()


def test_a_file_that_a_kill_left_empty_is_begun_anew(path, opened):
    for size in (0, shared._FILE_BYTES):
        path.touch(mode=0o600)
        os.truncate(path, size)
        assert Shared.bump_at(path) is None
        assert opened().enter(CHARTER, limit=1) == 1
        path.unlink()


def test_the_epoch_of_a_new_file_was_never_met_before(path, opened):
    before = opened(0).epoch
    path.unlink()
    assert opened(1).epoch not in range(before, before + 1000)


def test_an_epoch_stays_over_a_restart_but_not_over_a_boot(path, opened, monkeypatch):
    first = opened(0)
    epoch = first.bump()
    first.close()
    second = opened(0)
    assert second.epoch == epoch
    second.close()
    monkeypatch.setattr(shared, "_boot", lambda: 77)
    assert opened(0).epoch not in range(epoch, epoch + 1000)


def test_a_rate_holds_for_all_workers_together(opened, start):
    ours, theirs = opened(0), start(1)
    waits = [ours.admit(CHARTER, now_ns=NOW, rate=RATE) for _ in range(3)]
    ask = f"worker.admit(charter, now_ns={NOW}, rate=Rate(count=10, seconds=1, burst=5))"
    waits += [theirs.ask(ask) for _ in range(3)]
    assert waits == [0] * 5 + [SECOND // 10]
    assert ours.admit(OTHER, now_ns=NOW, rate=RATE) == 0  # another charter, another rate
    assert ours.admit(CHARTER, now_ns=NOW + SECOND // 10, rate=RATE) == 0
    assert ours.admit(CHARTER, now_ns=NOW, rate=None) == 0


def test_four_processes_at_once_admit_what_one_would(start):
    workers = [start(number) for number in range(4)]
    for one in workers:
        one.tell(f"sum(worker.admit(charter, now_ns={NOW}, rate=rate) == 0 for _ in range(400))")
    assert sum(int(one.answer()) for one in workers) == 500


def test_a_rate_that_was_kept_over_a_boot_delays_by_one_interval_at_most(opened, monkeypatch):
    before = opened(0)
    for _ in range(5):
        assert before.admit(CHARTER, now_ns=10**6 * SECOND, rate=RATE) == 0
    before.close()
    monkeypatch.setattr(shared, "_boot", lambda: 77)
    after = opened(0)
    assert after.admit(CHARTER, now_ns=NOW, rate=RATE) == SECOND // 10
    assert after.admit(CHARTER, now_ns=NOW + SECOND // 10, rate=RATE) == 0


def test_running_requests_are_counted_over_all_workers(opened, start):
    ours, theirs = opened(0), start(1)
    assert ours.enter(CHARTER, limit=3) == 1
    assert theirs.ask("worker.enter(charter, limit=3)") == 2
    assert ours.enter(CHARTER, limit=3) == 3
    assert theirs.ask("worker.enter(charter, limit=3)") == 4  # no room: it is not in
    assert ours.enter(OTHER, limit=1) == 1
    ours.leave(CHARTER)
    assert theirs.ask("worker.enter(charter, limit=3)") == 3


def test_four_processes_at_once_never_run_more_than_the_limit(start):
    workers = [start(number) for number in range(4)]
    for one in workers:
        one.tell("sum(worker.enter(charter, limit=100) <= 100 for _ in range(60))")
    assert sum(int(one.answer()) for one in workers) == 100


def test_who_did_not_enter_cannot_leave(opened):
    ours, other = opened(0), opened(1)
    other.enter(CHARTER, limit=5)
    with pytest.raises(RuntimeError):
        ours.leave(CHARTER)


def test_a_killed_worker_leaves_no_running_requests_behind(opened, start):
    ours, theirs = opened(0), start(1)
    assert [theirs.ask("worker.enter(charter, limit=2)") for _ in range(2)] == [1, 2]
    assert ours.enter(CHARTER, limit=2) == 3
    theirs.kill()
    assert ours.enter(CHARTER, limit=2) == 1  # found out when the room was needed


def test_opening_clears_what_this_worker_and_the_dead_had_running(opened, start):
    start_one, start_two = start(1), start(2)
    start_one.ask("worker.enter(charter, limit=9)")
    start_two.ask("worker.enter(charter, limit=9)")
    start_one.kill()
    start_two.kill()
    assert opened(1).enter(CHARTER, limit=9) == 1


def test_one_killed_while_it_enters_holds_up_nobody(opened, start):
    ours = opened(0)
    for number in range(1, 6):
        theirs = start(number)
        theirs.tell(
            "[(worker.enter(charter, limit=10**6), worker.leave(charter)) for _ in iter(int, 1)]"
        )
        for _ in range(20):
            ours.enter(OTHER, limit=100)
            ours.leave(OTHER)
        theirs.kill()
    assert ours.enter(CHARTER, limit=1) == 1


def test_nobody_is_a_worker_that_runs(path, opened, start):
    theirs = start(1)
    with pytest.raises(CountersealError, match=r"worker 1 .* is running already"):
        Shared.open(path, worker=1)
    theirs.kill()
    opened(1)


def test_threads_of_one_worker_count_as_exactly(opened):
    ours = opened(0)
    ours.admit(CHARTER, now_ns=NOW, rate=RATE)
    granted = []

    def many():
        granted.extend(ours.enter(CHARTER, limit=500) <= 500 for _ in range(300))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(granted) == 500


def test_an_id_is_new_once_on_any_worker(opened, start):
    ours, theirs = opened(0), start(1)
    assert ours.first_time(b"charter request", now=NOW)
    assert not ours.first_time(b"charter request", now=NOW)
    assert not theirs.ask(f"worker.first_time(b'charter request', now={NOW})")
    assert theirs.ask(f"worker.first_time(b'charter other', now={NOW})")
    assert not ours.first_time(b"charter other", now=NOW)


def test_an_id_is_remembered_for_five_minutes_at_least(opened):
    ours = opened()
    assert ours.first_time(b"early", now=NOW)
    assert ours.first_time(b"late", now=NOW + GENERATION_NS - 1)
    assert not ours.first_time(b"late", now=NOW + 2 * GENERATION_NS - 2)
    assert not ours.first_time(b"early", now=NOW + 2 * GENERATION_NS - 1)
    assert ours.first_time(b"early", now=NOW + 3 * GENERATION_NS)


def test_after_a_long_silence_nothing_is_remembered(opened):
    ours = opened()
    assert ours.first_time(b"a", now=NOW)
    assert ours.first_time(b"a", now=NOW + 2 * GENERATION_NS)


def test_a_boot_forgets_no_id(opened, monkeypatch):
    before = opened(0)
    assert before.first_time(b"a", now=NOW)
    before.close()
    monkeypatch.setattr(shared, "_boot", lambda: 77)
    after = opened(0)
    assert not after.first_time(b"a", now=NOW + 9 * GENERATION_NS)  # of another clock


def test_when_no_more_ids_can_be_remembered_new_ones_are_refused(opened, monkeypatch):
    monkeypatch.setattr(shared, "_MOST_TAGS", 10)
    ours = opened()
    assert [ours.first_time(b"%d" % number, now=NOW) for number in range(12)] == (
        [True] * 10 + [False] * 2
    )
    assert ours.first_time(b"11", now=NOW + GENERATION_NS)


def test_a_charter_too_many_is_said_clearly(opened, monkeypatch):
    monkeypatch.setattr(shared, "CHARTERS", 3)
    ours = opened()
    for number in range(3):
        ours.enter(bytes([number]) * 16, limit=1)
    with pytest.raises(CountersealError, match="no room for another") as caught:
        ours.enter(bytes([9]) * 16, limit=1)
    assert caught.value.hint
    assert ours.enter(bytes([2]) * 16, limit=1) == 2


def test_ids_of_charters_that_fall_on_one_place_are_told_apart(opened):
    ours, other = opened(0), opened(1)
    same = [bytes(8) + bytes([number]) * 8 for number in range(4)]
    for number, charter in enumerate(same):
        for _ in range(number + 1):
            ours.enter(charter, limit=9)
    assert [other.enter(charter, limit=9) for charter in same] == [2, 3, 4, 5]
    assert CHARTERS == 16_384


def test_the_file_is_only_for_its_owner(path, opened):
    opened()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o620)
    with pytest.raises(TrustError):
        Shared.open(path, worker=2)
    with pytest.raises(TrustError):
        Shared.bump_at(path)


def test_a_link_is_not_followed(tmp_path, path):
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Shared.open(path, worker=0)


@pytest.mark.parametrize("content", [b"x", b"x" * shared._FILE_BYTES])
def test_what_is_no_such_file_is_left_alone(path, content):
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(CountersealError, match="not a file of this release") as caught:
        Shared.open(path, worker=0)
    assert caught.value.hint
    with pytest.raises(CountersealError):
        Shared.bump_at(path)
    assert path.read_bytes() == content


def test_after_a_fork_the_child_may_not_use_it(opened):
    ours = opened()
    child = os.fork()
    if child == 0:
        try:
            ours.bump()
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
