"""HTTPS to one gateway: kept connections, time limits, and only such retries as are safe.

What is safe: a request whose connection could not be made, or that a kept connection refused
before one byte of the answer. A call is sent again only under the same record id, which the
gateway takes once: if it was taken the first time, it says so, and nothing is counted twice.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from counterseal.crypto.tls_authority import pem_of
from counterseal.errors import Dropped, PeerMisbehaved, TimedOut, TrustError
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Line", "Reply", "context_of", "first_context"]


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers`: with names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def first_context() -> ssl.SSLContext:
    """For the gateway's statement and nothing else: it is signed, and checked against the card."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def context_of(authority: bytes, session: bytes | None = None) -> ssl.SSLContext:
    """Trusts the certificates of this authority (DER) and no others. `session`: PEM of our key
    and certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=pem_of(authority).decode())
    if session is not None:
        descriptor = os.memfd_create("counterseal-session", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, session)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    return context


class Line:
    """Thread-safe: every thread has its own connection."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext, *, seconds: float) -> None:
        self._host, self._port, self._tls, self._seconds = host, port, tls, seconds
        self._own = threading.local()
        self._all: list[http.client.HTTPSConnection] = []
        self._guard = threading.Lock()

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        most: int = limits.GATEWAY_ANSWER_BYTES,
    ) -> Reply:
        """Raises Dropped, TimedOut, PeerMisbehaved, TrustError. Any status is an answer."""
        kept = getattr(self._own, "connection", None) is not None
        try:
            return self._once(method, path, body, headers or {}, most)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self._drop()
            if not kept:
                raise Dropped("the gateway closed the connection") from error
        try:
            return self._once(method, path, body, headers or {}, most)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self._drop()
            raise Dropped("the gateway closed the connection") from error

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], most: int
    ) -> Reply:
        connection = self._connection()
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            data = answer.read(most + 1)
        except TimeoutError:
            self._drop()
            raise TimedOut("the gateway does not answer") from None
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            raise
        except (http.client.HTTPException, OSError) as error:
            self._drop()
            raise Dropped(f"the connection to the gateway was lost ({error})") from None
        if len(data) > most:
            self._drop()
            raise PeerMisbehaved(f"the gateway's answer is longer than {most} bytes")
        if answer.will_close:
            self._drop()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, data)

    def _connection(self) -> http.client.HTTPSConnection:
        connection: http.client.HTTPSConnection | None = getattr(self._own, "connection", None)
        if connection is not None:
            return connection
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._seconds, context=self._tls
        )
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except ssl.SSLCertVerificationError as error:
            raise TrustError(
                f"the gateway's certificate is not of its owner's authority, or not for "
                f"{self._host} ({error.verify_message})",
                hint="call it by a name that it serves: serve --host NAME",
            ) from None
        except TimeoutError:
            raise TimedOut(f"{self._host}:{self._port} does not answer") from None
        except OSError as error:
            raise Dropped(
                f"cannot reach {self._host}:{self._port} ({error.strerror or error})",
                hint="is the gateway running there, and is the way to it open?",
            ) from None
        self._own.connection = connection
        with self._guard:
            self._all.append(connection)
        return connection

    def _drop(self) -> None:
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.close()
            self._own.connection = None
            with self._guard:
                self._all.remove(connection)

    def close(self) -> None:
        with self._guard:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._own = threading.local()
