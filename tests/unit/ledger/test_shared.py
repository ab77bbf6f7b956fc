"""Several writers of one log."""

import os
import shutil
import signal
import threading
from datetime import timedelta

import pytest
from ledgers import KEYS, SECONDS, SIGNER, FileMark, Marks, new_store, some
from workshop import AT, Cast

from counterseal.errors import CountersealError, LedgerBroken, RolledBack
from counterseal.ledger import entry as entries
from counterseal.ledger import log as logs
from counterseal.ledger import store as stores
from counterseal.ledger import tree
from counterseal.ledger.entry import Record
from counterseal.ledger.ledger import Ledger
from counterseal.ledger.log import Log
from counterseal.ledger.reader import TileReader
from counterseal.ledger.store import MemoryStore, SqliteStore
from counterseal.ledger.stored import first_rows, restore
from counterseal.ledger.verify import verify


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(logs, "LOCK_SECONDS", 0.05)


def shared(store, mark):
    return Log(store.again(), SIGNER, mark, shared=True)


def root_of(made):
    return tree.root([tree.leaf_hash(entry) for entry in made])


@pytest.mark.parametrize("step", [1, 100, 256, 300, 700])
def test_writers_take_turns_on_one_tree(step):
    store, mark = new_store(), Marks()
    writers = [shared(store, mark) for _ in range(3)]
    size = 0
    for turn in range(7):
        writer = writers[turn % 3]
        assert writer.append_all(some(step, size)) == range(size, size + step)
        size += step
        if turn % 2:
            seen = KEYS.open(writer.publish(time=SECONDS))
            assert (seen.checkpoint.size, seen.checkpoint.root) == (size, root_of(some(size)))
    for writer in writers:
        writer.publish(time=SECONDS)
        assert verify(writer.read, KEYS, read=False).checkpoint.size == size
        writer.close()


def test_one_writer_publishes_what_another_has_written():
    store, mark = new_store(), Marks()
    one, other = shared(store, mark), shared(store, mark)
    one.publish(time=SECONDS)
    one.append(b"entry 0")
    assert other.unpublished
    assert KEYS.open(other.publish(time=SECONDS)).checkpoint.root == root_of(some(1))
    assert not one.unpublished


def test_a_clock_that_is_late_does_not_sign_earlier():
    """A witness would refuse it."""
    store, mark = new_store(), Marks()
    one, other = shared(store, mark), shared(store, mark)
    one.publish(time=SECONDS)
    other.append(b"entry 0")
    assert KEYS.open(other.publish(time=SECONDS - 5)).time == SECONDS


def test_who_has_the_lock_for_too_long_is_named():
    store, mark = new_store(), Marks()
    one = shared(store, mark)
    exclusive = Log(store.again(), SIGNER, mark)
    told = []
    one.submit(b"x", lambda error, index: told.append((str(error), index)))
    with pytest.raises(CountersealError, match="somebody else writes"):
        one.settle()
    assert told == [("the ledger takes no more entries: a write failed", None)]
    exclusive.close()
    assert shared(store, mark).append(b"x") == 0


def test_whoever_waits_comes_next(monkeypatch):
    monkeypatch.setattr(logs, "LOCK_SECONDS", 10)
    store, mark = new_store(), Marks()
    one, holder = shared(store, mark), store.again()
    holder.lock()
    thread = threading.Thread(target=one.append, args=(b"entry 0",))
    thread.start()
    holder.unlock()
    thread.join()
    assert one.size == 1


# --- what is not ours is not gone on from -----------------------------------------------------


def histories(first, then, other):
    """A writer that has written `first` and `then`, and its store now with `first` and `other`."""
    store, mark = new_store(), Marks()
    old = new_store()
    writer = shared(store, mark)
    for place in (writer, shared(old, Marks())):
        place.append_all(some(first))
    writer.append_all(some(then, first))
    if other:
        shared(old, Marks()).append_all(some(other, 100_000))
    store._shared.blobs = dict(old.blobs)
    return writer, store


@pytest.mark.parametrize("first", [1, 255, 256, 300, 600])
@pytest.mark.parametrize("act", ["append", "publish"])
def test_an_older_copy_under_our_feet(first, act):
    writer, store = histories(first, 3, 0)
    before = dict(store.blobs)
    with pytest.raises(RolledBack, match="older copy"):
        writer.append(b"x") if act == "append" else writer.publish(time=SECONDS)
    assert store.blobs == before


@pytest.mark.parametrize(
    ("first", "then", "other"),
    [(0, 1, 1), (3, 2, 5), (200, 56, 56), (200, 56, 60), (256, 256, 256), (256, 256, 700),
     (300, 212, 212), (10, 600, 2000), (0, 65_536, 65_540)],
)  # fmt: skip
@pytest.mark.parametrize("act", ["append", "publish"])
def test_another_history_under_our_feet(first, then, other, act):
    writer, store = histories(first, then, other)
    before = dict(store.blobs)
    with pytest.raises(LedgerBroken):
        writer.append(b"x") if act == "append" else writer.publish(time=SECONDS)
    assert store.blobs == before


def test_tiles_that_are_not_of_the_entries_beside_them():
    store, mark = new_store(), Marks()
    one, other = shared(store, mark), shared(store, mark)
    one.append_all(some(300))
    store.commit(put=[("tile/0/000", bytes(8192))])
    with pytest.raises(LedgerBroken, match="altered"):
        other.append(b"x")


def test_another_file_in_the_place_of_ours(tmp_path):
    (tmp_path / "log").mkdir()
    store = SqliteStore(tmp_path / "log" / "log.db", create=True)
    store.commit(new=first_rows())
    log = Log(store, SIGNER, Marks(), shared=True)
    log.append(b"one")
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    log.append(b"two")
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "copy").rename(tmp_path / "log")
    with pytest.raises(LedgerBroken, match="not the file any more"):
        log.append(b"three")
    with pytest.raises(CountersealError, match="a write failed"):
        log.append(b"four")
    log.close()


def test_a_lock_file_that_was_taken_away_locks_nothing(tmp_path):
    store = SqliteStore(tmp_path / "log.db", create=True)
    store.lock()
    store.unlock()
    (tmp_path / "log.db.lock").unlink()
    other = SqliteStore(tmp_path / "log.db")
    other.lock()
    with pytest.raises(LedgerBroken, match="not the file any more"):
        store.lock()
    store.close()
    other.close()


def test_a_ledger_of_one_writer_waits_for_those_who_share_it():
    """A command beside a running gateway."""
    lab, store = Cast().lab, MemoryStore()
    with ledger_of(lab, store) as gateway:
        gateway.record(record(lab))
        with Ledger.open("scan", by=lab, store=store.again(), clock=lambda: AT, wait=1) as command:
            assert command.record(record(lab)).index == 1
            with pytest.raises(CountersealError, match="somebody else writes"):
                ledger_of(lab, store.again())
        assert gateway.record(record(lab)).index == 2


# --- processes --------------------------------------------------------------------------------


def write_much(folder, name, said, count):
    """Append and publish, telling what is acknowledged."""
    log = Log(SqliteStore(folder / "log.db"), SIGNER, FileMark(folder / "mark"), shared=True)
    for number in range(count):
        batch = [b"%s %d %d" % (name, number, part) for part in range(number % 9 + 1)]
        first = log.append_all(batch).start
        for index, entry in enumerate(batch, first):
            os.write(said, b"E %d %s\n" % (index, entry))
        if number % 5 == 0:
            made = KEYS.open(log.publish(time=SECONDS)).checkpoint
            os.write(said, b"C %d %s\n" % (made.size, made.root.hex().encode()))
    log.close()


def test_processes_write_one_log_and_one_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LOCK_SECONDS", 30)
    store = SqliteStore(tmp_path / "log.db", create=True)
    store.commit(new=first_rows())
    store.close()
    children = {}
    for name in (b"ann", b"bob", b"cat"):
        out, said = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                write_much(tmp_path, name, said, 10_000 if name == b"bob" else 60)
            except BaseException:  # noqa: BLE001 - the parent hears of it
                os._exit(1)
            os._exit(0)
        os.close(said)
        children[name] = child, os.fdopen(out, "rb")
    told = [children[b"bob"][1].readline() for _ in range(150)]  # in the middle of its work
    os.kill(children[b"bob"][0], signal.SIGKILL)
    for name, (child, pipe) in children.items():
        with pipe:
            told += pipe.readlines()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == (-signal.SIGKILL if name == b"bob" else 0)
    acknowledged, published = {}, {}
    for line in told:
        kind, number, rest = line.rstrip(b"\n").split(b" ", 2)
        (acknowledged if kind == b"E" else published)[int(number)] = rest
    assert sum(entry.startswith(b"bob") for entry in acknowledged.values()) > 50

    log = Log(SqliteStore(tmp_path / "log.db"), SIGNER, FileMark(tmp_path / "mark"), shared=True)
    seen = KEYS.open(log.publish(time=SECONDS))
    verify(log.read, KEYS, read=False)
    reader = TileReader(log.read, seen.checkpoint)
    found = [entry for _, some_ in reader.bundles(0, reader.size) for entry in some_]
    assert len(set(found)) == len(found) >= len(acknowledged)
    assert {index: found[index] for index in acknowledged} == acknowledged
    for name in (b"ann", b"bob", b"cat"):  # in the order in which each wrote them
        mine = [tuple(map(int, e.split()[1:])) for e in found if e.startswith(name)]
        assert mine == sorted(mine)
    for size, root in published.items():
        assert root_of(found[:size]).hex().encode() == root
    log.close()


def test_processes_begin_one_log_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LOCK_SECONDS", 30)
    gate_out, gate_in = os.pipe()
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            os.close(gate_in)
            os.read(gate_out, 1)  # until all are there
            try:
                store = SqliteStore(tmp_path / "log.db", create=True)
                store.lock(wait=30)
                if not store.under("tail/"):
                    store.commit(new=first_rows())
                store.unlock()
                log = Log(store, SIGNER, FileMark(tmp_path / "mark"), shared=True)
                log.append(b"%d" % os.getpid())
                log.close()
            except BaseException:  # noqa: BLE001 - the parent hears of it
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(gate_in)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.close(gate_out)
    assert statuses == [0] * 6
    store = SqliteStore(tmp_path / "log.db")
    assert restore(store).size == 6
    store.close()


# --- ledgers ----------------------------------------------------------------------------------


def ledger_of(lab, store, **more):
    return Ledger.open("scan", by=lab, store=store, clock=lambda: AT, shared=True, **more)


def record(lab, **more):
    return Record(event="note", actor=lab.history.identity, **more)


def test_two_ledgers_are_one():
    lab, store = Cast().lab, MemoryStore()
    with ledger_of(lab, store) as one, ledger_of(lab, store.again()) as other:
        assert [ledger.record(record(lab)).index for ledger in (one, other, one)] == [0, 1, 2]
        assert other.note(record(lab)).index is None
    with ledger_of(lab, store.again()) as again:
        assert again.size == 4


def test_who_waits_is_told_when_it_is_durable():
    lab, store = Cast().lab, MemoryStore()
    told, there = [], threading.Event()

    def done(error, index):
        told.append((error, index, restore(store).size))
        there.set()

    with ledger_of(lab, store, group_seconds=0) as ledger:
        ledger.note(record(lab), done)
        assert there.wait(10)
    assert told == [(None, 0, 1)]


def test_who_waits_is_told_when_it_fails(monkeypatch):
    lab, store = Cast().lab, MemoryStore()
    told, gate = [], threading.Event()
    ledger = ledger_of(lab, store, group_seconds=0)

    def fail(self, **rows):
        gate.wait(10)
        raise CountersealError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(stores.MemoryStore, "commit", fail)
        for _ in range(20):  # some in the transaction that fails, some after it
            ledger.note(record(lab), lambda error, index: told.append((error, index)))
        gate.set()
        ledger._pulse._thread.join(10)
    assert len(told) == 20
    assert all(index is None and "a write failed" in str(error) for error, index in told)
    with pytest.raises(CountersealError, match="no more notes"):
        ledger.note(record(lab))


def test_one_that_cannot_be_told_does_not_hide_it_from_the_others():
    store, told = new_store(), []
    log = shared(store, Marks())
    log.submit(b"one", lambda error, index: 1 / 0)
    log.submit(b"two", lambda error, index: told.append(index))
    with pytest.raises(ZeroDivisionError):
        log.settle()
    assert told == [1]
    assert log.append(b"three") == 2


def test_many_that_wait_share_a_transaction(monkeypatch):
    lab, store = Cast().lab, MemoryStore()
    commits, plain = [], stores.MemoryStore.commit
    left = threading.Semaphore(0)

    def slow(self, **rows):
        commits.append(1)
        threading.Event().wait(0.02)
        plain(self, **rows)

    with ledger_of(lab, store, group_seconds=0, publish_seconds=60) as ledger:
        monkeypatch.setattr(stores.MemoryStore, "commit", slow)
        for _ in range(100):
            ledger.note(record(lab), lambda error, index: left.release())
        for _ in range(100):
            assert left.acquire(timeout=10)
        assert len(commits) < 10
        monkeypatch.undo()


def test_a_key_of_commitments_that_another_process_has_destroyed():
    lab, store = Cast().lab, MemoryStore()
    with ledger_of(lab, store) as one, ledger_of(lab, store.again()) as other:
        one.forget_commitments()
        other.publish()
        receipt = other.record(record(lab, input=b"x"))
        assert receipt.key == entries.record_key(one._key, receipt.id)


def test_who_has_just_published_saves_the_others_the_work():
    lab, store = Cast().lab, MemoryStore()
    now = AT
    with (
        Ledger.open("s", by=lab, store=store, clock=lambda: now, shared=True) as one,
        Ledger.open("s", by=lab, store=store.again(), clock=lambda: now, shared=True) as other,
    ):
        one.record(record(lab))
        one.publish()
        before = store.get("checkpoint")
        other.record(record(lab))
        other.publish_if_due()
        assert store.get("checkpoint") == before
        now = AT + timedelta(seconds=1)
        other.publish_if_due()
        assert store.get("checkpoint") != before
