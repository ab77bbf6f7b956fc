"""Cells in PostgreSQL, for several nodes; and an epoch that every node learns of, or denies.

    counterseal_gateway  (version, epoch)         one row
    counterseal_cells    (charter, name, blob)

`change` holds an advisory lock of its charter for its transaction: also a cell that is not
there yet is then changed by one at a time, and `delete_all` leaves nothing behind.

A bump counts the epoch up and notifies. Who watches listens, and besides reads the epoch about
four times in a lease: a notice that was lost, or a server that went away, shows within it. The
lease counts from before the question was asked, and only after `on_change` has done its work.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from counterseal._extras import require
from counterseal.errors import CountersealError
from counterseal.gateway.state import NO_CHARTER, check_names
from counterseal.ledger.postgres import Database, abort, lock_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.gateway.state import Change

    T = TypeVar("T")

__all__ = ["PostgresState", "PostgresWatch"]

_VERSION: Final = 1
_TABLES: Final = (
    "CREATE TABLE counterseal_gateway (version integer NOT NULL, epoch bigint NOT NULL)",
    "INSERT INTO counterseal_gateway VALUES (1, 0)",
    """
    CREATE TABLE counterseal_cells (
        charter text COLLATE "C", name text COLLATE "C", blob bytea NOT NULL,
        PRIMARY KEY (charter, name)
    )
    """,
)
_EPOCH: Final = "SELECT epoch FROM counterseal_gateway"
_CHANNEL: Final = "counterseal_epoch"
_LEAST_LEASE: Final = 0.2
_LONGEST_PAUSE: Final = 0.5
_AGAIN_SECONDS: Final = 0.1


class PostgresState:
    """Of one process: after a fork, the child opens its own."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        try:
            self._database.create("counterseal_gateway", *_TABLES)
            self._check_version()
        except BaseException:
            self._database.close()
            raise

    def _check_version(self) -> None:
        if self._database.read("SELECT version FROM counterseal_gateway") != [(_VERSION,)]:
            raise CountersealError(
                f"the state in {self._database.place} is of another counterseal", hint="upgrade"
            )

    def get(self, charter: str, name: str) -> bytes | None:
        check_names(charter, name)
        rows = self._database.read(
            "SELECT blob FROM counterseal_cells WHERE charter = %s AND name = %s", (charter, name)
        )
        return bytes(rows[0][0]) if rows else None

    def items(self, charter: str, prefix: str) -> list[tuple[str, bytes]]:
        rows = self._database.read(
            "SELECT name, blob FROM counterseal_cells"
            " WHERE charter = %s AND starts_with(name, %s) ORDER BY name",
            (charter, prefix),
        )
        return [(name, bytes(blob)) for name, blob in rows]

    def change(self, charter: str, name: str, change: Change[T]) -> T:
        check_names(charter, name)
        with self._database.transaction() as run:
            run("SELECT pg_advisory_xact_lock(%s)", (lock_number("charter", charter),))
            new, result = change(self.get(charter, name))
            if new is None:
                run(
                    "DELETE FROM counterseal_cells WHERE charter = %s AND name = %s",
                    (charter, name),
                )
            else:
                run(
                    "INSERT INTO counterseal_cells VALUES (%s, %s, %s)"
                    " ON CONFLICT (charter, name) DO UPDATE SET blob = excluded.blob",
                    (charter, name, new),
                )
        return result

    def delete_all(self, charter: str) -> None:
        with self._database.transaction() as run:
            run("SELECT pg_advisory_xact_lock(%s)", (lock_number("charter", charter),))
            run("DELETE FROM counterseal_cells WHERE charter = %s", (charter,))
        self._database.run_alone("VACUUM counterseal_cells")

    def charters(self) -> list[str]:
        rows = self._database.read(
            "SELECT DISTINCT charter FROM counterseal_cells WHERE charter <> %s ORDER BY charter",
            (NO_CHARTER,),
        )
        return [charter for (charter,) in rows]

    def bump(self) -> None:
        with self._database.transaction() as run:
            run("UPDATE counterseal_gateway SET epoch = epoch + 1")
            run("SELECT pg_notify(%s, '')", (_CHANNEL,))

    def watch(self, on_change: Callable[[], None], *, lease_seconds: float = 2.0) -> PostgresWatch:
        """Raises CountersealError if the server cannot be reached now."""
        return PostgresWatch(self._database, on_change, lease_seconds=lease_seconds)

    def close(self) -> None:
        self._database.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._database.place}>"


class PostgresWatch:
    """A thread with a connection of its own. Should `on_change` raise, it ends, and is dead."""

    def __init__(
        self, database: Database, on_change: Callable[[], None], *, lease_seconds: float
    ) -> None:
        if lease_seconds < _LEAST_LEASE:
            raise ValueError("a lease that short would never be held")
        self._database = database
        self._on_change = on_change
        self._lease = lease_seconds
        self._pause = min(_LONGEST_PAUSE, lease_seconds / 4)
        self._errors: tuple[type[Exception], ...] = (
            require("psycopg", extra="postgres").Error,
            CountersealError,
            OSError,
        )
        self._ended = threading.Event()
        self._woken, self._wake = socket.socketpair()  # what ends a wait
        self._epoch: int | None = None
        self._renewed = float("-inf")
        try:
            self._connection: Any = self._listen()  # here: who starts learns what is wrong
        except BaseException:
            self._close_wake()
            raise
        self._thread = threading.Thread(target=self._watch, name="epoch watch", daemon=True)
        self._thread.start()
        threading.Thread(target=self._guard, name="epoch guard", daemon=True).start()

    def alive(self, now: float) -> bool:
        """Whether what was bumped until `lease_seconds` before `now` is known here."""
        return now - self._renewed <= self._lease

    def close(self) -> None:
        self._ended.set()
        self._renewed = float("-inf")
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")
        self._thread.join(2 * self._lease)

    def _guard(self) -> None:
        """When the lease has ended, nobody waits any longer for a server that does not answer."""
        while not self._ended.wait(self._lease / 8):
            if not self.alive(time.monotonic()):
                self._database.cut()
                if self._connection is not None:
                    abort(self._connection)

    def _watch(self) -> None:
        try:
            while not self._ended.is_set():
                try:
                    self._watch_once()
                except self._errors:
                    self._drop()
                    self._ended.wait(_AGAIN_SECONDS)
        finally:
            self._drop()
            self._close_wake()

    def _watch_once(self) -> None:
        if self._connection is None:
            self._connection = self._listen()
        # What came with the last answer was taken from the line already.
        if not list(self._connection.notifies(timeout=0)):
            self._wait(self._connection.fileno())
        self._renew(self._connection)

    def _wait(self, line: int) -> None:
        """Until something comes, or it is time to ask, or `close`."""
        poll = select.poll()
        for descriptor in (line, self._woken.fileno()):
            poll.register(descriptor, select.POLLIN)
        poll.poll(1000 * self._pause)

    def _listen(self) -> Any:
        connection = self._database.connect()
        try:
            connection.execute(f"LISTEN {_CHANNEL}")
            self._renew(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _renew(self, connection: Any) -> None:
        asked = time.monotonic()
        epoch = connection.execute(_EPOCH).fetchone()[0]
        if self._epoch is not None and epoch != self._epoch:
            self._on_change()
        self._epoch = epoch
        if not self._ended.is_set():
            self._renewed = asked
            if self.alive(time.monotonic()):
                self._database.resume()

    def _close_wake(self) -> None:
        self._woken.close()
        self._wake.close()

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(*self._errors):
                self._connection.close()
            self._connection = None
