"""Cells in one SQLite file: the workers of one node (WAL, synchronous=FULL: durable on return)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from counterseal.errors import CountersealError
from counterseal.gateway.state import NO_CHARTER, AlwaysAlive, check_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from counterseal.gateway.state import Change, Watch

    T = TypeVar("T")

__all__ = ["SqliteState"]

_VERSION: Final = 1
_SCHEMA: Final = (
    "CREATE TABLE cells (charter TEXT NOT NULL, name TEXT NOT NULL, blob BLOB NOT NULL,"
    " PRIMARY KEY (charter, name)) WITHOUT ROWID"
)
_WAIT_SECONDS: Final = 30  # for another process


class SqliteState:
    """Of one process: after a fork, the child opens its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid = os.getpid()
        self._guard = threading.RLock()
        try:
            with _starting(path):
                self._connection = sqlite3.connect(
                    path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
                )
                try:
                    self._prepare()
                except BaseException:
                    self._connection.close()
                    raise
        except (sqlite3.Error, OSError) as error:
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
            with self._alone():
                run(_SCHEMA)
                run(f"PRAGMA user_version = {_VERSION}")

    def get(self, charter: str, name: str) -> bytes | None:
        check_names(charter, name)
        with self._guarded():
            row = self._connection.execute(
                "SELECT blob FROM cells WHERE charter = ? AND name = ?", (charter, name)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def items(self, charter: str, prefix: str) -> list[tuple[str, bytes]]:
        with self._guarded():
            rows = self._connection.execute(
                "SELECT name, blob FROM cells WHERE charter = ? AND substr(name, 1, ?) = ?"
                " ORDER BY name",
                (charter, len(prefix), prefix),
            ).fetchall()
        return [(name, bytes(blob)) for name, blob in rows]

    def change(self, charter: str, name: str, change: Change[T]) -> T:
        check_names(charter, name)
        with self._guarded(), self._alone():
            new, result = change(self.get(charter, name))
            if new is None:
                self._connection.execute(
                    "DELETE FROM cells WHERE charter = ? AND name = ?", (charter, name)
                )
            else:
                self._connection.execute(
                    "INSERT OR REPLACE INTO cells VALUES (?, ?, ?)", (charter, name, new)
                )
        return result

    def delete_all(self, charter: str) -> None:
        with self._guarded():
            with self._alone():
                self._connection.execute("DELETE FROM cells WHERE charter = ?", (charter,))
            # `secure_delete` has overwritten it in the file; the journal still has its pages.
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise CountersealError(
                f"what was deleted is still in the journal of {self._path}",
                hint="somebody reads it without an end; do it again",
            )

    def charters(self) -> list[str]:
        with self._guarded():
            rows = self._connection.execute(
                "SELECT DISTINCT charter FROM cells WHERE charter <> ? ORDER BY charter",
                (NO_CHARTER,),
            ).fetchall()
        return [charter for (charter,) in rows]

    def bump(self) -> None:
        """Nobody is on another node: `Shared` has the epoch."""

    def watch(
        self,
        on_change: Callable[[], None],  # noqa: ARG002 - the seam's
        *,
        lease_seconds: float = 2.0,  # noqa: ARG002
    ) -> Watch:
        return AlwaysAlive()

    def close(self) -> None:
        with self._guard:
            self._connection.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """A transaction that nobody else writes in; undone by whatever is raised in it."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        if os.getpid() != self._pid:
            raise RuntimeError("opened before a fork: SQLite allows no connection in two processes")
        with self._guard:
            try:
                yield
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _failed(self, error: Exception) -> CountersealError:
        return CountersealError(
            f"cannot use the gateway's state in {self._path}: {error}",
            hint="check the disk and the permissions; nothing was half written",
        )


@contextlib.contextmanager
def _starting(path: Path) -> Iterator[None]:
    """One worker at a time: SQLite waits for nobody while the kind of journal is being chosen."""
    place = path.with_name(f"{path.name}.lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(place, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Nobody else may read it, whatever the umask; SQLite's other files follow its mode.
        # Only a new one: to close a file drops all locks that SQLite has on it in this process.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, flags | os.O_EXCL, 0o600))
        yield
    finally:
        os.close(descriptor)
