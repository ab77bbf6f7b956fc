"""The sending half of a line: what is on its way, what counts as lost, how much may be out.

The rules are in `link`. Pure: no letters here, only numbers, pieces and `now` in seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Piece", "Sending"]

FIRST_WAIT: Final = 1.0  # RFC 6298: before anything is measured
LEAST_WAIT: Final = 0.2
MOST_WAIT: Final = 15.0
LATER: Final = 3  # letters sent later that must have arrived before one counts as lost (RFC 5681)
START: Final = 4.0


@dataclass(slots=True)
class Piece:
    """One piece of a message. `sent` is None before it is sent and when it counts as lost."""

    data: memoryview = field(repr=False)
    last: bool
    sent: float | None = None
    order: int = 0  # of its latest letter among all that were sent
    times: int = 0
    overtaken: int = 0


class Sending:
    """Messages in, numbered pieces out; acknowledgements come back."""

    def __init__(self, *, piece: int, window: int) -> None:
        self.queued = 0  # bytes of messages that are not pieces yet
        self.next = 0  # the first number that was never cut
        self.acknowledged = 0  # every number below has arrived
        self.room = window  # theirs, from `acknowledged` on
        self._size, self._window = piece, window
        self._queue: deque[memoryview] = deque()
        self._pieces: dict[int, Piece] = {}  # not acknowledged, in order
        self._sent = 0
        self._allowed = START
        self._recover = 0  # a loss below this number was answered before
        self._trip: tuple[float, float] | None = None  # smoothed round trip, its variation
        self._backoff = 1

    @property
    def idle(self) -> bool:
        return not (self._queue or self._pieces)

    @property
    def waiting(self) -> bool:
        """Whether something is out for which an answer is due."""
        return bool(self._pieces)

    def add(self, message: bytes) -> None:
        self._queue.append(memoryview(message))
        self.queued += len(message)

    def settle(self, following: int, seen: int, *, now: float) -> None:
        """What has arrived: every number below `following`, and following + 1 + i for bit i."""
        arrived = [
            number
            for number in self._pieces
            if number < following or (number > following and seen >> (number - following - 1) & 1)
        ]
        for number in arrived:
            piece = self._pieces.pop(number)
            self._backoff = 1
            # Doubling each round trip until something is lost, then one more each round trip.
            self._allowed += 1 / self._allowed if self._recover else 1
            if piece.times == 1 and piece.sent is not None:
                self._measure(now - piece.sent)
            for other in self._pieces.values():
                other.overtaken += other.order < piece.order
        self.acknowledged = max(self.acknowledged, following)
        self._find_lost(lambda piece: piece.overtaken >= LATER)

    def due(self, now: float) -> Iterator[tuple[int, Piece]]:
        """The pieces to send now; each counts as sent when it is handed out."""
        wait = self._wait()
        if self._find_lost(lambda piece: (piece.sent or 0.0) + wait <= now):
            self._backoff *= 2
        while (number := self._next_number()) is not None:
            piece = self._pieces[number]
            self._sent += 1
            piece.order, piece.sent, piece.overtaken = self._sent, now, 0
            piece.times += 1
            yield number, piece

    def seconds(self, now: float) -> float | None:
        """How long until `due` has something, None if only an acknowledgement can change that."""
        if self._next_number() is not None:
            return 0.0
        times = [piece.sent for piece in self._pieces.values() if piece.sent is not None]
        return max(0.0, min(times) + self._wait() - now) if times else None

    def _next_number(self) -> int | None:
        """The number that may be sent now, a lost one first."""
        out = sum(piece.sent is not None for piece in self._pieces.values())
        # One may always be out: it is how a closed window is found to be open again.
        if out >= max(1, min(int(self._allowed), self.room)):
            return None
        lost = (number for number, piece in self._pieces.items() if piece.sent is None)
        number = next(lost, None)
        if number is None and self._queue and self.next < self.acknowledged + self._window:
            self._cut()
            number = self.next - 1
        return number

    def _cut(self) -> None:
        message = self._queue.popleft()
        data, rest = message[: self._size], message[self._size :]
        if rest:
            self._queue.appendleft(rest)
        self.queued -= len(data)
        self._pieces[self.next] = Piece(data, last=not rest)
        self.next += 1

    def _find_lost(self, is_lost: Callable[[Piece], bool]) -> bool:
        lost = [
            number
            for number, piece in self._pieces.items()
            if piece.sent is not None and is_lost(piece)
        ]
        for number in lost:
            self._pieces[number].sent = None
        if lost and lost[-1] >= self._recover:
            self._allowed = max(1.0, min(self._allowed, self._window) / 2)
            self._recover = self.next
        return bool(lost)

    def _wait(self) -> float:
        if self._trip is None:
            return min(MOST_WAIT, FIRST_WAIT * self._backoff)
        smoothed, variation = self._trip
        return min(MOST_WAIT, max(LEAST_WAIT, smoothed + 4 * variation) * self._backoff)

    def _measure(self, trip: float) -> None:
        if self._trip is None:
            self._trip = trip, trip / 2
            return
        smoothed, variation = self._trip
        self._trip = 7 / 8 * smoothed + trip / 8, 3 / 4 * variation + abs(smoothed - trip) / 4
