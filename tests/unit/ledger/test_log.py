import os
import sqlite3
import threading

import pytest
from ledgers import KEYS, SECONDS, SIGNER, FileMark, Marks, files_of, log_of, new_store, some

from counterseal.errors import CountersealError, FormatError, LedgerBroken, RolledBack
from counterseal.ledger import store as stores
from counterseal.ledger import tree
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.edge import Edge
from counterseal.ledger.keys import WitnessSigner
from counterseal.ledger.log import Log
from counterseal.ledger.store import SqliteStore
from counterseal.ledger.stored import Static, first_rows
from counterseal.ledger.tiles import CHECKPOINT, tiles_of
from counterseal.ledger.verify import verify
from counterseal.wire import limits


def root_of(entries):
    return tree.root([tree.leaf_hash(entry) for entry in entries])


@pytest.mark.parametrize("steps", [[0], [1], [255, 1, 1], [256], [257], [1] * 10, [300, 300, 7]])
def test_a_log_grows_as_one_tree(steps):
    store, mark = new_store(), Marks()
    size = 0
    for step in steps:
        log = Log(store.again(), SIGNER, mark)  # opened again each time
        assert log.append_all(some(step, size)) == range(size, size + step)
        size += step
        seen = KEYS.open(log.publish(time=SECONDS))
        assert seen.checkpoint == Checkpoint(SIGNER.keys.origin, size, root_of(some(size)))
        assert mark.held == seen.checkpoint
        assert verify(log.read, KEYS, read=False) == seen
        log.close()


def test_every_earlier_partial_tile_is_there():
    log = log_of(some(300))
    for size in (1, 2, 255, 256, 299):
        edge = Edge()
        edge.append(some(size))
        for tile in tiles_of(size):
            if tile.width < 256:
                assert log.read(tile.path) == edge.cut(tile)


@pytest.mark.parametrize(
    "path",
    ["private/keys", "tail/00000000000000000256", "tile/0/001.p/45", "tile/0/001", "tile/1/000",
     "tile/1/000.p/2", "tile/7/000", "../x", "", "key.json"],
)  # fmt: skip
def test_nothing_else_is_served(path):
    store = new_store()
    store.commit(put=[("private/keys", b"secret")])
    log = log_of(some(300), store=store)
    with pytest.raises(FileNotFoundError):
        log.read(path)


def test_a_reader_follows_its_writer():
    store = new_store()
    log = log_of(some(3), store=store)
    static = Static(store.again())
    assert verify(static, KEYS, read=False).checkpoint.size == 3
    log.append_all(some(600, 3))
    log.publish(time=SECONDS)
    assert verify(static, KEYS, read=False).checkpoint.size == 603
    assert static("tile/0/000.p/3") == log.read("tile/0/000.p/3")


def test_many_threads_share_transactions(monkeypatch):
    store = new_store()
    commits = []
    gate = threading.Event()
    plain = type(store).commit

    def slow(self, **rows):
        commits.append(1)
        gate.wait(0.02)
        plain(self, **rows)

    monkeypatch.setattr(type(store), "commit", slow)
    log = Log(store, SIGNER, Marks())
    places = {}

    def work(name):
        for number in range(20):
            entry = b"%d-%d" % (name, number)
            places[entry] = log.append(entry)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.size == len(set(places.values())) == 320
    assert len(commits) < 160
    entries = sorted(places, key=places.get)
    assert KEYS.open(log.publish(time=SECONDS)).checkpoint.root == root_of(entries)
    for name in range(16):  # a thread's own entries are in its order
        mine = [places[b"%d-%d" % (name, number)] for number in range(20)]
        assert mine == sorted(mine)


def test_submit_does_not_wait_and_settle_does():
    store = new_store()
    log = Log(store, SIGNER, Marks())
    told = []
    for entry in some(3):
        log.submit(entry, lambda error, index: told.append((error, index)))
    assert log.size == 0
    assert store.under("tail/") == [("tail/" + "0" * 20, b"")]
    assert told == []
    log.settle()
    assert log.size == 3
    assert told == [(None, 0), (None, 1), (None, 2)]


def test_who_submits_too_much_waits(monkeypatch):
    monkeypatch.setattr(limits, "LEDGER_PENDING", 5)
    log = Log(new_store(), SIGNER, Marks())
    for entry in some(6):
        log.submit(entry)
    assert log.size == 5


def test_a_checkpoint_has_what_was_submitted():
    log = Log(new_store(), SIGNER, Marks())
    log.submit(b"one")
    assert log.unpublished
    assert KEYS.open(log.publish(time=SECONDS)).checkpoint.size == 1
    assert not log.unpublished


def test_an_entry_that_is_too_long_changes_nothing():
    log = Log(new_store(), SIGNER, Marks())
    with pytest.raises(FormatError, match="65535"):
        log.append_all([b"short", bytes(65_536)])
    assert log.append(bytes(65_535)) == 0


def test_a_second_writer_is_refused():
    store = new_store()
    log = log_of(some(1), store=store)
    with pytest.raises(CountersealError, match="somebody else writes"):
        Log(store.again(), SIGNER, Marks())
    log.close()
    Log(store.again(), SIGNER, Marks())


def test_two_writers_without_a_lock_stop(monkeypatch):
    """The lock may be lost (a network file system): then what is written twice is noticed."""
    monkeypatch.setattr(stores.MemoryStore, "lock", lambda self, *, wait=0: None)
    store = new_store()
    one, other = (Log(store.again(), SIGNER, Marks()) for _ in range(2))
    one.append_all(some(5))
    one.append_all(some(5))
    other.append_all(some(5))
    with pytest.raises(LedgerBroken, match="two writers"):
        other.append_all(some(5))
    with pytest.raises(CountersealError, match="no more entries"):
        other.append(b"x")


def test_after_a_failed_write_the_log_ends(monkeypatch):
    store = new_store()
    log = log_of(some(3), store=store)

    def fail(self, **rows):
        raise CountersealError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(stores.MemoryStore, "commit", fail)
        with pytest.raises(CountersealError, match="full"):
            log.append(b"lost")
    with pytest.raises(CountersealError, match="a write failed"):
        log.append(b"x")
    with pytest.raises(CountersealError, match="a write failed"):
        log.publish(time=SECONDS)
    log.close()
    again = Log(store.again(), SIGNER, Marks())
    assert again.size == 3


def test_closed_is_closed():
    log = Log(new_store(), SIGNER, Marks())
    log.submit(b"one")
    log.close()
    assert log.size == 1
    for act in (lambda: log.append(b"x"), lambda: log.publish(time=SECONDS)):
        with pytest.raises(CountersealError, match="closed"):
            act()


# --- rule 2: never two histories ------------------------------------------------------------


def test_an_older_copy_is_not_gone_on_from():
    store, mark = new_store(), Marks()
    log = log_of(some(300), store=store, mark=mark)
    older = dict(store.blobs)
    log.append_all(some(5, 300))
    log.publish(time=SECONDS)
    log.close()
    store._shared.blobs = older
    with pytest.raises(RolledBack, match="older copy"):
        Log(store.again(), SIGNER, mark)


def test_another_history_is_not_gone_on_from():
    store, mark = new_store(), Marks()
    log_of(some(300), store=store, mark=mark).close()
    for other in (some(300, 1), some(400, 1), [b"x", *some(299, 1)]):
        forged = new_store()
        log_of(other, store=forged).close()
        with pytest.raises(LedgerBroken, match="split view"):
            Log(forged.again(), SIGNER, mark)


def test_a_checkpoint_over_another_tree_in_the_store_is_noticed():
    store = new_store()
    log_of(some(10), store=store).close()
    made = Checkpoint(SIGNER.keys.origin, 10, bytes(32))
    store.commit(put=[(CHECKPOINT, SIGNER.sign(made, time=SECONDS))])
    with pytest.raises(LedgerBroken, match="split view"):
        Log(store.again(), SIGNER, Marks())


@pytest.mark.parametrize("path", ["tail/00000000000000000256", "tile/0/000"])
def test_a_damaged_store_is_noticed(path):
    store = new_store()
    log_of(some(300), store=store).close()
    data = store.get(path)
    for changed in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b""):
        store.commit(put=[(path, changed)])
        with pytest.raises(CountersealError):
            Log(store.again(), SIGNER, Marks())
    store.commit(gone=[path])
    with pytest.raises(LedgerBroken):
        Log(store.again(), SIGNER, Marks())


def test_a_checkpoint_is_not_signed_over_another_beginning():
    """What the last checkpoint stood for is read back before the next one is signed."""
    store = new_store()
    log = log_of(some(300), store=store)
    log.append_all(some(400, 300))
    changed = bytearray(store.get("tile/0/001"))
    changed[0] ^= 1
    store.commit(put=[("tile/0/001", bytes(changed))])
    with pytest.raises(LedgerBroken, match="altered"):
        log.publish(time=SECONDS)


def test_the_mark_is_there_before_the_signature():
    order = []

    class Mark(Marks):
        def put(self, checkpoint):
            order.append("mark")

    class Signer:
        keys = KEYS

        def sign(self, made, *, time):
            order.append("signed")
            return SIGNER.sign(made, time=time)

    log_of(some(3), mark=Mark(), signer=Signer())
    assert order == ["mark", "signed"]


def test_what_was_marked_and_not_published_is_published_later(monkeypatch):
    """Killed between the mark and the checkpoint."""
    store, mark = new_store(), Marks()
    log = log_of(some(3), store=store, mark=mark)
    log.append(b"one more")
    with monkeypatch.context() as patch:
        patch.setattr(stores.MemoryStore, "commit", lambda self, **rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            log.publish(time=SECONDS)
    log.close()
    assert mark.held.size == 4
    again = Log(store.again(), SIGNER, mark)
    assert again.unpublished
    assert not again.empty
    assert KEYS.open(again.publish(time=SECONDS)).checkpoint.size == 4
    assert not again.unpublished


def test_a_cosignature_is_published_with_its_checkpoint():
    log = log_of(some(3))
    witness, stranger = WitnessSigner.generate("w"), WitnessSigner.generate("s")
    seen = KEYS.open(log.read(CHECKPOINT))
    lines = witness.cosign(seen.checkpoint, time=SECONDS)
    for wrong in (
        stranger.cosign(seen.checkpoint, time=SECONDS),
        witness.cosign(Checkpoint("o", 3, bytes(32)), time=SECONDS),
        lines.splitlines(keepends=True)[0],
        b"",
    ):
        with pytest.raises(CountersealError):
            log.attach(wrong, witness=witness.keys)
    with pytest.raises(LedgerBroken, match="nothing is published"):
        Log(new_store(), SIGNER, Marks()).attach(lines, witness=witness.keys)
    log.attach(lines, witness=witness.keys)
    assert log.read(CHECKPOINT) == seen.note + lines
    assert KEYS.open(log.read(CHECKPOINT)).checkpoint == seen.checkpoint


# --- killed at every statement --------------------------------------------------------------


class Fused(sqlite3.Connection):
    """Ends the process before its n-th statement, or after it."""

    left = 10**9
    after = False

    def _run(self, name, *arguments):
        Fused.left -= 1
        if Fused.left == 0 and not Fused.after:
            os._exit(9)
        result = getattr(super(), name)(*arguments)
        if Fused.left == 0:
            os._exit(9)
        return result

    def execute(self, *arguments):
        return self._run("execute", *arguments)

    def executemany(self, statement, rows):
        return self._run("executemany", statement, list(rows))


def live(folder, said):
    """A life of a log: entries and checkpoints, each told to the outside when it is there."""
    store = SqliteStore(folder / "log.db", create=True)
    if not store.under("tail/"):
        store.commit(new=first_rows())
    log = Log(store, SIGNER, FileMark(folder / "mark"))
    for step in (1, 3, 250, 2, 300):
        indexes = log.append_all(some(step, log.size))
        os.write(said, b"E %d\n" % indexes.stop)
        log.publish(time=SECONDS)
        os.write(said, b"C %d\n" % log.size)
    log.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_statement_nothing_told_is_lost(tmp_path, monkeypatch, after):
    connect = sqlite3.connect
    finished, kills = False, 0
    while not finished:
        kills += 1
        folder = tmp_path / str(kills)
        folder.mkdir()
        out, said = os.pipe()
        child = os.fork()
        if child == 0:
            Fused.left, Fused.after = kills, after
            stores.sqlite3.connect = lambda *a, **k: connect(*a, factory=Fused, **k)
            try:
                live(folder, said)
            except BaseException:  # noqa: BLE001 - the parent hears of it
                os._exit(1)
            os._exit(0)
        os.close(said)
        with os.fdopen(out) as pipe:
            told = [line.split() for line in pipe]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in {0, 9}
        finished = status == 0
        check(folder, told)
    assert kills > 50


def check(folder, told):
    """What a partner was told stands; the log goes on, and is the tree of its entries."""
    entries = max((int(n) for kind, n in told if kind == "E"), default=0)
    published = [int(n) for kind, n in told if kind == "C"]
    store = SqliteStore(folder / "log.db", create=True)
    if not store.under("tail/"):
        assert not told
        store.commit(new=first_rows())
    log = Log(store, SIGNER, FileMark(folder / "mark"))
    assert log.size >= entries
    log.append_all(some(3, log.size))
    log.publish(time=SECONDS)
    for size in published:
        earlier = Checkpoint(KEYS.origin, size, root_of(some(size)))
        verify(log.read, KEYS, earlier=earlier, read=False)
    assert KEYS.open(log.read(CHECKPOINT)).checkpoint.root == root_of(some(log.size))
    log.close()


def test_files_are_all_that_is_needed():
    log = log_of(some(700))
    files = files_of(log.read, 700)
    assert verify(files.__getitem__, KEYS, read=False).checkpoint.size == 700
    assert "tail/" not in "".join(files)
