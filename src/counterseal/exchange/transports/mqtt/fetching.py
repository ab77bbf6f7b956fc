"""The receiver's work on a line: say what is wanted, hand over what comes, until all is there."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from counterseal.errors import BadCiphertext, CountersealError, Dropped, TimedOut
from counterseal.exchange.transports.mqtt import topics
from counterseal.exchange.transports.mqtt.broker import Posted
from counterseal.exchange.transports.mqtt.line import ANSWER_SECONDS, BRIEFLY
from counterseal.exchange.transports.mqtt.messages import RUN_BYTES
from counterseal.exchange.transports.mqtt.receiver import Receiver

if TYPE_CHECKING:
    from counterseal.exchange.transports import BlockSink, Progress
    from counterseal.exchange.transports.mqtt.line import Line
    from counterseal.exchange.transports.mqtt.messages import Lock
    from counterseal.exchange.transports.mqtt.receiver import Block, Reply

__all__ = ["Fetching"]

REFUSALS: Final = 256  # blocks that were not what they claim, before the way is given up


class Fetching:
    def __init__(
        self, line: Line, sink: BlockSink, *, transfer: str, lock: Lock, expires: float
    ) -> None:
        """`expires`: how long the broker keeps what we want for a sender who is away."""
        self._line, self._sink, self._expires = line, sink, expires
        self._wants, self._topic = topics.wants(transfer), topics.blocks(transfer)
        self._receiver = Receiver(lock, random=lambda: os.urandom(RUN_BYTES), at=line.clock())
        self._refused = 0

    def run(self, progress: Progress) -> None:
        line, receiver, sink = self._line, self._receiver, self._sink
        total, done = sum(map(sink.size, sink.missing())), 0
        line.connection.subscribe([self._topic], qos=0)
        generation, asked = line.connection.generation, Posted()
        while True:
            at = line.clock()
            if receiver.relist(at=at):
                missing = sink.missing()
                if not missing:
                    break
                asked = self._say(receiver.wants(missing, sink.size, at=at))
            if generation != line.connection.generation:
                generation = line.connection.generation
                self._say(receiver.report(at=at))
            for reply in receiver.replies(at=at):
                self._say(reply)
            self._check(asked, at)
            line.rest(until=receiver.wake())
            for arrived in line.arrived(self._topic):
                if arrived.retained:
                    continue
                block = receiver.receive(arrived.data, at=line.clock())
                if block is not None and self._store(block):
                    done += len(block.data)
                    progress(done, total)
        self._finish()

    def _store(self, block: Block) -> bool:
        try:
            self._sink.put(block.name, block.data)
        except BadCiphertext:
            self._receiver.refused(block)
            self._refused += 1
            if self._refused > REFUSALS:
                raise Dropped(
                    "blocks keep being changed on the way",
                    hint="use another broker: this one, or somebody at it, disturbs",
                ) from None
            return False
        except (CountersealError, OSError):
            self._say(self._receiver.cancel())  # the disk is full: the sender need not wait
            raise
        self._receiver.stored(block)
        return True

    def _finish(self) -> None:
        """All is here, whether or not the sender hears it; `done` says it once more."""
        with contextlib.suppress(Dropped):
            self._say(self._receiver.report(at=self._line.clock()))
            posted = self._say(self._receiver.done())
            self._line.connection.settle(posted, seconds=ANSWER_SECONDS)

    def _say(self, reply: Reply) -> Posted:
        qos, expires = (1, self._expires) if reply.lasts else (0, BRIEFLY)
        return self._line.connection.publish(self._wants, reply.data, qos=qos, expires=expires)

    def _check(self, asked: Posted, at: float) -> None:
        if asked.reason is not None:
            self._line.connection.check(asked)
        if at > self._receiver.heard + self._line.patience:
            raise TimedOut(
                "the sender does not answer",
                hint="ask them to send again; what arrived is kept",
            )
