"""One connection at work, and what every kind of work on it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from counterseal.errors import Dropped, FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from counterseal.exchange.transports.mqtt.broker import Arrived, Posted
    from counterseal.exchange.transports.mqtt.connection import Connection

__all__ = ["BRIEFLY", "POST_AGAIN", "Line"]

ANSWER_SECONDS: Final = 10.0  # for the broker
POST_AGAIN: Final = 1.0  # while nobody listens
ALONE: Final = 5.0  # how long a letter without blocks is tried while nobody listens
BRIEFLY: Final = 60.0  # what is said from moment to moment; it is said again anyway
TICK: Final = 0.5


class Line:
    """A context manager; the broker may forget the session if the work in it was done."""

    def __init__(
        self, connection: Connection, *, patience: float, clock: Callable[[], float]
    ) -> None:
        self.connection, self.patience, self.clock = connection, patience, clock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.close(forget=error is None)

    def put(self, topic: str, data: bytes, *, expires: float, retain: bool = False) -> Posted:
        """Returns when the broker has it. Raises TrustError or QuotaExceeded if it refuses."""
        posted = self.connection.publish(topic, data, qos=1, expires=expires, retain=retain)
        self.connection.settle(posted, seconds=ANSWER_SECONDS)
        return posted

    def post(self, topic: str, letter: bytes, *, expires: float) -> None:
        """A letter without blocks. Raises Dropped if the broker would throw it away."""
        deadline = self.clock() + min(ALONE, self.patience)
        while self.put(topic, letter, expires=expires).unheard:
            if self.clock() > deadline:
                raise Dropped(
                    "the broker has nobody to keep this letter for",
                    hint="the partner has to listen there once: counterseal receive",
                )
            again = self.clock() + POST_AGAIN
            while self.clock() < again:
                self.rest(until=again)

    def look(self, topic: str, *, limit: int, grace: float) -> bytes | None:
        """The newest that is there. The broker says nothing if there is none."""
        self.connection.subscribe([topic], qos=1, retained=True)
        deadline = self.clock() + grace
        while not self.connection.inbox and self.clock() < deadline:
            self.rest(until=deadline)
        letters = [arrived.data for arrived in self.arrived(topic) if arrived.data]
        if not letters:
            return None
        if len(letters[-1]) > limit:
            raise FormatError("what is put up at the broker is longer than it may be")
        return letters[-1]

    def arrived(self, topic: str) -> Iterator[Arrived]:
        """What came there, acknowledged; what came elsewhere is nobody's."""
        inbox = self.connection.inbox
        while inbox:
            arrived = inbox.popleft()
            if arrived.qos:
                self.connection.acknowledge(arrived.number)
            if arrived.topic == topic:
                yield arrived

    def rest(self, *, until: float | None) -> None:
        """Move bytes; come back when something happened, at the latest at this time."""
        left = TICK if until is None else until - self.clock()
        self.connection.pump(min(TICK, max(0.0, left)))
