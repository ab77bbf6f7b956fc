"""HTTP/1.1 over a link. h11 reads and writes the heads; bodies pass by it, straight from TLS.

h11 would copy every body three times and wake Python for each 16 KiB of it. We allow only
bodies with a Content-Length, so a body is simply the next so many bytes: there is no framing
in it that could be misunderstood, and none that could smuggle a second request.
"""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import h11

from counterseal.errors import Aborted, Dropped, FormatError
from counterseal.exchange.transports.https.limits import HEAD_BYTES
from counterseal.exchange.transports.https.tls import RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from counterseal.exchange.transports.https.tls import Link

__all__ = ["Answer", "Head", "Stream", "StreamBody"]

_LENGTH: Final = "content-length"
_BODILESS: Final = frozenset({204, 304})
_BROKEN: Final = {"party": "mailbox", "check": "HTTP framing"}
INTERIM: Final = 1000  # 1xx answers to one request


class Head:
    """A request, without its body."""

    def __init__(self, request: h11.Request) -> None:
        self.method = request.method.decode("ascii")
        target = request.target.decode("ascii")
        self.path, _, query = target.partition("?")
        self.query: Mapping[str, list[str]] = (
            parse_qs(query, max_num_fields=4096, strict_parsing=False) if query else {}
        )
        self.headers = _headers(request.headers)
        if "transfer-encoding" in self.headers:
            raise FormatError("a body without Content-Length", hint="send it whole")
        if request.http_version != b"1.1":
            raise FormatError("HTTP/1.1, please")
        self.length = int(self.headers.get(_LENGTH, "0"))
        self.keep_alive = "close" not in self.headers.get("connection", "").lower()


class Answer:
    """A response, without its body. `interim` are the 1xx responses before it."""

    def __init__(
        self,
        response: h11.Response | h11.InformationalResponse,
        *,
        method: str,
        interim: list[Answer],
    ) -> None:
        self.status = response.status_code
        self.headers = _headers(response.headers)
        self.interim = interim
        self.keep_alive = "close" not in self.headers.get("connection", "").lower()
        self.length = 0
        if method != "HEAD" and self.status >= 200 and self.status not in _BODILESS:
            if _LENGTH not in self.headers or "transfer-encoding" in self.headers:
                raise Aborted("the mailbox answers without a length", **_BROKEN)
            self.length = int(self.headers[_LENGTH])


def _headers(pairs: h11._headers.Headers) -> dict[str, str]:
    """A field that comes several times is one list (RFC 9110 section 5.3)."""
    result: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("ascii"), value.decode("latin-1")
        result[key] = f"{result[key]}, {text}" if key in result else text
    return result


class Stream:
    """One end of an HTTP connection."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._early = memoryview(b"")  # what came with a head and belongs to what follows it
        self._record = memoryview(bytearray(RECORD_BYTES))
        self._asked: list[tuple[h11.Connection, str]] = []
        self.used = False  # has answered at least once

    def _event(self, connection: h11.Connection, fill: Callable[[], int]) -> object:
        """The next head; None if the other side has ended instead."""
        while True:
            event = connection.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._early:
                connection.receive_data(bytes(self._early))
                self._early = memoryview(b"")
                continue
            count = fill()
            if count == 0:
                return None
            connection.receive_data(bytes(self._record[:count]))

    def _keep(self, connection: h11.Connection) -> None:
        self._early = memoryview(connection.trailing_data[0])

    def _fill(self) -> int:
        return self.link.read_into(self._record)

    def read_into(self, view: memoryview) -> int:
        """Of a body: what is there, at least one byte."""
        if self._early:
            count = min(len(view), len(self._early))
            view[:count] = self._early[:count]
            self._early = self._early[count:]
            return count
        count = self.link.read_into(view)
        if count == 0:
            raise Dropped("the connection ended in the middle")
        return count

    # ------------------------------------------------------------------ at the mailbox

    @property
    def waiting(self) -> bool:
        """The next request has begun to arrive."""
        return bool(self._early)

    def next_head(self, fill: Callable[[memoryview], int]) -> tuple[Head, h11.Connection] | None:
        """None when the client has nothing more. `fill` reads from the link and keeps the time."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        try:
            event = self._event(connection, lambda: fill(self._record))
            if event is None:
                return None
            if not isinstance(event, h11.Request):
                raise FormatError("this is not a request")
            self._keep(connection)
            return Head(event), connection
        except h11.RemoteProtocolError as error:
            raise FormatError(f"this is not HTTP/1.1 ({error})") from None
        except (UnicodeError, ValueError):
            raise FormatError("a head that cannot be read") from None

    def respond(
        self,
        connection: h11.Connection | None,
        status: int,
        headers: Mapping[str, str],
        body: bytes | memoryview = b"",
    ) -> None:
        """Send a head and the body, or the beginning of it."""
        kind = h11.InformationalResponse if status < 200 else h11.Response
        reason = http.HTTPStatus(status).phrase if status in _KNOWN else "Upload Resumption"
        event = kind(status_code=status, headers=list(headers.items()), reason=reason)
        if connection is None:  # there was no request that could be read
            connection = h11.Connection(h11.SERVER)
        head = connection.send(event)
        self.link.send(b"".join((head or b"", body)) if len(body) <= RECORD_BYTES else head or b"")
        if len(body) > RECORD_BYTES:
            self.link.send(body)

    # ------------------------------------------------------------------ at the client

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | memoryview = b""
    ) -> None:
        """Send a request. Several may be under way; the answers come in the same order."""
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        fields = [*headers.items()]
        if body or method in {"PUT", "POST", "PATCH"}:
            fields.append((_LENGTH, str(len(body))))
        head = connection.send(h11.Request(method=method, target=target, headers=fields))
        self._asked.append((connection, method))
        if len(body) > RECORD_BYTES:
            self.link.send(head or b"")
            self.link.send(body)
        else:
            self.link.send(b"".join((head or b"", body)))

    def answer(self) -> Answer:
        """The head of the next answer; its body has to be read before the one after it."""
        connection, method = self._asked.pop(0)
        interim: list[Answer] = []
        try:
            while True:
                event = self._event(connection, self._fill)
                if event is None:
                    raise Dropped("the mailbox ended the connection")
                if isinstance(event, h11.InformationalResponse):
                    interim.append(Answer(event, method=method, interim=[]))
                    if len(interim) > INTERIM:
                        raise Aborted("interim answers without end", **_BROKEN)
                    continue
                if not isinstance(event, h11.Response):
                    raise Dropped("the mailbox ended the connection")
                self._keep(connection)
                self.used = True
                return Answer(event, method=method, interim=interim)
        except (h11.RemoteProtocolError, UnicodeError, ValueError):
            raise Aborted("the mailbox does not speak HTTP/1.1", **_BROKEN) from None


_KNOWN: Final = frozenset(status.value for status in http.HTTPStatus)


class StreamBody:
    """The body of a request that is arriving. Satisfies `Body`."""

    def __init__(self, stream: Stream, length: int, *, before: Callable[[], None]) -> None:
        """`before` each read: keeps the time, raises TimedOut if it takes too long in all."""
        self._stream = stream
        self._before = before
        self.left = length

    def read_into(self, view: memoryview) -> int:
        self._before()
        count = self._stream.read_into(view if len(view) <= self.left else view[: self.left])
        self.left -= count
        return count

    def abort(self) -> None:
        self._stream.link.abort()
