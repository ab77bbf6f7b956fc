"""The receiver of one shipment: say what is wanted, put it together, say what came (SPEC 14.4.4).

Rules, in order:
1. It lists what is missing, at most 4096 blocks at once, under a name drawn at random. A HELLO
   of a sender that does not know the list is answered with a new one, of one that does with a
   report.
2. A part counts if it is of the list in force. What it says is not believed: the caller hands
   the finished block to a sink that knows its digest. A block that is refused is wanted again.
3. It reports every 512 KiB, at once when a number is skipped, soon otherwise, and from time
   to time when nothing comes, so that neither a lost part nor a lost report is the end.
4. Half blocks are few: beyond a limit the oldest is thrown away, and wanted again.

Sans-I/O: bytes in, bytes out; the time and the random bytes are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from counterseal.errors import FormatError
from counterseal.exchange.transports.mqtt import messages
from counterseal.exchange.transports.mqtt.messages import MAX_WANTED, SEEN, Kind
from counterseal.exchange.transports.mqtt.sender import MAX_BLOCK
from counterseal.wire.limits import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from counterseal.exchange.transports.mqtt.messages import Lock

__all__ = ["Block", "Receiver", "Reply"]

REPORT_BYTES: Final = 512 * KIB
SOON: Final = 0.01  # a small part waits no longer for others to be reported with
FIRST_PING, MAX_PING = 0.5, 2.0
LIST_EVERY: Final = 0.2
HALF_BLOCKS: Final = MAX_BLOCK + 8 * MIB  # in bytes
_SEEN_MASK: Final = (1 << SEEN) - 1


@dataclass(frozen=True, slots=True)
class Block:
    """A block that is complete, if it is that block. Answer with `stored` or `refused`."""

    index: int
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A message for the sender. One that lasts waits at the broker for a sender who is away."""

    data: bytes
    lasts: bool


@dataclass(slots=True)
class _Half:
    buffer: bytearray
    covered: list[tuple[int, int]] = field(default_factory=list)  # sorted, never touching

    def add(self, start: int, data: memoryview) -> bool:
        """True if all of it is there now."""
        end = start + len(data)
        self.buffer[start:end] = data
        apart = [(a, b) for a, b in self.covered if b < start or a > end]
        joined = [(a, b) for a, b in self.covered if not (b < start or a > end)]
        low = min([start, *(a for a, _ in joined)])
        high = max([end, *(b for _, b in joined)])
        self.covered = sorted([*apart, (low, high)])
        return self.covered == [(0, len(self.buffer))]


class Receiver:
    """`receive` what comes, send what `replies` yields; `wants` starts each list."""

    def __init__(self, lock: Lock, *, random: Callable[[], bytes], at: float) -> None:
        self._lock = lock
        self._random = random
        self.heard = at
        self._report_at: float | None
        self._begin(bytes(messages.RUN_BYTES), (), at=at)

    def wants(self, missing: Sequence[str], size: Callable[[str], int], *, at: float) -> Reply:
        """Rule 1."""
        self._begin(self._random(), missing[:MAX_WANTED], at=at)
        self._sizes = [size(name) for name in self._names]
        if max(self._sizes, default=0) > MAX_BLOCK:
            raise FormatError("the blocks of this shipment are larger than a broker carries")
        want = messages.Want(
            last=len(missing) <= MAX_WANTED,
            remaining=sum(map(size, missing)),
            names=tuple(map(messages.short, self._names)),
        )
        return Reply(self._close(Kind.WANT, want.encode()), lasts=True)

    def relist(self, *, at: float) -> bool:
        """Whether `wants` is to be called: the list is done, or the sender does not know it."""
        return self._left == 0 or (self._list_due and at >= self._list_at + LIST_EVERY)

    def receive(self, data: bytes, *, at: float) -> Block | None:
        """Take what was published to us; returns a block when one is complete."""
        message = self._lock.open(data)
        if message is None:
            return None
        if message.kind is Kind.HELLO:
            self.heard = at
            if message.run == self._run:
                self._report_at = at  # it knows our list, and asks what came
            else:
                self._list_due = True
            return None
        if message.kind is not Kind.PART or message.run != self._run:
            return None
        part = messages.Part.parse(message.body)
        if (
            part.block >= len(self._names)
            or part.length != len(message.data)
            or part.length == 0
            or part.offset + part.length > self._sizes[part.block]
        ):
            return None
        self.heard = at
        self._list_due = False  # the list and the HELLO passed each other
        self._ping, self._ping_at = FIRST_PING, at + FIRST_PING
        self._note(message.number, part.length, at)
        if self._there >> part.block & 1:
            return None
        return self._join(part, message.data)

    def stored(self, block: Block) -> None:
        self._there |= 1 << block.index
        self._left -= 1

    def refused(self, block: Block) -> None:
        """Rule 2. The next report shows its parts as come and the block as missing."""
        self._halves.pop(block.index, None)

    def replies(self, *, at: float) -> Iterator[Reply]:
        """Rule 3."""
        if self._report_at is not None and at >= self._report_at:
            yield self.report(at=at)
        elif at >= self._ping_at:
            self._ping = min(2 * self._ping, MAX_PING)
            yield self.report(at=at)

    def report(self, *, at: float) -> Reply:
        self._unreported, self._report_at = 0, None
        self._ping_at = at + self._ping
        base = (~self._there & (self._there + 1)).bit_length() - 1
        state = messages.State(self._top, self._seen, base, self._there >> base)
        return Reply(self._close(Kind.STATE, state.encode()), lasts=False)

    def wake(self) -> float:
        """When `replies` is due next."""
        return self._ping_at if self._report_at is None else min(self._ping_at, self._report_at)

    def done(self) -> Reply:
        return Reply(self._close(Kind.DONE), lasts=True)

    def cancel(self) -> Reply:
        return Reply(self._close(Kind.CANCEL), lasts=False)

    def _begin(self, run: bytes, names: Sequence[str], *, at: float) -> None:
        self._run, self._number = run, 0
        self._names, self._sizes = list(names), [0] * len(names)
        self._list_at, self._list_due = at, False
        self._there = 0
        self._left = len(names)
        self._top = self._seen = 0
        self._halves: dict[int, _Half] = {}
        self._unreported = 0
        self._report_at = None
        self._ping, self._ping_at = FIRST_PING, at + FIRST_PING

    def _close(self, kind: Kind, body: bytes = b"") -> bytes:
        self._number += 1
        return self._lock.close(kind, self._run, self._number, body)

    def _note(self, number: int, length: int, at: float) -> None:
        skipped = number > self._top
        if number >= self._top:
            further = min(number + 1 - self._top, SEEN)  # not as far as somebody may claim
            self._seen = (self._seen << further | 1) & _SEEN_MASK
            self._top = number + 1
        elif self._top - 1 - number < SEEN:
            self._seen |= 1 << (self._top - 1 - number)
        self._unreported += length
        due = at if skipped or self._unreported >= REPORT_BYTES else at + SOON
        self._report_at = due if self._report_at is None else min(due, self._report_at)

    def _join(self, part: messages.Part, data: memoryview) -> Block | None:
        size = self._sizes[part.block]
        name = self._names[part.block]
        if part.length == size:
            return Block(part.block, name, bytes(data))
        half = self._halves.get(part.block)
        if half is None:
            while self._halves and self._held() + size > HALF_BLOCKS:  # rule 4
                self._halves.pop(next(iter(self._halves)))
            half = self._halves[part.block] = _Half(bytearray(size))
        if not half.add(part.offset, data):
            return None
        del self._halves[part.block]
        return Block(part.block, name, bytes(half.buffer))

    def _held(self) -> int:
        return sum(len(half.buffer) for half in self._halves.values())
