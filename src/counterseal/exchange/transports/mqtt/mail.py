"""Letters that wait at the broker (SPEC 14.4.5).

A letter is acknowledged to the broker when the caller is done with it, not when it arrives: one
that was handed up to a process that died comes again. The broker has at most a few unanswered
letters with us; what lies in topics that nobody asks for now stays, until there is too much.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from counterseal.exchange.transports import Waiting
from counterseal.exchange.transports.mqtt import messages, topics
from counterseal.exchange.transports.mqtt.messages import Kind
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.exchange.transports.mqtt.broker import Arrived, Posted
    from counterseal.exchange.transports.mqtt.connection import Connection

__all__ = ["Mail"]

HELD_BYTES: Final = 32 * limits.MIB
REMEMBERED: Final = 1024  # letters that were done, in case the broker sends one again
DONE_KEPT: Final = 7 * 86_400.0


@dataclass(slots=True)
class _Held:
    topic: str
    data: bytes
    number: int | None  # the broker's, for the acknowledgement; None when that was lost


class Mail:
    """What arrived in boxes and is not done. One connection; not for several threads."""

    def __init__(self, connection: Connection, *, kept: bool) -> None:
        """`kept`: our session is to wait for us; else the broker would collect for nobody."""
        self._connection, self._kept = connection, kept
        self._held: dict[str, _Held] = {}
        self._bytes = 0
        self._done: deque[str] = deque(maxlen=REMEMBERED)
        self._generation = connection.generation

    def listen(self, boxes: Sequence[str]) -> None:
        self._connection.subscribe([topics.letters(box) for box in boxes], qos=1)
        self._sort()

    def pump(self, timeout: float) -> None:
        self._connection.pump(timeout)
        self._sort()

    def waiting(self, boxes: Sequence[str]) -> list[Waiting]:
        """In the order of arrival."""
        asked = {topics.letters(box): box for box in boxes}
        return [
            Waiting(asked[held.topic], identifier, held.data)
            for identifier, held in self._held.items()
            if held.topic in asked
        ]

    def done(self, letter: Waiting, lock: messages.Lock) -> Posted:
        """Let the broker forget it, and tell the sender."""
        self._sort()
        self._done.append(letter.id)
        self._drop(letter.id)
        message = lock.close(Kind.DONE, bytes(messages.RUN_BYTES), 0)
        topic = topics.wants(letter.id)
        return self._connection.publish(topic, message, qos=1, expires=DONE_KEPT)

    def close(self) -> None:
        self._connection.close(forget=not self._kept)

    def _sort(self) -> None:
        if self._generation != self._connection.generation:
            self._generation = self._connection.generation
            for held in self._held.values():
                held.number = None  # it comes again, under another number
        while self._connection.inbox:
            self._take(self._connection.inbox.popleft())
        while self._bytes > HELD_BYTES:
            self._drop(next(reversed(self._held)))  # a flood loses itself, not what came before

    def _take(self, arrived: Arrived) -> None:
        identifier = topics.transfer(arrived.topic, arrived.data)
        known = self._held.get(identifier)
        if (
            arrived.retained  # a letter is never retained: someone left it for every reader to come
            or not arrived.topic.endswith("/letters")
            or len(arrived.data) > limits.LETTER_BYTES
            or (arrived.again and identifier in self._done)
        ):
            self._acknowledge(arrived.number if arrived.qos else None)
        elif known is not None:
            self._acknowledge(known.number)
            known.number = arrived.number if arrived.qos else None
        else:
            number = arrived.number if arrived.qos else None
            self._held[identifier] = _Held(arrived.topic, arrived.data, number)
            self._bytes += len(arrived.data)

    def _drop(self, identifier: str) -> None:
        held = self._held.pop(identifier, None)
        if held is not None:
            self._bytes -= len(held.data)
            self._acknowledge(held.number)

    def _acknowledge(self, number: int | None) -> None:
        if number is not None:
            self._connection.acknowledge(number)
