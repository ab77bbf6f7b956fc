import contextlib
import errno
import sqlite3

import pytest

from counterseal.errors import CountersealError
from counterseal.exchange.transports.https.index import Index


def test_a_transaction_is_whole_or_not_at_all(tmp_path):
    index = Index(tmp_path / "i")
    try:
        with contextlib.suppress(KeyError), index.transaction():
            index.rows("INSERT INTO slots VALUES (1, 'x', 1, 0)")
            raise KeyError
        assert index.rows("SELECT * FROM slots") == []
    finally:
        index.close()


def test_a_file_of_a_newer_version(tmp_path):
    connection = sqlite3.connect(tmp_path / "i")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CountersealError, match="newer"):
        Index(tmp_path / "i")


def test_a_full_disk_is_the_systems_error(tmp_path):
    index = Index(tmp_path / "i")
    try:
        index.rows("PRAGMA max_page_count = 30")
        with pytest.raises(OSError, match="No space") as caught, index.transaction():
            index.rows("INSERT INTO messages VALUES (1, 0, ?)", bytes(1 << 20))
        assert caught.value.errno == errno.ENOSPC
        assert index.rows("SELECT * FROM messages") == []
        with pytest.raises(sqlite3.OperationalError, match="syntax"):
            index.rows("SELEKT")
    finally:
        index.close()


def test_a_full_disk_is_507(office, cast):
    office.mailbox._index.rows("PRAGMA max_page_count = 30")
    answer = office.post(cast.lab, cast.clinic, bytes(1 << 20))
    assert answer.status == 507
    assert office.listed(cast.clinic) == []
    office.mailbox._index.rows("PRAGMA max_page_count = 1000000")
    assert office.post(cast.lab, cast.clinic, bytes(1 << 20)).status == 201
