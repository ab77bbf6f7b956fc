"""A broker that is nothing but its faults, in a time that is only counted.

    faults = Faults(random.Random(1), drop=0.1)
    World(source, sink, faults).run()

Moves the two state machines of `exchange.transports.mqtt` as the real lines do, without sockets:
what is in `Faults` happens to every message, in both directions.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from counterseal.errors import BadCiphertext
from counterseal.exchange.transports.mqtt.messages import HEAD_BYTES, Lock
from counterseal.exchange.transports.mqtt.receiver import Receiver
from counterseal.exchange.transports.mqtt.sender import Sender

TRANSFER = "5e" * 16


@dataclass
class Faults:
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    drop: float = 0.0
    twice: float = 0.0
    late: float = 0.0  # seconds more, at random: reorders
    change: float = 0.0
    delay: float = 0.005
    largest: int = 1 << 30  # the broker drops what is longer
    queue: int = 1 << 30  # messages that it holds for a reader; it drops the rest

    def happen(self, data):
        """[(delay, data)] of what arrives."""
        if len(data) > self.largest or self.rng.random() < self.drop:
            return []
        if self.rng.random() < self.change:
            at = self.rng.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << self.rng.randrange(8)]) + data[at + 1 :]
        times = 2 if self.rng.random() < self.twice else 1
        return [(self.delay + self.rng.random() * self.late, data) for _ in range(times)]


class World:
    """`lives`: processes are killed at these times, and started again half a second later."""

    def __init__(
        self,
        source,
        sink,
        faults,
        *,
        part=1 << 20,
        window=8 << 20,
        kill_sender=(),
        kill_receiver=(),
    ):
        self.source, self.sink, self.faults = source, sink, faults
        self.part, self.window = part, window
        self.now = 0.0
        self.pushed = 0
        self.carried = 0  # bytes of blocks that reached the receiver's side
        self._queue = []
        self._order = itertools.count()
        self._waiting = 0  # for the receiver
        self._lasting = []  # what the broker keeps for a sender who is away
        self._runs = itertools.count(1)
        self.sender = self.receiver = None
        for role, times in (("sender", kill_sender), ("receiver", kill_receiver)):
            for at in times:
                self._at(at, "kill", role)

    def run(self, *, limit=3600.0):
        self._start("receiver")
        self._start("sender")
        while not self.finished():
            assert self.now < limit, "it never ends"
            wakes = [self._next()]
            if self.sender:
                wakes.append(self.sender.wake())
            if self.receiver:
                wakes.append(self.receiver.wake())
            self.now = max(self.now, min(wake for wake in wakes if wake is not None))
            self._arrive()
            self._step()
        return self

    def finished(self):
        return self.sender is not None and self.sender.finished and not self.sink.missing()

    def _start(self, role):
        lock = Lock(TRANSFER, self.source.secret)
        if role == "sender":
            self.sender = Sender(
                self.source, lock, part_bytes=self.part, window_bytes=self.window, at=self.now
            )
            for data in self._lasting:
                self._at(self.now, "sender", (data, True))
            self._lasting = []
            self._say(self.sender.hello())
        else:
            lock = Lock(TRANSFER, self.sink.secret)
            self.receiver = Receiver(
                lock, random=lambda: next(self._runs).to_bytes(8, "big"), at=self.now
            )
        self._step()

    def _at(self, at, what, detail):
        heapq.heappush(self._queue, (at, next(self._order), what, detail))

    def _next(self):
        return self._queue[0][0] if self._queue else None

    def _arrive(self):
        while self._queue and self._queue[0][0] <= self.now:
            _, _, what, detail = heapq.heappop(self._queue)
            if what == "kill":
                setattr(self, detail, None)
                self._at(self.now + 0.5, "start", detail)
            elif what == "start":
                self._start(detail)
            elif what == "sender":
                data, lasts = detail
                if self.sender:
                    self._say(self.sender.receive(data, at=self.now))
                elif lasts:
                    self._lasting.append(data)
            else:
                self._waiting -= 1
                if self.receiver:
                    self._take(detail)

    def _take(self, data):
        if data and data[0] == 6:
            self.carried += len(data) - HEAD_BYTES
        block = self.receiver.receive(data, at=self.now)
        if block is None:
            return
        try:
            self.sink.put(block.name, block.data)
        except BadCiphertext:
            self.receiver.refused(block)
        else:
            self.receiver.stored(block)

    def _step(self):
        sender, receiver = self.sender, self.receiver
        if receiver:
            if receiver.relist(at=self.now):
                missing = self.sink.missing()
                if missing:
                    self._reply(receiver.wants(missing, self.sink.size, at=self.now))
                else:
                    self._reply(receiver.done())
                    self.receiver = None
            if self.receiver:
                for reply in receiver.replies(at=self.now):
                    self._reply(reply)
        if sender:
            self._say(sender.tick(at=self.now))
            for push in sender.pushes(at=self.now):
                data = self.source.read(push.name)[push.offset : push.offset + push.length]
                self.pushed += push.length
                self._say(push.head + data)

    def _reply(self, reply):
        # What lasts and is lost all the same is repeated: by `done`, by a letter posted again.
        copies = 30 if not self.sink.missing() else 1
        for _ in range(copies):
            for delay, arriving in self.faults.happen(reply.data):
                self._at(self.now + delay, "sender", (arriving, reply.lasts))

    def _say(self, data):
        """The sender speaks."""
        if data is None:
            return
        for delay, arriving in self.faults.happen(data):
            if self._waiting < self.faults.queue:
                self._waiting += 1
                self._at(self.now + delay, "receiver", arriving)
