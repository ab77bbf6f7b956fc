"""A reliable line over letters that are dropped, repeated and reordered on the way (SPEC 10.4).

    kind 1 | direction 1 | line 16 | next u64 | seen u64 | room u8         ACK, 35 bytes
    the same             | number u64 | last u8 | piece of a message       DATA, 44 + piece

`next` acknowledges every number below it, bit i of `seen` the number next + 1 + i, and from
`next` on there is `room` for so many. Both kinds carry all three, so that one letter of many
that is lost costs one letter (RFC 2018's idea), and a lost ACK nothing.

Nothing here is secret or authentic: whoever controls the carrier can invent letters and
break the line, never more; handshake and channel above it notice. What it can *cost* is
bounded (`link_receiver`). Letters that make no sense, of another line or of our own
direction are ignored: brokers hand out stale ones, and our own. The rules:
1. A letter is sent again when three later ones arrived, or after a time that follows the
   measured round trip (RFC 6298) and doubles each time; a letter that was sent twice
   measures nothing (Karn).
2. What may be out grows with each acknowledgement and halves when a letter is lost (RFC
   5681): brokers drop what exceeds their queues and say nothing.
3. Who does not take its messages closes the window (room 0); the other side then keeps one
   letter out, seldomer and seldomer, until there is room.
4. Nothing heard for `patience` seconds while an answer is due: the line is lost (TimedOut).

Pure: letters in, letters out, `now` in seconds is an argument.
"""

from __future__ import annotations

import struct
from typing import Final

from counterseal.errors import TimedOut
from counterseal.exchange.channel import FRAME_BYTES, MESSAGE_BYTES
from counterseal.exchange.link_receiver import Receiving
from counterseal.exchange.link_sender import Sending
from counterseal.wire.limits import KIB

__all__ = ["LETTER_OVERHEAD_BYTES", "LINE_BYTES", "WINDOW", "Link", "line_of"]

LINE_BYTES: Final = 16
WINDOW: Final = 64  # numbers on the way: the bits of `seen`
PIECE_BYTES: Final = 256 * KIB  # brokers are fastest from 256 KiB to 1 MiB
PATIENCE: Final = 60.0
_HEAD: Final = struct.Struct(">BB16sQQB")
_DATA: Final = struct.Struct(">QB")
_ACK_KIND: Final = 1
_DATA_KIND: Final = 2
LETTER_OVERHEAD_BYTES: Final = _HEAD.size + _DATA.size


def line_of(letter: bytes) -> tuple[bytes, bool] | None:
    """(line, whether its initiator sent it) of a letter, None if it is not one of a link."""
    if len(letter) < _HEAD.size:
        return None
    kind, direction, line, *_ = _HEAD.unpack_from(letter)
    if kind not in (_ACK_KIND, _DATA_KIND) or direction > 1:
        return None
    return line, direction == 0


class Link:
    """One end of a line. `send` and `take` messages; `receive` and `tick` letters."""

    def __init__(
        self,
        line: bytes,
        *,
        initiator: bool,
        piece: int = PIECE_BYTES,
        window: int = WINDOW,
        most: int = FRAME_BYTES,
        inbox: int = MESSAGE_BYTES,
        patience: float = PATIENCE,
    ) -> None:
        """`line`: 16 random bytes that the initiator draws. `most`: bytes of a message.

        `piece` (bytes) and `window` (letters) must be the same at both ends. `inbox`: bytes of
        messages that may wait here for `take`, and about what may wait in `send`.
        """
        if len(line) != LINE_BYTES or not 0 < window <= WINDOW:
            raise ValueError("a line has 16 bytes and a window of 1 to 64 letters")
        self._line, self._initiator = line, initiator
        self._most, self._limit, self._patience = most, inbox, patience
        self._out = Sending(piece=piece, window=window)
        self._in = Receiving(piece=piece, window=window, most=most, inbox=inbox)
        self._heard = 0.0

    @property
    def room(self) -> bool:
        """Whether `send` takes another message now."""
        return self._out.queued < self._limit

    @property
    def idle(self) -> bool:
        """Everything that was sent has arrived, and no acknowledgement is due."""
        return self._out.idle and not self._in.due

    def send(self, message: bytes) -> None:
        """Queue a message; `tick` sends it."""
        if len(message) > self._most:
            raise ValueError(f"a message of this line has at most {self._most} bytes")
        if not self.room:
            raise RuntimeError("the line is full: look at `room` first")
        self._out.add(message)

    def take(self) -> bytes | None:
        """The next message, None if none is here."""
        return self._in.take()

    def receive(self, letter: bytes, *, now: float) -> None:
        """A letter arrived. Raises Aborted for a message above the limit; ignores nonsense."""
        if line_of(letter) != (self._line, not self._initiator):
            return
        kind, _, _, following, seen, room = _HEAD.unpack_from(letter)
        if following > self._out.next:
            return  # about what was never sent
        self._heard = now
        if following >= self._out.acknowledged:  # else it was overtaken by a newer one
            self._out.settle(following, seen, now=now)
            self._out.room = room
        if kind == _DATA_KIND and len(letter) >= LETTER_OVERHEAD_BYTES:
            number, last = _DATA.unpack_from(letter, _HEAD.size)
            self._in.accept(number, letter[LETTER_OVERHEAD_BYTES:], last=last == 1)

    def tick(self, now: float) -> list[bytes]:
        """The letters to send now. Raises TimedOut when the line is lost."""
        if not self._out.waiting:
            self._heard = now  # nobody has to answer
        elif now - self._heard > self._patience:
            raise TimedOut("the partner does not answer on this line", hint="try again later")
        letters = [
            b"".join((self._head(_DATA_KIND), _DATA.pack(number, piece.last), piece.data))
            for number, piece in self._out.due(now)
        ]
        if self._in.due and not letters:
            letters.append(self._head(_ACK_KIND))
        self._in.due = False
        return letters

    def seconds(self, now: float) -> float | None:
        """How long until `tick` has something, None if only a letter can change that."""
        return 0.0 if self._in.due else self._out.seconds(now)

    def _head(self, kind: int) -> bytes:
        return _HEAD.pack(
            kind,
            0 if self._initiator else 1,
            self._line,
            self._in.next,
            self._in.seen,
            self._in.room,
        )
