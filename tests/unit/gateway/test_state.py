"""Every place where cells are kept obeys the same rules; SQLite and PostgreSQL are real."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from counterseal.errors import CountersealError
from counterseal.gateway.postgres_state import PostgresState
from counterseal.gateway.sqlite_state import SqliteState
from counterseal.gateway.state import MemoryState

ONE, TWO = "01" * 16, "02" * 16


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def opener(request, tmp_path):
    """Opens the same state again and again, as several processes would."""
    memory = MemoryState()
    opened = []
    url = request.getfixturevalue("postgres") if request.param == "postgres" else None

    def open_it():
        if request.param == "memory":
            return memory
        kept = SqliteState(tmp_path / "state.db") if url is None else PostgresState(url)
        opened.append(kept)
        return kept

    yield open_it
    for state in opened:
        state.close()


@pytest.fixture
def sqlite(tmp_path):
    state = SqliteState(tmp_path / "state.db")
    yield state
    state.close()


def put(state, charter, name, blob):
    state.change(charter, name, lambda _: (blob, None))


def one_more(held):
    number = int(held or b"0") + 1
    return b"%d" % number, number


def test_what_is_changed_is_there_for_everybody(opener):
    state, other = opener(), opener()
    assert state.get(ONE, "a") is None
    assert state.change(ONE, "a", lambda old: (b"1", old)) is None
    assert other.get(ONE, "a") == b"1"
    assert other.change(ONE, "a", lambda old: (b"\x002\xff", old)) == b"1"
    assert state.get(ONE, "a") == b"\x002\xff"
    assert state.get(TWO, "a") is None


def test_none_deletes(opener):
    state = opener()
    put(state, ONE, "a", b"1")
    put(state, ONE, "b", b"")
    state.change(ONE, "a", lambda _: (None, None))
    assert (state.get(ONE, "a"), state.get(ONE, "b")) == (None, b"")


def test_items_of_one_charter_in_order(opener):
    state = opener()
    for charter, name in [(ONE, "k/2"), (ONE, "k/1"), (ONE, "k"), (TWO, "k/3"), (ONE, "K/%_")]:
        put(state, charter, name, name.encode())
    assert state.items(ONE, "k/") == [("k/1", b"k/1"), ("k/2", b"k/2")]
    assert state.items(ONE, "K/%_") == [("K/%_", b"K/%_")]
    assert [name for name, _ in state.items(ONE, "")] == ["K/%_", "k", "k/1", "k/2"]


def test_charters_are_those_with_cells_and_none_is_not_one(opener):
    state = opener()
    for charter in (TWO, ONE, ""):
        put(state, charter, "a", b"1")
    assert state.charters() == [ONE, TWO]
    state.delete_all(ONE)
    assert state.charters() == [TWO]
    assert state.get("", "a") == b"1"


def test_a_change_that_fails_changes_nothing(opener):
    state = opener()
    put(state, ONE, "a", b"1")

    def fail(_):
        raise KeyError("no")

    with pytest.raises(KeyError):
        state.change(ONE, "a", fail)
    assert state.get(ONE, "a") == b"1"
    put(state, ONE, "a", b"2")


def test_within_a_change_other_cells_of_the_charter_can_be_read(opener):
    state = opener()
    put(state, ONE, "key", b"k")
    assert state.change(ONE, "a", lambda _: (b"1", state.get(ONE, "key"))) == b"k"


def test_changes_of_several_at_once_all_count(opener):
    opened = [opener() for _ in range(4)]

    def many(state):
        for _ in range(25):
            state.change(ONE, "new", one_more)

    threads = [threading.Thread(target=many, args=(state,)) for state in opened for _ in "ab"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert opened[0].get(ONE, "new") == b"200"


def test_deleting_all_waits_for_a_change_and_takes_it_along(opener):
    state, other = opener(), opener()
    began, deleter = threading.Event(), None

    def slow(_):
        nonlocal deleter
        deleter = threading.Thread(target=other.delete_all, args=(ONE,))
        deleter.start()
        began.set()
        deleter.join(0.3)
        return b"1", None

    state.change(ONE, "late", slow)
    deleter.join()
    assert state.items(ONE, "") == []


def test_cells_with_other_names_are_a_mistake(opener):
    state = opener()
    for charter, name in [("x", "a"), (ONE.upper() + "F", "a"), (ONE, ""), (ONE, "\n"), (ONE, "é")]:
        with pytest.raises(ValueError):
            put(state, charter, name, b"1")
        with pytest.raises(ValueError):
            state.get(charter, name)


def test_one_who_watches_here_is_alive(opener):
    state = opener()
    watch = state.watch(lambda: None)
    assert watch.alive(0.0) in {True, False}
    watch.close()


def test_a_file_is_only_for_its_owner(tmp_path, sqlite):
    put(sqlite, ONE, "a", b"1")
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_what_is_deleted_is_in_no_file(tmp_path, sqlite):
    secret = bytes(range(100, 132))
    reader = SqliteState(tmp_path / "state.db")
    put(sqlite, ONE, "a", secret)
    assert reader.get(ONE, "a") == secret
    assert any(secret in path.read_bytes() for path in tmp_path.iterdir())
    sqlite.delete_all(ONE)
    assert not any(secret in path.read_bytes() for path in tmp_path.iterdir())
    reader.close()


def test_four_processes_that_start_at_once_and_write(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from counterseal.gateway.sqlite_state import SqliteState\n"
        "state = SqliteState(Path(sys.argv[1]))\n"
        f"more = lambda held: (b'%d' % (int(held or b'0') + 1), None)\n"
        f"for _ in range(50): state.change('{ONE}', 'n', more)\n"
    )
    path = tmp_path / "state.db"
    running = [subprocess.Popen([sys.executable, "-c", code, path]) for _ in range(4)]
    assert [one.wait() for one in running] == [0] * 4
    state = SqliteState(path)
    assert state.get(ONE, "n") == b"200"
    state.close()


def test_after_a_fork_the_child_may_not_use_it(sqlite):
    child = os.fork()
    if child == 0:
        try:
            sqlite.get(ONE, "a")
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_no_database(tmp_path):
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    with pytest.raises(CountersealError, match="cannot use the gateway's state"):
        SqliteState(tmp_path / "state.db")


def test_of_a_newer_version(tmp_path, sqlite):
    sqlite._connection.execute("PRAGMA user_version = 2")
    with pytest.raises(CountersealError, match="newer"):
        SqliteState(tmp_path / "state.db")


def test_used_after_it_is_closed(sqlite):
    sqlite.close()
    with pytest.raises(CountersealError, match="cannot use"):
        sqlite.get(ONE, "a")
