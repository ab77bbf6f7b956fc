import stat

import pytest

from counterseal.errors import CountersealError, LedgerBroken
from counterseal.ledger.store import MemoryStore, SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def opener(request, tmp_path):
    """Opens the same store again and again, as several processes would."""
    memory = MemoryStore()
    opened = []

    def open_it():
        if request.param == "memory":
            return memory.again()
        opened.append(SqliteStore(tmp_path / "log.db", create=True))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def test_what_is_committed_is_there(opener):
    store = opener()
    store.commit(new=[("tile/0/000", b"a")], put=[("checkpoint", b"1")])
    store.commit(put=[("checkpoint", b"2")])
    other = opener()
    assert other.get("checkpoint") == b"2"
    assert other.get("tile/0/000") == b"a"
    assert other.get("tile/0/001") is None


def test_under_a_prefix_in_order(opener):
    store = opener()
    store.commit(put=[("tail/2", b"c"), ("tail/1", b"b"), ("tai", b""), ("tail0", b""), ("u", b"")])
    assert store.under("tail/") == [("tail/1", b"b"), ("tail/2", b"c")]


def test_deleted_and_written_in_one(opener):
    store = opener()
    store.commit(put=[("a", b"1"), ("b", b"2")])
    store.commit(gone=["a", "nothing"], new=[("a", b"3")])
    assert (store.get("a"), store.get("b")) == (b"3", b"2")


def test_what_is_new_must_be_new_and_then_nothing_happens(opener):
    store = opener()
    store.commit(put=[("a", b"1"), ("c", b"0")])
    with pytest.raises(LedgerBroken, match="two writers"):
        store.commit(gone=["c"], new=[("b", b"2"), ("a", b"3")], put=[("d", b"4")])
    assert [store.get(path) for path in "abcd"] == [b"1", None, b"0", None]
    store.commit(put=[("d", b"4")])
    assert store.get("d") == b"4"


def test_one_writer_at_a_time(opener):
    first, second = opener(), opener()
    first.lock()
    first.lock()  # it is already
    with pytest.raises(CountersealError, match="somebody else writes") as caught:
        second.lock()
    assert caught.value.hint
    second.commit(put=[("a", b"readers and others go on")])
    first.close()
    second.lock()


def test_a_file_is_only_for_its_owner(tmp_path):
    store = SqliteStore(tmp_path / "log.db", create=True)
    store.lock()
    store.commit(put=[("a", b"1")])
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    store.close()


def test_what_is_purged_is_in_no_file(tmp_path):
    store = SqliteStore(tmp_path / "log.db", create=True)
    secret = bytes(range(100, 132))
    store.commit(put=[("private/commitments", secret)])
    assert any(secret in path.read_bytes() for path in tmp_path.iterdir())
    store.commit(put=[("private/commitments", bytes(32))])
    store.purge()
    assert not any(secret in path.read_bytes() for path in tmp_path.iterdir())
    store.close()


def test_no_file_no_store(tmp_path):
    with pytest.raises(FileNotFoundError):
        SqliteStore(tmp_path / "log.db")
    assert not list(tmp_path.iterdir())


def test_what_is_no_database(tmp_path):
    (tmp_path / "log.db").write_bytes(b"no database" * 1000)
    with pytest.raises(CountersealError, match="cannot use the ledger"):
        SqliteStore(tmp_path / "log.db")


def test_of_a_newer_version(tmp_path):
    store = SqliteStore(tmp_path / "log.db", create=True)
    store._connection.execute("PRAGMA user_version = 2")
    store.close()
    with pytest.raises(CountersealError, match="newer"):
        SqliteStore(tmp_path / "log.db")


def test_used_after_it_is_closed(tmp_path):
    store = SqliteStore(tmp_path / "log.db", create=True)
    store.close()
    with pytest.raises(CountersealError, match="cannot use"):
        store.get("a")
