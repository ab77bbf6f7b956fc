"""What this home remembers: small records in one SQLite file, changed all or nothing.

High-water marks, pinned partners, prekeys, the versions given and seen. SQLite brings
crash safety and locking between processes; the meaning of the records is their owners'.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Store"]

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID
"""


class Store:
    """Records by kind and key. `None` as path keeps everything in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._memory = None if path is not None else self._connect(":memory:")
        self._depth = 0
        self._connection: sqlite3.Connection | None = self._memory

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Everything inside happens whole or not at all, and alone among processes."""
        connection = self._open()
        if self._depth:
            raise RuntimeError("exclusive() does not nest")
        self._depth = 1
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled back already
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise self._failed(error) from error
        finally:
            self._depth = 0

    def get(self, kind: str, key: str) -> bytes | None:
        rows = self._run("SELECT value FROM records WHERE kind = ? AND key = ?", kind, key)
        return bytes(rows[0][0]) if rows else None

    def put(self, kind: str, key: str, value: bytes) -> None:
        self._run(
            "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            kind,
            key,
            value,
        )

    def delete(self, kind: str, key: str) -> bool:
        """Delete one record; `secure_delete` overwrites its bytes in the file."""
        gone = self._run("DELETE FROM records WHERE kind = ? AND key = ? RETURNING key", kind, key)
        return bool(gone)

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        rows = self._run("SELECT key, value FROM records WHERE kind = ? ORDER BY key", kind)
        return [(key, bytes(value)) for key, value in rows]

    def another(self) -> Store:
        """The same records over a connection of its own, for a thread of its own."""
        return self if self._path is None else Store(self._path)

    def close(self) -> None:
        if self._connection is not None and self._connection is not self._memory:
            self._connection.close()
            self._connection = None

    def _run(self, statement: str, *values: str | bytes) -> list[Any]:
        try:
            return self._open().execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:  # a damaged file shows itself only when it is read
            raise self._failed(error) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._connect(str(self._path))
            except sqlite3.Error as error:
                raise self._failed(error) from error
        return self._connection

    def _connect(self, path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, _SCHEMA_VERSION}:
            connection.close()
            raise CountersealError(
                f"the state in {path} was written by a newer counterseal",
                hint="upgrade, or point COUNTERSEAL_HOME elsewhere",
            )
        if version == 0:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        return connection

    def _failed(self, error: sqlite3.Error) -> CountersealError:
        return CountersealError(
            f"cannot use the state in {self._path or 'memory'}: {error}",
            hint="counterseal doctor looks at the home folder and its permissions",
        )
