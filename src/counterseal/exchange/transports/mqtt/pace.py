"""How much may be under way, and how long silence is only slowness (RFC 5681, RFC 6298, in small).

A broker has queues and drops at their end without a word, like a router: so the window grows
with what arrives, shrinks with what is lost, and never exceeds what the caller allows.
"""

from __future__ import annotations

from typing import Final

from counterseal.wire.limits import MIB

__all__ = ["Pace"]

FIRST_WINDOW: Final = 2 * MIB
RISKED: Final = 200  # of what arrived, one part in so many may have to be pushed again
LESS: Final = 0.7  # of the window, after a loss
FEWEST: Final = 2  # parts: one that goes on telling that the other was lost
FIRST_WAIT, MIN_WAIT, MAX_WAIT = 1.0, 0.2, 30.0  # seconds without a report


class Pace:
    def __init__(self, *, limit: int) -> None:
        self._limit = float(limit)
        self._window = min(float(FIRST_WINDOW), self._limit)
        self._threshold = self._limit
        self._recovered = 0
        self._round_trip: float | None = None
        self.wait = FIRST_WAIT

    def allows(self, part: int, *, under_way: int, done: int) -> bool:
        """One part always goes. What is under way is lost with either end: it costs little
        compared with what is done.
        """
        most = min(self._window, max(FIRST_WINDOW, done // RISKED))
        return under_way == 0 or under_way + part <= most

    def arrived(self, length: int, *, part: int, took: float) -> None:
        slow = self._window < self._threshold
        self._window += length if slow else part * length / self._window
        self._window = min(self._window, self._limit)
        if self._round_trip is None:
            self._round_trip = took
        else:
            self._round_trip += 0.125 * (took - self._round_trip)

    def late(self, took: float) -> bool:
        """So long under way that it is lost if a later one has arrived."""
        return self._round_trip is not None and took > 1.5 * self._round_trip

    def lost(self, number: int, *, part: int, newest: int) -> None:
        """Part `number` was lost, `newest` is the next to leave: once for a whole window."""
        if number < self._recovered:
            return
        self._window = min(max(LESS * self._window, FEWEST * part), self._limit)
        self._threshold = self._window
        self._recovered = newest

    def heard(self) -> None:
        """The way is open: silence means what it usually means."""
        if self._round_trip is not None:
            self.wait = min(max(4 * self._round_trip, MIN_WAIT), MAX_WAIT)

    def silent(self, *, part: int, newest: int) -> None:
        """Nothing arrived at all: start again with one part."""
        self.wait = min(2 * self.wait, MAX_WAIT)
        self._threshold = max(self._window / 2, FEWEST * part)
        self._window = part
        self._recovered = newest

    def begin(self) -> None:
        self.wait = FIRST_WAIT
