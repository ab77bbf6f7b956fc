"""Small records in one file, all or nothing."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from counterseal.errors import CountersealError
from counterseal.trust.store import Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path):
    made = Store(None if request.param == "memory" else tmp_path / "state.db")
    yield made
    made.close()


def test_records(store: Store) -> None:
    assert store.get("k", "a") is None
    store.put("k", "b", b"1")
    store.put("k", "a", b"2")
    store.put("k", "a", b"3")
    store.put("other", "a", b"4")
    assert store.get("k", "a") == b"3"
    assert store.items("k") == [("a", b"3"), ("b", b"1")]
    assert store.delete("k", "a")
    assert not store.delete("k", "a")
    assert store.get("other", "a") == b"4"


def test_an_exception_undoes_everything(store: Store) -> None:
    store.put("k", "a", b"1")

    def half() -> None:
        with store.exclusive():
            store.put("k", "a", b"2")
            store.put("k", "b", b"2")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert store.items("k") == [("a", b"1")]
    with store.exclusive():
        store.put("k", "a", b"3")
    assert store.get("k", "a") == b"3"


def test_exclusive_does_not_nest(store: Store) -> None:
    with pytest.raises(RuntimeError), store.exclusive(), store.exclusive():
        pass  # pragma: no cover
    with store.exclusive():
        store.put("k", "a", b"1")


def test_two_connections_see_each_other_and_wait(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "state.db"), Store(tmp_path / "state.db")
    one.put("k", "n", b"0")

    def add(store: Store) -> None:
        for _ in range(20):
            with store.exclusive():
                store.put("k", "n", b"%d" % (int(store.get("k", "n") or b"0") + 1))

    threads = [threading.Thread(target=add, args=[store]) for store in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.get("k", "n") == b"40"
    one.close()
    two.close()


def test_a_deleted_secret_is_not_in_the_file_any_more(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    store.put("k", "a", b"a secret of some length" * 10)
    store.delete("k", "a")
    store.close()
    assert b"a secret of some length" not in (tmp_path / "state.db").read_bytes()


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database " * 100)
    with pytest.raises(CountersealError, match="cannot use the state"):
        Store(tmp_path / "state.db").get("k", "a")


def test_a_damaged_page_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store(path)
    for number in range(200):
        store.put("k", str(number), bytes(500))
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    again = Store(path)
    with pytest.raises(CountersealError, match="cannot use the state"):
        again.items("k")
    with pytest.raises(CountersealError), again.exclusive():
        again.put("k", "x", b"")
    again.close()


def test_the_state_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(CountersealError, match="newer"):
        Store(tmp_path / "state.db").get("k", "a")


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CountersealError, match="cannot use"):
        Store(tmp_path / "no" / "state.db").get("k", "a")
