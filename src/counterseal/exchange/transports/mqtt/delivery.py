"""The sender's work on a line: post the letter, push what is wanted, until the receiver has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from counterseal.errors import Dropped, TimedOut
from counterseal.exchange.transports.mqtt import topics
from counterseal.exchange.transports.mqtt.line import BRIEFLY, POST_AGAIN
from counterseal.exchange.transports.mqtt.messages import HEAD_BYTES
from counterseal.exchange.transports.mqtt.sender import Sender

if TYPE_CHECKING:
    from counterseal.exchange.transports import BlockSource, Progress
    from counterseal.exchange.transports.mqtt.broker import Posted
    from counterseal.exchange.transports.mqtt.line import Line
    from counterseal.exchange.transports.mqtt.messages import Lock

__all__ = ["Delivery", "Shape"]

STUCK: Final = 4  # times the patience, with a partner that answers and no progress
PACKET_ROOM: Final = 256  # topic and properties of a PUBLISH


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the parts are, and how much of them may be under way."""

    part_bytes: int
    window_bytes: int


class Delivery:
    def __init__(
        self,
        line: Line,
        blocks: BlockSource,
        letter: bytes,
        *,
        to: str,
        transfer: str,
        lock: Lock,
        expires: float,
        shape: Shape,
    ) -> None:
        self._line, self._blocks, self._letter, self._to = line, blocks, letter, to
        self._expires = expires
        self._wants, self._topic = topics.wants(transfer), topics.blocks(transfer)
        self._name, self._data = "", memoryview(b"")
        most = line.connection.max_packet - HEAD_BYTES - PACKET_ROOM
        self._sender = Sender(
            blocks,
            lock,
            part_bytes=min(shape.part_bytes, most),
            window_bytes=shape.window_bytes,
            at=line.clock(),
        )

    def run(self, progress: Progress) -> None:
        line, sender = self._line, self._sender
        line.connection.subscribe([self._wants], qos=1)
        self._posted, self._posted_at = self._post_and_wait(), line.clock()
        generation = line.connection.generation
        self._say(sender.hello())
        while not sender.finished:
            if generation != line.connection.generation:
                generation = line.connection.generation
                self._say(sender.reconnected())
            at, done = line.clock(), sender.done
            self._say(sender.tick(at=at))
            self._push(at)
            self._check(at)
            self._post_again(at)
            line.rest(until=sender.wake())
            for arrived in line.arrived(self._wants):
                if not arrived.retained:
                    self._say(sender.receive(arrived.data, at=line.clock()))
            if sender.done != done:
                progress(sender.done, sender.total)

    def _push(self, at: float) -> None:
        """As long as it leaves at once: what waits here waits in memory."""
        if not self._line.connection.ready():
            return
        for push in self._sender.pushes(at=at):
            data = self._read(push.name)[push.offset : push.offset + push.length]
            self._say(b"".join([push.head, data]))
            if not self._line.connection.ready():
                return

    def _say(self, data: bytes | None) -> None:
        # Quality of service 0: what is lost is repeated by us, and to acknowledge every part to
        # the broker as well would cost half of the speed.
        if data is not None:
            self._line.connection.publish(self._topic, data, qos=0, expires=BRIEFLY)

    def _read(self, name: str) -> memoryview:
        """A block is pushed in several parts, and read once."""
        if name != self._name:
            self._name, self._data = name, memoryview(self._blocks.read(name))
        return self._data

    def _post_and_wait(self) -> Posted:
        return self._line.put(self._to, self._letter, expires=self._expires)

    def _post_again(self, at: float) -> None:
        """A broker may lose a letter, too; and throws it away while nobody has a session."""
        pause = POST_AGAIN if self._posted.unheard else self._line.patience / 3
        if not self._sender.answered and at >= self._posted_at + pause:
            self._posted_at = at
            self._posted = self._line.connection.publish(
                self._to, self._letter, qos=1, expires=self._expires
            )

    def _check(self, at: float) -> None:
        sender, patience = self._sender, self._line.patience
        if sender.cancelled:
            raise Dropped(
                "the receiver stopped", hint="ask them why, and send again: it goes on from there"
            )
        if at <= sender.heard + patience and at <= sender.progressed + STUCK * patience:
            return
        if sender.answered:
            raise TimedOut(
                "the receiver fell silent", hint="send again: it goes on where it stopped"
            )
        if self._posted.unheard:
            raise TimedOut(
                "no receiver has ever listened there, so the broker kept no letter",
                hint="the partner runs counterseal receive; then send again",
            )
        raise TimedOut(
            f"the receiver did not answer within {patience:.0f} seconds",
            hint="the letter waits at the broker; send again when they are there",
        )
