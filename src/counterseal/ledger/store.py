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
import time
from typing import TYPE_CHECKING, Final, Protocol

from counterseal.errors import CountersealError, LedgerBroken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Rows = Iterable[tuple[str, bytes]]

__all__ = ["MemoryStore", "SqliteStore", "Store"]

_VERSION: Final = 1
_CREATE_SECONDS: Final = 30
_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01  # seconds between two looks at a lock
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS blobs (path TEXT PRIMARY KEY, blob BLOB NOT NULL) WITHOUT ROWID"
)


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

    def lock(self, *, wait: float = 0) -> None:
        """Become the only writer until `unlock` or `close`; nothing happens if we are.

        Raises CountersealError if somebody else still is after `wait` seconds, LedgerBroken if
        what we have open is no longer what lies at its place.
        """
        ...

    def unlock(self) -> None:
        """Let somebody else write; nothing happens if we are not the writer."""
        ...

    def close(self) -> None: ...


class _Shared:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.free = threading.Condition(self.lock)
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

    def lock(self, *, wait: float = 0) -> None:
        shared = self._shared
        with shared.lock:
            if not shared.free.wait_for(lambda: shared.writer in {None, self}, wait):
                raise _taken()
            shared.writer = self

    def unlock(self) -> None:
        with self._shared.lock:
            if self._shared.writer is self:
                self._shared.writer = None
                self._shared.free.notify_all()

    def close(self) -> None:
        self.unlock()


class SqliteStore:
    """One SQLite file: WAL, so that readers never wait; synchronous=FULL, so that it is durable."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self._path = path
        self._guard = threading.RLock()
        self._lock: int | None = None  # the open lock file
        self._locked = False
        if not create and not path.exists():
            raise FileNotFoundError(f"there is no ledger in {path}")
        try:
            if create:  # nobody else may read it, whatever the umask
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._file = _file_at(path)
            try:
                self._prepare()
            except BaseException:
                self.close()
                raise
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA synchronous = FULL")
        run("PRAGMA secure_delete = ON")
        version = run("PRAGMA user_version").fetchone()[0]
        if version not in {0, _VERSION}:
            raise CountersealError(
                f"{self._path} was written by a newer counterseal", hint="upgrade"
            )
        if version == 0:
            self.lock(wait=_CREATE_SECONDS)  # workers of a gateway begin all at once
            try:
                run("PRAGMA journal_mode = WAL")
                self._connection.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA}; PRAGMA user_version = {_VERSION}; COMMIT;"
                )
            finally:
                self.unlock()

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

    def lock(self, *, wait: float = 0) -> None:
        if self._locked:
            return
        # Of the system, not of SQLite: it ends with the process, and readers go on.
        place = self._path.with_name(f"{self._path.name}.lock")
        if self._lock is None:
            self._lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end, pause = time.monotonic() + wait, _PAUSE
        while not _took(self._lock):
            if time.monotonic() >= end:
                raise _taken()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._locked = True
        if _file_at(self._path) != self._file or _file_at(place) != _file_of(self._lock):
            self.unlock()
            raise LedgerBroken(
                f"{self._path} is not the file any more that was opened",
                hint="somebody has put another in its place: open it again",
            )

    def unlock(self) -> None:
        if self._lock is not None and self._locked:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._locked = False

    def close(self) -> None:
        with self._guard:
            self._connection.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock, self._locked = None, False

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


def _took(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _file_of(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _file_at(path: Path) -> tuple[int, int] | None:
    """Which file lies there: a copy in its place is another one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _taken() -> CountersealError:
    return CountersealError(
        "somebody else writes this ledger",
        hint="one writes at a time: end the other process, or let it finish",
    )


def _written_twice(path: str) -> LedgerBroken:
    return LedgerBroken(
        f"two writers: what is to be written is there already ({path})",
        hint="stop both; compare the ledger with a partner's last checkpoint",
    )
