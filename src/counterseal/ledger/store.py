"""Where a log is kept: named blobs that change all or nothing, and one writer at a time.

A log needs four things of a store; SQLite and memory are here, PostgreSQL fits the same seam
(a table, a transaction, an advisory lock).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Final, Protocol

from counterseal.errors import CountersealError, LedgerBroken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Rows = Iterable[tuple[str, bytes]]

__all__ = ["MemoryStore", "SqliteStore", "Store"]

_VERSION: Final = 1
_SCHEMA: Final = "CREATE TABLE blobs (path TEXT PRIMARY KEY, blob BLOB NOT NULL) WITHOUT ROWID"


class Store(Protocol):
    def get(self, path: str) -> bytes | None: ...

    def under(self, prefix: str) -> list[tuple[str, bytes]]:
        """All whose path begins so, in order, as they were at one moment."""
        ...

    def commit(self, *, new: Rows = (), put: Rows = (), gone: Iterable[str] = ()) -> None:
        """All of it or nothing, durable on return.

        What is `new` must not be there yet: a tile is written once, or two writers are at work
        and one of them must stop (LedgerBroken).
        """
        ...

    def purge(self) -> None:
        """Take what is deleted out of every journal, so that it is gone for good."""
        ...

    def lock(self) -> None:
        """Become the only writer until `close`, or raise because somebody else is."""
        ...

    def close(self) -> None: ...


class _Shared:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.writer: object | None = None


class MemoryStore:
    """For tests and for logs that need not outlive the process."""

    def __init__(self, shared: _Shared | None = None) -> None:
        self._shared = shared or _Shared()

    def again(self) -> MemoryStore:
        """The same blobs, as another process would open them."""
        return MemoryStore(self._shared)

    @property
    def blobs(self) -> dict[str, bytes]:
        return self._shared.blobs

    def get(self, path: str) -> bytes | None:
        return self._shared.blobs.get(path)

    def under(self, prefix: str) -> list[tuple[str, bytes]]:
        with self._shared.lock:
            return sorted(item for item in self.blobs.items() if item[0].startswith(prefix))

    def commit(self, *, new: Rows = (), put: Rows = (), gone: Iterable[str] = ()) -> None:
        with self._shared.lock:
            after = dict(self._shared.blobs)
            for path in gone:
                after.pop(path, None)
            for path, blob in new:
                if path in after:
                    raise _written_twice(path)
                after[path] = blob
            after.update(put)
            self._shared.blobs = after

    def purge(self) -> None:
        pass

    def lock(self) -> None:
        with self._shared.lock:
            if self._shared.writer not in {None, self}:
                raise _taken()
            self._shared.writer = self

    def close(self) -> None:
        with self._shared.lock:
            if self._shared.writer is self:
                self._shared.writer = None


class SqliteStore:
    """One SQLite file: WAL, so that readers never wait; synchronous=FULL, so that it is durable."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self._path = path
        self._guard = threading.RLock()
        self._lock: int | None = None
        if not create and not path.exists():
            raise FileNotFoundError(f"there is no ledger in {path}")
        try:
            if create:  # nobody else may read it, whatever the umask
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=30, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA secure_delete = ON")
        version = run("PRAGMA user_version").fetchone()[0]
        if version not in {0, _VERSION}:
            raise CountersealError(
                f"{self._path} was written by a newer counterseal", hint="upgrade"
            )
        if version == 0:
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA}; PRAGMA user_version = {_VERSION}; COMMIT;"
            )

    def get(self, path: str) -> bytes | None:
        with self._guarded():
            row = self._connection.execute(
                "SELECT blob FROM blobs WHERE path = ?", (path,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def under(self, prefix: str) -> list[tuple[str, bytes]]:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        with self._guarded():
            rows = self._connection.execute(
                "SELECT path, blob FROM blobs WHERE path >= ? AND path < ? ORDER BY path",
                (prefix, end),
            ).fetchall()
        return [(path, bytes(blob)) for path, blob in rows]

    def commit(self, *, new: Rows = (), put: Rows = (), gone: Iterable[str] = ()) -> None:
        with self._guarded():
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    "DELETE FROM blobs WHERE path = ?", [(path,) for path in gone]
                )
                try:
                    connection.executemany("INSERT INTO blobs VALUES (?, ?)", new)
                except sqlite3.IntegrityError:
                    raise _written_twice(str(self._path)) from None
                connection.executemany("INSERT OR REPLACE INTO blobs VALUES (?, ?)", put)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def purge(self) -> None:
        # `secure_delete` has overwritten it in the file; the WAL still has its pages.
        with self._guarded():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def lock(self) -> None:
        if self._lock is not None:
            return
        # Of the system, not of SQLite: it ends with the process, and readers go on.
        place = self._path.with_name(f"{self._path.name}.lock")
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise _taken() from None
        self._lock = descriptor

    def close(self) -> None:
        with self._guard:
            self._connection.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._guard:
            try:
                yield
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> CountersealError:
        return CountersealError(
            f"cannot use the ledger in {self._path}: {error}",
            hint="check the disk and the permissions; nothing was half written",
        )


def _taken() -> CountersealError:
    return CountersealError(
        "somebody else writes this ledger",
        hint="a ledger has one writer: end the other process, or let it record",
    )


def _written_twice(path: str) -> LedgerBroken:
    return LedgerBroken(
        f"two writers: what is to be written is there already ({path})",
        hint="stop both; compare the ledger with a partner's last checkpoint",
    )
