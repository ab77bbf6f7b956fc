"""Requests and responses as values: what the mailbox decides upon, without a socket or a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from counterseal.errors import Dropped, FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from counterseal.exchange.transports.https.binding import Who

__all__ = ["Body", "BytesBody", "Later", "Part", "Peer", "Request", "Response", "read_all"]


class Body(Protocol):
    """The content of a request, still on its way. `left` counts down."""

    @property
    def left(self) -> int: ...

    def read_into(self, view: memoryview) -> int:
        """At least one byte while there are any left. Raises Dropped or TimedOut."""
        ...

    def abort(self) -> None:
        """From another thread: end the connection that this comes from."""
        ...


class BytesBody:
    """A body that is there already."""

    def __init__(self, data: bytes = b"", *, lost_after: int | None = None) -> None:
        """`lost_after`: the connection is lost after so many bytes."""
        self._data = data
        self._end = len(data) if lost_after is None else lost_after
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def read_into(self, view: memoryview) -> int:
        count = min(len(view), self._end - self._at)
        if count == 0 and self.left:
            raise Dropped("the connection was lost")
        view[:count] = self._data[self._at : self._at + count]
        self._at += count
        return count

    def abort(self) -> None:
        self._end = self._at


def read_all(body: Body, *, limit: int) -> bytes:
    if body.left > limit:
        raise FormatError(f"the content is longer than {limit} bytes")
    buffer = memoryview(bytearray(body.left))
    at = 0
    while body.left:
        at += body.read_into(buffer[at:])
    return bytes(buffer)


def _nothing(_status: int, _headers: Mapping[str, str]) -> None:
    """Nobody listens for interim responses."""


@dataclass(slots=True)
class Peer:
    """Who is at the other end of the connection; `who` after they have proven it."""

    address: str
    exporter: bytes = field(repr=False)
    who: Who | None = None


@dataclass(slots=True)
class Request:
    """`again`: it waits, and something happened; `waited`: and now the time is over."""

    method: str
    path: str
    peer: Peer
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=BytesBody)
    interim: Callable[[int, Mapping[str, str]], None] = _nothing
    again: bool = False
    waited: bool = False


@dataclass(slots=True)
class Part:
    """A stretch of an open file; whoever sends it closes the descriptor."""

    descriptor: int
    offset: int
    length: int


@dataclass(slots=True)
class Response:
    """`headers` without those that say how long the body is. `close`: no further requests."""

    status: int
    body: bytes | Part = b""
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing there yet: ask again when something happened, at the latest after `wait` seconds."""

    wait: float
