"""What a session runs over: something that carries bytes both ways, whole and in order.

| carrier | over | for |
|---|---|---|
| `memory_pair` | two queues | tests, and two parties in one process |
| `SocketCarrier` | a connected TCP or TLS socket; u32 length before each | a direct line |
| `LinkCarrier` | letters that get lost: `link` repairs it | brokers |

None of them protects anything; the channel above does.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from typing import TYPE_CHECKING, Final, Protocol

from counterseal.errors import Aborted, Dropped, TimedOut
from counterseal.exchange.channel import FRAME_BYTES
from counterseal.wire.limits import KIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.exchange.link import Link

__all__ = ["Carrier", "Letters", "LinkCarrier", "SocketCarrier", "memory_pair"]

Buffer = bytes | bytearray | memoryview
_LENGTH_BYTES: Final = 4
SEND_SECONDS: Final = 60.0
LINGER_SECONDS: Final = 5.0
_TOGETHER_BYTES: Final = 16 * KIB  # below this, one packet is worth a copy


class Carrier(Protocol):
    """Whole messages, in order."""

    def send(self, message: bytes) -> None:
        """Raises Dropped when the other end is gone."""
        ...

    def receive(self, timeout: float, *, most: int = FRAME_BYTES) -> Buffer | None:
        """The next message, None at the end of the connection; raises TimedOut.

        `most`: bytes that may be spent on it. A stranger's handshake needs 5 KB and not a MiB.
        """
        ...

    def close(self) -> None: ...


class Letters(Protocol):
    """What a broker offers: each letter may be lost, repeated or late."""

    def send(self, letter: bytes) -> None: ...

    def receive(self, timeout: float) -> bytes | None:
        """A letter, None if none came within `timeout` seconds."""
        ...


class _MemoryCarrier:
    def __init__(
        self, out: queue.SimpleQueue[bytes | None], into: queue.SimpleQueue[bytes | None]
    ) -> None:
        self._out, self._in = out, into

    def send(self, message: bytes) -> None:
        self._out.put(message)

    def receive(self, timeout: float, *, most: int = FRAME_BYTES) -> bytes | None:  # noqa: ARG002 - it is here already
        try:
            return self._in.get(timeout=timeout)
        except queue.Empty:
            raise _timed_out() from None

    def close(self) -> None:
        self._out.put(None)


def memory_pair() -> tuple[Carrier, Carrier]:
    """Both ends of a carrier in memory."""
    there: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    back: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    return _MemoryCarrier(there, back), _MemoryCarrier(back, there)


class SocketCarrier:
    """Over a connected socket, plain or TLS, for one thread at a time."""

    def __init__(self, sock: socket.socket, *, patience: float = SEND_SECONDS) -> None:
        """`patience`: seconds that one `send` may take."""
        self._socket, self._patience = sock, patience
        self._buffer = bytearray()
        self._torn = False  # a message was begun and not ended: nobody knows where the next begins
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: bytes) -> None:
        length = len(message).to_bytes(_LENGTH_BYTES, "big")
        self._check_whole()
        self._torn = True
        try:
            self._socket.settimeout(self._patience)
            if len(message) <= _TOGETHER_BYTES:
                self._socket.sendall(length + message)
            else:
                self._socket.sendall(length)
                self._socket.sendall(message)
        except TimeoutError:
            raise _timed_out() from None
        except OSError as error:
            raise Dropped(f"the connection was lost ({error})") from None
        self._torn = False

    def receive(self, timeout: float, *, most: int = FRAME_BYTES) -> memoryview | None:
        """A view that the next `receive` overwrites. `timeout` is for the whole message.

        After a TimedOut in the middle of a message the connection is of no more use.
        """
        deadline = time.monotonic() + timeout
        self._check_whole()
        head = self._read(_LENGTH_BYTES, deadline)
        if head is None:
            return None
        length = int.from_bytes(head, "big")
        self._torn = True
        if length > most:
            raise Aborted(
                f"a message of {length} bytes was announced", party="partner", check="frame size"
            )
        message = self._read(length, deadline)
        if message is None:
            raise Dropped("the connection ended in the middle of a message")
        self._torn = False
        return message

    def close(self) -> None:
        self._socket.close()

    def _read(self, length: int, deadline: float) -> memoryview | None:
        """Exactly `length` bytes, None if the connection ends before the first of them."""
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        view, have = memoryview(self._buffer)[:length], 0
        while have < length:
            try:
                # For each piece anew: one byte a second must not hold us for ever.
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                count = self._socket.recv_into(view[have:])
            except TimeoutError:
                raise _timed_out() from None
            except OSError as error:
                raise Dropped(f"the connection was lost ({error})") from None
            if count == 0 and have == 0:
                return None
            if count == 0:
                raise Dropped("the connection ended in the middle of a message")
            have += count
            self._torn = have < length
        return view

    def _check_whole(self) -> None:
        if self._torn:
            raise Dropped("the connection was left in the middle of a message")


class LinkCarrier:
    """Over letters. One thread; `receive` and `flush` also do the repairing."""

    def __init__(
        self,
        letters: Letters,
        link: Link,
        *,
        linger: float = LINGER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`linger`: seconds that `close` waits for the last acknowledgement."""
        self._letters, self._link, self._linger, self._clock = letters, link, linger, clock

    def send(self, message: bytes) -> None:
        """Returns when the message is queued and what may go out now is out."""
        while not self._link.room:
            self._step(1.0)
        self._link.send(message)
        self._out()

    def receive(self, timeout: float, *, most: int = FRAME_BYTES) -> bytes | None:  # noqa: ARG002 - the link has its limit
        deadline = self._clock() + timeout
        while (message := self._link.take()) is None:
            left = deadline - self._clock()
            if left <= 0:
                raise _timed_out()
            self._step(left)
        self._out()
        return message

    def flush(self, timeout: float) -> None:
        """Return when everything sent has arrived; raises TimedOut."""
        deadline = self._clock() + timeout
        self._out()
        while not self._link.idle:
            left = deadline - self._clock()
            if left <= 0:
                raise _timed_out()
            self._step(left)

    def close(self) -> None:
        """A line has no end of its own, the channel's CLOSE is it: give it time to arrive."""
        with contextlib.suppress(TimedOut):
            self.flush(self._linger)

    def _step(self, most: float) -> None:
        self._out()
        wait = self._link.seconds(self._clock())
        letter = self._letters.receive(most if wait is None else min(most, wait))
        if letter is not None:
            self._link.receive(letter, now=self._clock())

    def _out(self) -> None:
        for letter in self._link.tick(self._clock()):
            self._letters.send(letter)


def _timed_out() -> TimedOut:
    return TimedOut("the partner did not answer in time")
