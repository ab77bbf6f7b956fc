"""What a mailbox remembers besides blocks: letters, who may read them, the notice board, slots.

One SQLite file. A letter and the names of its blocks are one transaction, durable when it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Final

from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Index"]

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, box TEXT NOT NULL,
    sender TEXT NOT NULL, recipient TEXT NOT NULL, data BLOB NOT NULL, ends INTEGER NOT NULL
);
CREATE INDEX letters_of ON letters (recipient, box);
CREATE INDEX letters_by ON letters (sender);
CREATE INDEX letters_until ON letters (ends);
CREATE TABLE names (
    name TEXT NOT NULL, letter INTEGER NOT NULL, PRIMARY KEY (name, letter)
) WITHOUT ROWID;
CREATE INDEX names_of ON names (letter);
CREATE TABLE board (
    box TEXT PRIMARY KEY, sender TEXT NOT NULL, recipient TEXT NOT NULL, data BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE slots (
    number INTEGER PRIMARY KEY, owner TEXT NOT NULL, ends INTEGER NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE messages (
    slot INTEGER NOT NULL, place INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (slot, place)
) WITHOUT ROWID;
"""


class Index:
    """One connection, one lock: its transactions are short."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA secure_delete = ON")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, _VERSION}:
            raise CountersealError(
                f"{self._path} was written by a newer counterseal", hint="upgrade"
            )
        if version == 0:
            self._connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;"
            )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is durable when it ends, or nothing of it."""
        with self._lock, _full_disk():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, statement: str, *values: str | bytes | int) -> list[Any]:
        with self._lock, _full_disk():
            return self._connection.execute(statement, values).fetchall()

    def many(self, statement: str, rows: Sequence[tuple[str | int, ...]]) -> None:
        with self._lock, _full_disk():
            self._connection.executemany(statement, rows)

    def close(self) -> None:
        with self._lock:
            self._connection.close()


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """SQLite has its own words for it."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # Errors of the Python module itself have no code.
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        raise
