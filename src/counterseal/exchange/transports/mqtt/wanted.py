"""The blocks of one list that a receiver wants, and where each of their bytes is.

Each byte of a block waits to be cut, or in `again`, or is in `flight`, or has landed, or its
block is there. `loose` counts the bytes of a block in `again` and in `flight`: when it is zero
and the block is not there, what landed was not that block.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from counterseal.exchange.transports.mqtt.messages import State

__all__ = ["Flight", "Wanted"]


@dataclass(slots=True)
class Flight:
    block: int
    offset: int
    length: int
    at: float


class Wanted:
    def __init__(
        self, run: bytes, names: tuple[str | None, ...], *, last: bool, remaining: int
    ) -> None:
        self.run, self.names, self.last, self.remaining = run, names, last, remaining
        self.reported = -1  # the number of the newest STATE
        self.there: set[int] = set()
        self.there_bytes = 0
        self.flight: dict[int, Flight] = {}  # rising numbers
        self.under_way = 0
        self._base = 0
        self._begun = 0  # blocks before it were cut into parts
        self._again: deque[tuple[int, int, int]] = deque()
        self._loose: dict[int, int] = {}

    def next(self, part: int, sizes: dict[str, int]) -> tuple[int, int, int] | None:
        """The next piece to push: first what was lost."""
        while True:
            while not self._again:
                if self._begun == len(self.names):
                    return None
                self._cut(self._begun, sizes)
                self._begun += 1
            block, offset, length = self._again.popleft()
            if block in self.there:
                continue
            if length > part:
                self._again.appendleft((block, offset + part, length - part))
            return block, offset, min(length, part)

    def land(self, number: int) -> None:
        flight = self._remove(number)
        if flight.block not in self.there:
            self._loose[flight.block] -= flight.length

    def lose(self, number: int) -> None:
        flight = self._remove(number)
        self._again.append((flight.block, flight.offset, flight.length))

    def give_up(self) -> None:
        for number in list(self.flight):
            self.lose(number)

    def take_blocks(self, state: State, sizes: dict[str, int]) -> bool:
        new = list(range(self._base, state.base))
        new += [state.base + k for k in range(state.there.bit_length()) if state.there >> k & 1]
        self._base = max(self._base, state.base)
        before = len(self.there)
        for block in new:
            if block < len(self.names) and block not in self.there:
                self.there.add(block)
                self._loose.pop(block, None)
                self.there_bytes += sizes.get(self.names[block] or "", 0)
        return len(self.there) > before

    def cut_changed(self, sizes: dict[str, int]) -> None:
        """Rule 4 of the sender."""
        for block in [block for block, loose in self._loose.items() if loose == 0]:
            self._cut(block, sizes)

    def _remove(self, number: int) -> Flight:
        flight = self.flight.pop(number)
        self.under_way -= flight.length
        return flight

    def _cut(self, block: int, sizes: dict[str, int]) -> None:
        length = sizes.get(self.names[block] or "", 0)  # a block that is none of ours: nothing
        if length:
            self._loose[block] = length
            self._again.append((block, 0, length))
