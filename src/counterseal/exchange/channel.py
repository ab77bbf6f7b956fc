"""A channel: whole messages, in order, secret and authentic, over any carrier (SPEC 10).

Messages in, frames out, and the other way. The rules, in order; the first that fails ends
the channel for good, because after it nobody knows what the partner really said:
1. A frame has at most 1 MiB of payload and opens under the next number of its direction:
   dropped, repeated, moved, changed and foreign frames do not.
2. Its kind is known: PART (more of this message follows), LAST, TURN, CLOSE. A PART is full,
   a LAST after it not empty, TURN and CLOSE are: one way to cut a message, and no endless one.
3. A message has at most the bytes that this end allows.
4. A direction turns its key forwards (TURN) after 1 GiB or an hour; the old key is dropped.
   Nothing opens under a key that has carried 2 GiB.
5. After CLOSE the direction carries nothing.
6. After the end of its time the channel carries nothing: the partner's card is over, or a
   day has passed, so that a revocation counts at the latest tomorrow.

A carrier that ends without CLOSE has cut the channel (`carrier_ended` raises `Dropped`): the
messages so far are true, but there may have been more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from counterseal.crypto.record import OVERHEAD_BYTES, Opener, Sealer
from counterseal.errors import Aborted, Dropped, SessionExpired
from counterseal.wire.limits import MIB

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["FRAME_BYTES", "MESSAGE_BYTES", "PAYLOAD_BYTES", "Channel", "ChannelKeys"]

Buffer = bytes | bytearray | memoryview

PAYLOAD_BYTES: Final = MIB
FRAME_BYTES: Final = PAYLOAD_BYTES + OVERHEAD_BYTES
MESSAGE_BYTES: Final = 64 * MIB
TURN_BYTES: Final = 1 << 30  # crypto/record.py has the bound behind it; a turn costs 10 us
WORN_BYTES: Final = 2 * TURN_BYTES
TURN_AFTER: Final = timedelta(hours=1)


class Kind(IntEnum):
    """The first byte inside a frame. Zero is none of them."""

    PART = 1
    LAST = 2
    TURN = 3
    CLOSE = 4


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """What a handshake leaves behind: a secret for each direction and the channel's last hour."""

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)
    until: datetime


class Channel:
    """One end. One thread may `seal` while another opens; they share nothing but its end."""

    def __init__(self, keys: ChannelKeys, *, at: datetime, most: int = MESSAGE_BYTES) -> None:
        """`most`: bytes of the longest message that is accepted, and made."""
        self._sealer, self._opener = Sealer(keys.send), Opener(keys.receive)
        self._until, self._most, self._turned = keys.until, most, at
        self._message = bytearray()  # the parts so far
        self._dead = self._closed = False
        self._ended = False

    @property
    def ended(self) -> bool:
        """The partner closed properly: every message it sent was received."""
        return self._ended

    @property
    def dead(self) -> bool:
        """An error has ended it."""
        return self._dead

    def seal(self, message: Buffer, *, at: datetime) -> list[bytes]:
        """The frames of a message, to be sent in this order. ValueError: it is too long."""
        self._check_usable(at)
        if self._closed:
            raise RuntimeError("the channel was closed at this end")
        view = memoryview(message)
        if view.nbytes > self._most:
            raise ValueError(f"a message of this channel has at most {self._most} bytes")
        frames, start = [], 0
        if at - self._turned >= TURN_AFTER:
            frames.append(self._turn(at))
        while view.nbytes - start > PAYLOAD_BYTES:
            frames.append(self._sealer.seal(Kind.PART, view[start : start + PAYLOAD_BYTES]))
            start += PAYLOAD_BYTES
            if self._sealer.used >= TURN_BYTES:
                frames.append(self._turn(at))
        frames.append(self._sealer.seal(Kind.LAST, view[start:]))
        if self._sealer.used >= TURN_BYTES:
            frames.append(self._turn(at))
        return frames

    def open(self, frame: Buffer, *, at: datetime) -> bytes | None:
        """The message that this frame completes, or None. `ended` tells whether it was CLOSE."""
        self._check_usable(at)
        alive = False
        try:
            message = self._open(frame)
            alive = True
        finally:
            if not alive:
                self._die()
        return message

    def close(self) -> bytes:
        """The last frame of this direction. What the partner still sends can be opened."""
        if self._closed or self._dead:
            raise RuntimeError("the channel was closed before")
        self._closed = True
        frame = self._sealer.seal(Kind.CLOSE, b"")
        self._sealer.forget()
        return frame

    def carrier_ended(self) -> None:
        """Raise Dropped unless the partner closed: a cut may be an accident or an attack."""
        if not self._ended:
            self._die()
            raise Dropped(
                "the connection ended before the partner closed it",
                hint="what arrived so far is genuine; connect again for the rest",
            )

    def _open(self, frame: Buffer) -> bytes | None:
        if self._ended:
            raise _misbehaved("sent more after closing", "close")
        if len(frame) > FRAME_BYTES:
            raise _misbehaved("sent a frame above the limit", "frame size")
        if self._opener.used > WORN_BYTES:
            raise _misbehaved("does not renew its key", "renewal")
        kind, payload = self._opener.open(frame)
        if kind == Kind.LAST and not self._message:
            self._check_length(len(payload))
            return bytes(payload)
        if kind in (Kind.PART, Kind.LAST):
            return self._collect(payload, last=kind == Kind.LAST)
        if len(payload):
            raise _misbehaved("sent a frame that is not empty", "frame kind")
        if kind == Kind.TURN:
            self._opener.ratchet()
        elif kind == Kind.CLOSE and not self._message:
            self._ended = True
            self._opener.forget()
        else:
            raise _misbehaved("sent a frame of no known kind", "frame kind")
        return None

    def _collect(self, payload: memoryview, *, last: bool) -> bytes | None:
        if (len(payload) == 0) if last else (len(payload) != PAYLOAD_BYTES):
            raise _misbehaved("sent a part of another length", "frame kind")
        self._check_length(len(self._message) + len(payload))
        self._message += payload
        if not last:
            return None
        message, self._message = bytes(self._message), bytearray()
        return message

    def _check_length(self, length: int) -> None:
        if length > self._most:
            raise _misbehaved("sent a message above the limit", "message size")

    def _check_usable(self, at: datetime) -> None:
        if self._dead:
            raise Dropped("the channel has ended with an error", hint="connect again")
        if at > self._until:
            self._die()
            raise SessionExpired("the time of this channel is over", hint="connect again")

    def _turn(self, at: datetime) -> bytes:
        frame = self._sealer.seal(Kind.TURN, b"")
        self._sealer.ratchet()
        self._turned = at
        return frame

    def _die(self) -> None:
        self._dead = True
        self._sealer.forget()
        self._opener.forget()
        self._message = bytearray()

    def __repr__(self) -> str:
        state = "dead" if self._dead else "ended" if self._ended else "open"
        return f"<Channel {state}>"


def _misbehaved(what: str, check: str) -> Aborted:
    return Aborted(f"the partner {what}", party="partner", check=check)
