"""One connection at a mailbox: request after request, no wait without end (SPEC 14.3.6).

Every wait has its limit: for the next request, for its head, for progress in a body, for the
body in all. Who sends a byte now and then loses the connection.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from counterseal.errors import CountersealError, Dropped, FormatError, PeerMisbehaved, TimedOut
from counterseal.exchange.transports.https.http1 import Stream, StreamBody
from counterseal.exchange.transports.https.messages import Later, Part, Peer, Request, Response
from counterseal.exchange.transports.https.problems import problem
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import h11

    from counterseal.exchange.transports.https.http1 import Head
    from counterseal.exchange.transports.https.mailbox import Mailbox
    from counterseal.exchange.transports.https.tls import Link

__all__ = ["Bell", "Connection", "Room"]

DRAIN_BYTES: Final = 32 * limits.MIB  # of a body that nobody wanted, so that the answer arrives
SEND_BYTES: Final = 256 * limits.KIB


class Bell:
    """Rings when something was posted."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.rung = 0

    def ring(self) -> None:
        with self._condition:
            self.rung += 1
            self._condition.notify_all()

    def wait(self, heard: int, seconds: float) -> None:
        """Until it has rung after `heard`."""
        with self._condition:
            if self.rung == heard and seconds > 0:
                self._condition.wait(seconds)


@dataclass(frozen=True, slots=True)
class Room:
    """What all connections of a server share. `count` raises if a client has too many."""

    mailbox: Mailbox
    clock: Callable[[], datetime]
    log: Callable[[str], None]
    bell: Bell
    closing: threading.Event
    count: Callable[[str], None]


class Connection:
    """One connection: request after request."""

    def __init__(self, room: Room, link: Link, address: str) -> None:
        self._room = room
        self._grants = room.mailbox.limits
        self._link = link
        self._stream = Stream(link)
        self.peer = Peer(address, link.exporter)
        self.counted: str | None = None
        self._deadline: float | None = None

    @property
    def short(self) -> str:
        """For the log."""
        return "stranger" if self.peer.who is None else self.peer.who.identity[:8]

    def run(self) -> None:
        while not self._room.closing.is_set():
            self._deadline = time.monotonic() + self._grants.head_seconds
            if not self._stream.waiting:
                self._deadline = None
            try:
                found = self._stream.next_head(self._fill)
            except FormatError as error:
                self._link.limit(self._grants.stall_seconds)
                self._send(None, problem(error), close=True)
                return
            if found is None or not self._answer(*found):
                return

    def _fill(self, view: memoryview) -> int:
        """The first byte of a request may take a while, the rest of its head may not."""
        if self._deadline is None:
            stranger = self.peer.who is None
            grants = self._grants
            self._link.limit(grants.stranger_seconds if stranger else grants.idle_seconds)
            count = self._link.read_into(view)
            self._deadline = time.monotonic() + grants.head_seconds
            return count
        self._link.limit(_left(self._deadline))
        return self._link.read_into(view)

    def _answer(self, head: Head, connection: h11.Connection) -> bool:
        """Whether another request may follow."""
        self._link.limit(self._grants.stall_seconds)
        end = time.monotonic() + self._grants.stall_seconds + head.length / self._grants.slowest

        def before() -> None:
            _left(end)
            if connection.they_are_waiting_for_100_continue:
                self._stream.respond(connection, 100, {})

        body = StreamBody(self._stream, head.length, before=before)
        request = Request(
            head.method,
            head.path,
            self.peer,
            query=head.query,
            headers=head.headers,
            body=body,
            interim=lambda status, fields: self._stream.respond(connection, status, fields),
        )
        answer = self._handle(request)
        keep = head.keep_alive and not answer.close and not self._room.closing.is_set()
        if body.left > (0 if self.peer.who is None else DRAIN_BYTES):
            keep = False
        self._send(connection, answer, close=not keep, bodiless=head.method == "HEAD")
        self._room.log(
            f"{self.short} {head.method[:8]} {_kind(head.path)} {answer.status} {head.length}"
        )
        if body.left:
            self._drain(body, end, whole=keep)
        return keep

    def _handle(self, request: Request) -> Response:
        room = self._room
        heard = room.bell.rung
        answer = room.mailbox.handle(request, at=room.clock())
        if isinstance(answer, Later):
            end = time.monotonic() + answer.wait
            while isinstance(answer, Later):
                if not room.closing.is_set():  # else the bell has rung for the last time
                    room.bell.wait(heard, end - time.monotonic())
                request.waited = time.monotonic() >= end or room.closing.is_set()
                request.again, heard = True, room.bell.rung
                answer = room.mailbox.handle(request, at=room.clock())
        if request.method == "POST" and answer.status == 201:
            room.bell.ring()
        if self.peer.who is not None and self.counted is None:
            try:
                room.count(self.peer.who.identity)
            except CountersealError as error:
                self.peer.who = None
                return problem(error)
            self.counted = self.peer.who.identity
        return answer

    def _send(
        self,
        connection: h11.Connection | None,
        answer: Response,
        *,
        close: bool,
        bodiless: bool = False,
    ) -> None:
        headers = dict(answer.headers)
        body = answer.body
        if answer.status not in {204, 304}:
            length = body.length if isinstance(body, Part) else len(body)
            headers["content-length"] = str(length)
        if close:
            headers["connection"] = "close"
        try:
            if isinstance(body, bytes):
                self._stream.respond(connection, answer.status, headers, b"" if bodiless else body)
                return
            self._stream.respond(connection, answer.status, headers)
            if not bodiless:
                self._send_part(body)
        finally:
            if isinstance(body, Part):
                os.close(body.descriptor)

    def _send_part(self, part: Part) -> None:
        end = time.monotonic() + self._grants.stall_seconds + part.length / self._grants.slowest
        buffer = _buffer()
        at = part.offset
        while at < part.offset + part.length:
            wanted = min(SEND_BYTES, part.offset + part.length - at)
            count = os.preadv(part.descriptor, [buffer[:wanted]], at)
            if count == 0:
                raise Dropped("a block became shorter")
            self._link.send(buffer[:count])
            at += count
            _left(end)

    def _drain(self, body: StreamBody, end: float, *, whole: bool) -> None:
        """Read what nobody wanted, or the answer is lost with the connection."""
        if not whole:
            self._link.finish()
            end = min(end, time.monotonic() + 2)
        buffer = _buffer()
        with contextlib.suppress(PeerMisbehaved):
            while body.left and time.monotonic() < end:
                self._link.limit(self._grants.stall_seconds if whole else 2)
                body.read_into(buffer)
        if body.left and whole:
            raise TimedOut("a body that does not end")


_own = threading.local()


def _buffer() -> memoryview:
    if not hasattr(_own, "buffer"):
        _own.buffer = memoryview(bytearray(SEND_BYTES))
    buffer: memoryview = _own.buffer
    return buffer


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimedOut("the other side is too slow")
    return left


def _kind(path: str) -> str:
    """Which kind of thing, not which one."""
    return "/".join(path.split("/")[:3])[:16]
