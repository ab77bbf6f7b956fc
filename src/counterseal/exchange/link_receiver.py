"""The receiving half of a line: pieces in any order in, messages in order out.

The rules are in `link`. What it holds is bounded, whoever writes the letters: a window of
pieces, one message in the making, one inbox.
"""

from __future__ import annotations

from collections import deque

from counterseal.errors import Aborted

__all__ = ["Receiving"]


class Receiving:
    def __init__(self, *, piece: int, window: int, most: int, inbox: int) -> None:
        self.next = 0  # every number below has arrived
        self.due = False  # an acknowledgement has to be sent
        self._size, self._window, self._most, self._limit = piece, window, most, inbox
        self._early: dict[int, tuple[bytes, bool]] = {}
        self._message = bytearray()
        self._inbox: deque[bytes] = deque()
        self._waiting = 0

    @property
    def seen(self) -> int:
        """Bit i: the number next + 1 + i has arrived."""
        return sum(1 << (number - self.next - 1) for number in self._early)

    @property
    def room(self) -> int:
        """How many numbers from `next` on may come."""
        return max(0, min(self._window, (self._limit - self._waiting) // self._size))

    def take(self) -> bytes | None:
        if not self._inbox:
            return None
        was_closed = self.room == 0
        message = self._inbox.popleft()
        self._waiting -= len(message)
        if was_closed and self.room:
            self.due = True  # they wait for it
        return message

    def accept(self, number: int, data: bytes, *, last: bool) -> None:
        """A piece arrived. Raises Aborted if its message grows above the limit."""
        self.due = True  # whatever becomes of it: what was known may have been lost
        full = self._waiting >= self._limit
        if full or len(data) > self._size or not self.next <= number < self.next + self._window:
            return
        self._early.setdefault(number, (data, last))
        while self.next in self._early:
            data, last = self._early.pop(self.next)
            self.next += 1
            self._join(data, last=last)

    def _join(self, data: bytes, *, last: bool) -> None:
        if len(self._message) + len(data) > self._most:
            raise Aborted(
                f"a message on this line is longer than {self._most} bytes",
                party="partner",
                check="message size",
            )
        if not last:
            self._message += data
            return
        message = bytes(self._message) + data if self._message else data
        self._message = bytearray()
        self._inbox.append(message)
        self._waiting += len(message)
