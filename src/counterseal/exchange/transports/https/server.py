"""Listens for a mailbox: who gets a connection, and one thread for each (SPEC 14.3.6)."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from counterseal.errors import PeerMisbehaved, QuotaExceeded
from counterseal.exchange.transports.https.connection import Bell, Connection, Room
from counterseal.exchange.transports.https.tls import Link

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from counterseal.exchange.transports.https.mailbox import Mailbox

__all__ = ["Server", "serve"]

SWEEP_SECONDS: Final = 600.0


def _now() -> datetime:
    return datetime.now(UTC)


def _silent(_line: str) -> None:
    """Nobody reads the log."""


def serve(
    mailbox: Mailbox,
    host: str,
    port: int,
    *,
    clock: Callable[[], datetime] = _now,
    log: Callable[[str], None] = _silent,
) -> Server:
    """Listen, and return at once; `close` what is returned. The mailbox stays the caller's.

    `log` gets a line for each request: the first digits of a key id, what was done, the
    outcome. No names, boxes, addresses or contents.
    """
    return Server(mailbox, host, port, clock=clock, log=log)


class Server:
    def __init__(
        self,
        mailbox: Mailbox,
        host: str,
        port: int,
        *,
        clock: Callable[[], datetime],
        log: Callable[[str], None],
    ) -> None:
        self.mailbox = mailbox
        self._clock = clock
        self._log = log
        self._closing = threading.Event()
        self._room = Room(mailbox, clock, log, Bell(), self._closing, self._count)
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._addresses: Counter[str] = Counter()
        self._clients: Counter[str] = Counter()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [
            threading.Thread(target=target, name=f"mailbox {target.__name__}")
            for target in (self._accept, self._sweep)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End all connections and wait for their threads. What was acknowledged stays."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._room.bell.ring()
        self._threads[0].join()
        with self._lock:
            running = dict(self._connections)
        for sock in running:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in (*running.values(), *self._threads):
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _sweep(self) -> None:
        while not self._closing.wait(SWEEP_SECONDS):
            self.mailbox.sweep(at=self._clock())

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, address = self._listener.accept()
            except OSError:  # closed; or no descriptors left, then a moment later there are
                self._closing.wait(0.05)
                continue
            self._begin(sock, _group(address[0]))

    def _begin(self, sock: socket.socket, address: str) -> None:
        grants = self.mailbox.limits
        thread = threading.Thread(target=self._run, args=(sock, address), name="mailbox client")
        with self._lock:
            if (
                len(self._connections) >= grants.connections
                or self._addresses[address] >= grants.connections_per_address
            ):
                sock.close()
                return
            self._connections[sock] = thread
            self._addresses[address] += 1
        thread.start()

    def _run(self, sock: socket.socket, address: str) -> None:
        connection: Connection | None = None
        try:
            link = Link.accept(sock, timeout=self.mailbox.limits.head_seconds)
            try:
                connection = Connection(self._room, link, address)
                connection.run()
            finally:
                link.close()
        except PeerMisbehaved as error:
            who = "stranger" if connection is None else connection.short
            self._log(f"{who} connection ended: {error.message}")
        finally:
            with self._lock:
                del self._connections[sock]
                self._addresses[address] -= 1
                self._addresses += Counter()
                if connection is not None and connection.counted is not None:
                    self._clients[connection.counted] -= 1
                    self._clients += Counter()  # forget the zeros

    def _count(self, client: str) -> None:
        """Raises QuotaExceeded for one connection too many of a client."""
        with self._lock:
            if self._clients[client] >= self.mailbox.limits.connections_per_client:
                raise QuotaExceeded("too many connections of yours", hint="close some")
            self._clients[client] += 1


def _group(address: str) -> str:
    """Who has an IPv6 address has 2^64 of them."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
