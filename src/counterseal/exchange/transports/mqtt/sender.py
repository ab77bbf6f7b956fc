"""The sender of one shipment: push, and push again exactly what did not arrive (SPEC 14.4.3).

Rules, in order:
1. Nothing is pushed before a WANT; a new WANT replaces the one before. A list that names no
   block of this shipment is nobody's.
2. Parts carry rising numbers. At most a window of bytes is under way: pushed, and neither
   reported by a STATE nor given up. So much, and no more, can ever lie in the broker, or be lost
   with either end: 2 MiB, or 1/200 of what has arrived.
3. A part is given up when three later ones arrived, or one and it took too long, or when nothing
   was reported for a while; it is pushed again under a new number, once the receiver is heard,
   and the window shrinks: brokers drop at their limits.
4. A block whose parts all arrived and which is not there was changed on the way: all of it again.
5. If parts of a size never arrive, they are cut smaller: some brokers drop what they find large.
6. It ends with a DONE, or when the last list is there.

Sans-I/O: bytes in, bytes out; the time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from counterseal.errors import Aborted, FormatError
from counterseal.exchange.transports.mqtt import messages
from counterseal.exchange.transports.mqtt.messages import RUN_BYTES, SEEN, Kind
from counterseal.exchange.transports.mqtt.pace import MIN_WAIT, Pace
from counterseal.exchange.transports.mqtt.wanted import Flight, Wanted
from counterseal.wire.limits import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from counterseal.exchange.transports import BlockSource
    from counterseal.exchange.transports.mqtt.messages import Lock, Message

__all__ = ["MAX_BLOCK", "Push", "Sender"]

MAX_BLOCK: Final = 32 * MIB  # put together in memory at the receiver; 512 GiB of package
MIN_PART: Final = 16 * KIB
LATER: Final = 3  # parts that arrive before one that left earlier: it is lost, not late
HELLO_EVERY: Final = 0.2
LISTS: Final = 8  # at once, and then one every half second
REPEATS: Final = 8  # times the whole shipment: what a forged WANT can cost at most


@dataclass(frozen=True, slots=True)
class Push:
    """`head`, and after it `length` bytes of a block."""

    head: bytes
    name: str
    offset: int
    length: int


class Sender:
    """`receive` what comes, send what it returns and what `pushes` yields; `tick` now and then."""

    def __init__(
        self, source: BlockSource, lock: Lock, *, part_bytes: int, window_bytes: int, at: float
    ) -> None:
        self._size = {name: source.size(name) for name in dict.fromkeys(source.names)}
        if max(self._size.values(), default=0) > MAX_BLOCK:
            raise FormatError(
                "the blocks of this shipment are larger than a broker carries",
                hint="send it through a folder or a mailbox",
            )
        self._short = {messages.short(name): name for name in self._size}
        self._lock = lock
        self._part = part_bytes
        self._pace = Pace(limit=window_bytes)
        self.total = sum(self._size.values())
        self.pushed = 0  # bytes, with all repetitions
        self.finished = self.cancelled = self.answered = False
        self.heard = self.progressed = self._timer = at
        self._runs: set[bytes] = set()
        self._tokens, self._token_at = float(LISTS), at
        self._hellos, self._hello_at = 0, at - HELLO_EVERY
        self._silences, self._passed = 0, False
        self._paused = False  # until the receiver is heard again
        self._number = 0
        self._list = Wanted(b"\0" * RUN_BYTES, (), last=False, remaining=self.total)

    @property
    def done(self) -> int:
        """Bytes that the receiver has."""
        if self.finished:
            return self.total
        return self.total - self._list.remaining + self._list.there_bytes

    def hello(self) -> bytes:
        """Here we are: receivers answer with a WANT."""
        self._hellos += 1
        return self._lock.close(Kind.HELLO, self._list.run, self._hellos)

    def reconnected(self) -> bytes:
        """What was under way may be gone with the connection; so may the receiver."""
        self._list.give_up()
        self._paused = True
        return self.hello()

    def receive(self, data: bytes, *, at: float) -> bytes | None:
        """Take what was published to us; returns a message to publish, if one is due."""
        message = self._lock.open(data)
        if message is None:
            return None
        if message.kind is Kind.WANT:
            self._want(message, at)
        elif message.kind is Kind.STATE:
            return self._state(message, at)
        elif message.kind is Kind.DONE:
            self.finished = True
        elif message.kind is Kind.CANCEL and self._lock.secret:  # else anyone could stop us
            self.cancelled = True
        return None

    def pushes(self, *, at: float) -> Iterator[Push]:
        """What may be pushed now. Raises Aborted if the same is wanted again and again."""
        wanted = self._list
        done = self.done
        while not self._paused and self._pace.allows(
            self._part, under_way=wanted.under_way, done=done
        ):
            piece = wanted.next(self._part, self._size)
            if piece is None:
                return
            block, offset, length = piece
            self.pushed += length
            if self.pushed > REPEATS * self.total + 64 * MIB:
                raise Aborted(
                    "the same blocks are wanted again and again",
                    party="receiver",
                    check="repetitions",
                    hint="the broker drops most of what it is given, or someone plays the receiver",
                )
            if not wanted.flight:
                self._timer = at
            number, self._number = self._number, self._number + 1
            wanted.flight[number] = Flight(block, offset, length, at)
            wanted.under_way += length
            part = messages.Part(block, offset, length).encode()
            head = self._lock.close(Kind.PART, wanted.run, number, part)
            yield Push(head, wanted.names[block] or "", offset, length)

    def tick(self, *, at: float) -> bytes | None:
        """Rules 3 and 5, for silence: ask, before anything is pushed to somebody who is gone."""
        if not self._list.flight or at < self._timer + self._pace.wait:
            return None
        self._timer = at
        self._pace.silent(part=self._part, newest=self._number)
        self._silences += 1
        if self._silences >= 2 and not self._passed and self._part > MIN_PART:
            self._part = max(self._part // 2, MIN_PART)
            self._silences = 0
            self._pace.begin()
        return self.reconnected()

    def wake(self) -> float | None:
        """When `tick` is due next."""
        return self._timer + self._pace.wait if self._list.flight else None

    def _heard(self, at: float) -> None:
        self.heard, self.answered, self._paused = at, True, False

    def _want(self, message: Message, at: float) -> None:
        """Rule 1."""
        want = messages.Want.parse(message.body)
        self._tokens = min(float(LISTS), self._tokens + 2 * (at - self._token_at))
        self._token_at = at
        if want is None or message.run in self._runs or self._tokens < 1:
            return
        names = tuple(self._short.get(name) for name in want.names)
        if not any(names):
            return
        self._tokens -= 1
        self._runs.add(message.run)
        remaining = min(want.remaining, self.total)
        self._list = Wanted(message.run, names, last=want.last, remaining=remaining)
        self._pace.begin()
        self._heard(at)
        self._timer = at

    def _state(self, message: Message, at: float) -> bytes | None:
        self._heard(at)
        wanted = self._list
        if message.run != wanted.run:
            # A list that we do not have: an earlier process had it, or the broker dropped it.
            busy = wanted.flight and at < self._timer + MIN_WAIT
            if busy or at < self._hello_at + HELLO_EVERY:
                return None
            self._hello_at = at
            return self.hello()
        state = messages.State.parse(message.body)
        if (
            state is None
            or message.number <= wanted.reported  # an older one, overtaken
            or state.top > self._number
            or state.base > len(wanted.names)
        ):
            return None
        wanted.reported = message.number
        self._pace.heard()
        moved = wanted.take_blocks(state, self._size)
        moved |= self._take_parts(state, at)
        wanted.cut_changed(self._size)
        if moved:
            self.progressed = self._timer = at
            self._silences = 0
        if wanted.last and len(wanted.there) == len(wanted.names):
            self.finished = True
        return None

    def _take_parts(self, state: messages.State, at: float) -> bool:
        """Rules 2 and 3."""
        arrived = False
        for number, flight in list(self._list.flight.items()):
            behind = state.top - 1 - number
            if behind < 0:
                break
            if behind < SEEN and state.seen >> behind & 1:
                self._list.land(number)
                self._pace.arrived(flight.length, part=self._part, took=at - flight.at)
                self._passed = self._passed or flight.length >= self._part
                arrived = True
            elif behind >= LATER or (behind and self._pace.late(at - flight.at)):
                self._list.lose(number)
                self._pace.lost(number, part=self._part, newest=self._number)
        return arrived
