"""PostgreSQL by URL: one careful connection, and a ledger's store on it.

    CREATE TABLE counterseal_ledgers (ledger, path, blob)

The rules of the connection:

1. A connection that was lost is made again before a transaction, once, and never within one:
   whoever was in the middle gets an error, and does not know whether it happened.
2. The URL is a secret. Errors name host, port and database; what the library says about the
   URL itself is not passed on.
3. A server on another host proves who it is (verify-full, the system's authorities) unless the
   URL says otherwise.
4. What is committed is on disk, whatever the server's default is.

The writer's lock is held by the connection that writes: whoever loses the one has lost the
other, and cannot write over his successor.

`purge` vacuums. The server's own journal, its backups and replicas keep what was deleted as
long as their operator lets them; what matters there is sealed under keys of ours.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.crypto.digest import sha256
from counterseal.errors import CountersealError, LedgerBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Rows = Iterable[tuple[str, bytes]]
    Run = Callable[..., Any]  # psycopg's `execute`

__all__ = ["Database", "PostgresStore", "lock_number"]

_LOCAL: Final = frozenset({"", "localhost", "127.0.0.1", "::1"})
_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "counterseal",
}
_SETTINGS: Final = (
    """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'
    """,
    "SET lock_timeout = '30s'",
    "SET statement_timeout = '60s'",
    "SET idle_in_transaction_session_timeout = '60s'",  # one who hangs lets others go on
    "SET client_min_messages = 'error'",
)
_PAUSE, _LONGEST_PAUSE = 0.001, 0.05
_BLOBS: Final = """
    CREATE TABLE counterseal_ledgers (
        ledger text COLLATE "C", path text COLLATE "C", blob bytea NOT NULL,
        PRIMARY KEY (ledger, path)
    )
"""


def lock_number(*parts: str) -> int:
    """The advisory lock of what is named so. Two names with one lock would wait, no more."""
    return int.from_bytes(sha256("\0".join(("counterseal", *parts)).encode())[:8], signed=True)


def _proof_of(given: dict[str, str]) -> dict[str, str]:
    """How the server proves who it is, where neither the URL nor the environment says so."""
    said = os.environ
    hosts = f"{given.get('host') or said.get('PGHOST', '')},{given.get('hostaddr', '')}".split(",")
    elsewhere = "service" in given or "PGSERVICE" in said
    near = all(host in _LOCAL or host.startswith("/") for host in hosts) and not elsewhere
    if near or "sslmode" in given or "PGSSLMODE" in said:
        return {}
    roots = "sslrootcert" in given or "PGSSLROOTCERT" in said
    return {"sslmode": "verify-full"} | ({} if roots else {"sslrootcert": "system"})


def abort(connection: Any) -> None:
    """End what a thread waits for on a connection, from another thread."""
    gone = OSError, ValueError, require("psycopg", extra="postgres").Error
    with (
        contextlib.suppress(*gone),
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)


class Database:
    """One connection of this process; threads take turns."""

    def __init__(self, url: str) -> None:
        self._psycopg = require("psycopg", extra="postgres")
        self._parts = self._parse(url)
        self._pid = os.getpid()
        self._guard = threading.RLock()
        self._within = False
        self.keep = False  # whether a lost connection stays lost: it held a lock
        self._cut = False
        self._connection = self.connect()

    def connect(self) -> Any:
        """Another connection to the same place, in which each statement stands alone."""
        try:
            connection = self._psycopg.connect(**self._parts, autocommit=True)
            try:
                for setting in _SETTINGS:
                    connection.execute(setting)
            except BaseException:
                connection.close()
                raise
        except self._psycopg.Error as error:
            raise self._failed(error) from None
        return connection

    def create(self, table: str, *statements: str) -> None:
        """Unless the table is there: who may not create it can still use it."""
        with self.transaction() as run:
            run("SELECT pg_advisory_xact_lock(%s)", (lock_number("create"),))
            if run("SELECT to_regclass(%s)", (table,)).fetchone()[0] is None:
                for statement in statements:
                    run(statement)

    def read(self, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows; in the transaction of this thread, if it is in one."""
        with self._guarded():
            rows: list[tuple[Any, ...]] = self._first(query, parameters).fetchall()
        return rows

    def run_alone(self, statement: str) -> None:
        """For what cannot be in a transaction."""
        with self._guarded():
            self._first(statement)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Run]:
        with self._guarded():
            if self._within:
                raise RuntimeError("a transaction within a transaction")
            self._first("BEGIN")
            self._within = True
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(self._psycopg.Error):
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._within = False

    def cut(self) -> None:
        """From any thread: whoever waits for the server gets an error now, and until `resume`.

        A server that neither answers nor goes away would else be waited for without end.
        """
        self._cut = True
        abort(self._connection)

    def resume(self) -> None:
        self._cut = False

    def drop(self) -> None:
        """Lose this connection, and what it holds."""
        with self._guard:
            self._connection.close()

    def close(self) -> None:
        with self._guard:
            self._connection.close()
            self.keep = True  # closed is closed

    @property
    def place(self) -> str:
        host, port = self._parts.get("host", "local"), self._parts.get("port", "5432")
        return f"{host}:{port}/{self._parts.get('dbname', '')}"

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        if os.getpid() != self._pid:
            raise RuntimeError("opened before a fork: the two would share one connection")
        with self._guard:
            try:
                yield
            except self._psycopg.Error as error:
                raise self._failed(error) from None

    def _first(self, statement: str, parameters: tuple[Any, ...] = ()) -> Any:
        """What nothing was done before: the connection may have been lost since."""
        if self._cut:
            raise self._psycopg.OperationalError("it does not answer")
        try:
            return self._connection.execute(statement, parameters)
        except self._psycopg.OperationalError:
            if self._within or self.keep or self._cut or not self._connection.closed:
                raise
        self._connection = self.connect()
        return self._connection.execute(statement, parameters)

    def _parse(self, url: str) -> dict[str, str]:
        wrong = CountersealError(
            "this is not the URL of a PostgreSQL database",
            hint="postgresql://USER:PASSWORD@HOST:PORT/NAME, with %XX for special characters",
        )
        if not url.startswith(("postgresql://", "postgres://")):
            raise wrong
        parse = require("psycopg.conninfo", extra="postgres").conninfo_to_dict
        try:
            given: dict[str, str] = {name: str(value) for name, value in parse(url).items()}
        except self._psycopg.Error:
            raise wrong from None  # the library's words quote the URL, password and all
        named = given.get("host", "") + given.get("dbname", "")
        ports = given.get("port", "").replace(",", "")
        if "@" in named or (ports and not ports.isdigit()):
            raise wrong  # a part of a password that was not written with %XX
        return {**_DEFAULTS, **given, **_proof_of(given)}

    def _failed(self, error: Exception) -> CountersealError:
        said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
        said = said.strip().partition("\n")[0]
        password = self._parts.get("password") or os.environ.get("PGPASSWORD")
        if password and password in said:
            said = type(error).__name__
        return CountersealError(
            f"cannot use the database {self.place}: {said}",
            hint="check that the server runs and that the user may use this database",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.place}>"


class PostgresStore:
    """The blobs of the ledger `name`; see `counterseal.ledger.store.Store`."""

    def __init__(self, url: str, name: str) -> None:
        self._name = name
        self._lock_number = lock_number("ledger", name)
        self._locked = False
        self._database = Database(url)
        try:
            self._database.create("counterseal_ledgers", _BLOBS)
        except BaseException:
            self._database.close()
            raise

    def get(self, path: str) -> bytes | None:
        rows = self._database.read(
            "SELECT blob FROM counterseal_ledgers WHERE ledger = %s AND path = %s",
            (self._name, path),
        )
        return bytes(rows[0][0]) if rows else None

    def under(self, prefix: str) -> list[tuple[str, bytes]]:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        rows = self._database.read(
            "SELECT path, blob FROM counterseal_ledgers"
            " WHERE ledger = %s AND path >= %s AND path < %s ORDER BY path",
            (self._name, prefix, end),
        )
        return [(path, bytes(blob)) for path, blob in rows]

    def commit(self, *, new: Rows = (), put: Rows = (), gone: Iterable[str] = ()) -> None:
        with self._database.transaction() as run:
            run(
                "DELETE FROM counterseal_ledgers WHERE ledger = %s AND path = ANY(%s)",
                (self._name, list(gone)),
            )
            for path, blob in new:
                done = run(
                    "INSERT INTO counterseal_ledgers VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                    (self._name, path, blob),
                )
                if done.rowcount != 1:
                    raise LedgerBroken(
                        f"two writers: what is to be written is there already ({path})",
                        hint="stop both; compare the ledger with a partner's last checkpoint",
                    )
            for path, blob in put:
                run(
                    "INSERT INTO counterseal_ledgers VALUES (%s, %s, %s)"
                    " ON CONFLICT (ledger, path) DO UPDATE SET blob = excluded.blob",
                    (self._name, path, blob),
                )

    def purge(self) -> None:
        self._database.run_alone("VACUUM counterseal_ledgers")

    def lock(self, *, wait: float = 0) -> None:
        if self._locked:
            return
        end, pause = time.monotonic() + wait, _PAUSE
        while not self._database.read("SELECT pg_try_advisory_lock(%s)", (self._lock_number,))[0][
            0
        ]:
            if time.monotonic() >= end:
                raise CountersealError(
                    "somebody else writes this ledger",
                    hint="one writes at a time: end the other process, or let it finish",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._locked = self._database.keep = True

    def unlock(self) -> None:
        if not self._locked:
            return
        try:
            self._database.read("SELECT pg_advisory_unlock(%s)", (self._lock_number,))
        except CountersealError:
            self._database.drop()  # the lock goes with the connection, if it has not yet
        self._locked = self._database.keep = False

    def close(self) -> None:
        self.unlock()  # now: the server may take a moment to see that we are gone
        self._database.close()
