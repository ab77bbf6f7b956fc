"""One TLS connection, with time limits; both ends alike (SPEC 14.3.1).

Rules, both ends, before a byte of ours is sent:
1. TLS 1.3 and nothing else; no resumption: every connection is a full handshake.
2. The key exchange was X25519MLKEM768. A peer that cannot, or whose offer somebody stripped
   (which TLS itself would notice too), gets nothing: recorded today, read in twenty years.
3. Both ends showed a certificate. Nobody looks at it: it is made for the process and carries
   no trust. Who speaks is proven inside, over `exporter` (`binding`).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from functools import cache
from typing import Final

from OpenSSL import SSL

from counterseal.crypto.tls_identity import throw_away
from counterseal.errors import Aborted, Dropped, TimedOut
from counterseal.exchange.transports.https.decrypt import RECORD_BYTES, fill
from counterseal.wire import limits

__all__ = ["EXPORTER_BYTES", "RECORD_BYTES", "Link"]

GROUP: Final = "X25519MLKEM768"
EXPORTER_LABEL: Final = b"EXPORTER-counterseal-https-v1"
EXPORTER_BYTES: Final = 32
PULL_BYTES: Final = 512 * limits.KIB  # threads hand over Python's lock less often, then
SEND_BYTES: Final = 112 * limits.KIB  # with its room, below what malloc gets from the kernel anew
SEND_ROOM: Final = 4 * limits.KIB  # what the records around them need
_STILL: Final = "the other side stands still"
_LOST: Final = "the connection was lost"
_PARTIAL_WRITES: Final = 1  # SSL_MODE_ENABLE_PARTIAL_WRITE: one call to write a block, not 64


class Link:
    """Bytes in and out of one TLS connection. One thread reads and writes; any may `abort`.

    OpenSSL works on memory, the socket is ours: fewer system calls, and time limits that are
    Python's own.
    """

    def __init__(self, tls: SSL.Connection, sock: socket.socket) -> None:
        self._tls = tls
        self._socket = sock
        self._ended = False
        self.exporter = b""

    @classmethod
    def connect(cls, host: str, port: int, *, timeout: float) -> Link:
        try:
            sock = socket.create_connection((host, port), timeout=timeout)
        except TimeoutError:
            raise TimedOut(f"{host}:{port} does not answer") from None
        except OSError as error:
            raise Dropped(
                f"cannot reach {host}:{port} ({error.strerror or error})",
                hint="is the mailbox running there, and is the way to it open?",
            ) from None
        return cls._made(sock, server=False, timeout=timeout)

    @classmethod
    def accept(cls, sock: socket.socket, *, timeout: float) -> Link:
        """Take over an accepted socket; it is closed if the handshake fails."""
        return cls._made(sock, server=True, timeout=timeout)

    @classmethod
    def _made(cls, sock: socket.socket, *, server: bool, timeout: float) -> Link:
        tls = SSL.Connection(_context(server=server), None)
        link = cls(tls, sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link._shake_hands(server=server, end=time.monotonic() + timeout)
            _check_group(tls)
            link.exporter = tls.export_keying_material(EXPORTER_LABEL, EXPORTER_BYTES)
        except BaseException:
            link._say_last_words()
            sock.close()
            raise
        return link

    def _shake_hands(self, *, server: bool, end: float) -> None:
        if server:
            self._tls.set_accept_state()
        else:
            self._tls.set_connect_state()
        while True:
            self._socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                self._flush()
                self._pull()
            except SSL.Error:
                raise _broken() from None
            else:
                self._flush()
                return

    def limit(self, seconds: float) -> None:
        """From now on a read or write that stands still for so long raises TimedOut."""
        self._socket.settimeout(seconds)

    def read_into(self, view: memoryview) -> int:
        """What is there, at least one byte; 0 when the other side has said that it ends."""
        while not (count := self._decrypt(view)) and not self._ended:
            self._pull()
        return count

    def _decrypt(self, view: memoryview) -> int:
        count, error = fill(self._tls, view)
        if isinstance(error, SSL.ZeroReturnError):
            self._ended = True
        elif error is not None and not isinstance(error, SSL.WantReadError):
            raise _broken()
        return count

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """All of it."""
        rest = memoryview(data)
        while rest:
            try:
                count = self._tls.send(rest[:SEND_BYTES])
            except SSL.Error:
                raise _broken() from None
            self._flush()
            rest = rest[count:]

    def _flush(self) -> None:
        """What OpenSSL wants to be sent."""
        while True:
            try:
                data = self._tls.bio_read(SEND_BYTES + SEND_ROOM)
            except SSL.WantReadError:
                return
            try:
                self._socket.sendall(data)
            except TimeoutError:
                raise TimedOut(_STILL) from None
            except OSError:
                raise Dropped(_LOST) from None

    def _pull(self) -> None:
        """What has come for OpenSSL."""
        buffer = _buffer()
        try:
            count = self._socket.recv_into(buffer)
        except TimeoutError:
            raise TimedOut(_STILL) from None
        except OSError:
            raise Dropped(_LOST) from None
        if count == 0:  # without TLS having said so: somebody may have cut it
            raise Dropped(_LOST)
        self._tls.bio_write(buffer[:count])

    def finish(self) -> None:
        """Say that nothing more comes; the other side may still be sending."""
        self._say_last_words()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._say_last_words()
        self._socket.close()

    def _say_last_words(self) -> None:
        """An alert, or that this is the end; if the line is full, nobody hears it."""
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        with contextlib.suppress(SSL.Error, OSError):
            self._socket.setblocking(False)
            self._socket.send(self._tls.bio_read(SEND_BYTES))

    def abort(self) -> None:
        """From another thread: whoever reads or writes here ends at once, with Dropped."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _broken() -> Aborted:
    return Aborted("the TLS connection failed", party="peer", check="TLS 1.3")


_own = threading.local()


def _buffer() -> memoryview:
    """One for each thread; between two calls nothing stays in it."""
    if not hasattr(_own, "buffer"):
        _own.buffer = memoryview(bytearray(PULL_BYTES))
    buffer: memoryview = _own.buffer
    return buffer


def _check_group(tls: SSL.Connection) -> None:
    """Rule 2."""
    if tls.get_group_name() != GROUP:
        raise Aborted(
            "the other side's TLS is not post-quantum",
            party="peer",
            check=f"key exchange {GROUP}",
            hint=f"both ends need TLS 1.3 with {GROUP}",
        )


@cache
def _context(*, server: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.clear_mode(_PARTIAL_WRITES)
    ours = throw_away()
    context.use_certificate(ours.certificate)
    context.use_privatekey(ours.key)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _anybody)
    return context


def _anybody(*_: object) -> bool:
    """Rule 3: a certificate proves nothing here, whatever it says."""
    return True
