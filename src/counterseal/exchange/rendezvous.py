"""Where two who have no keys of each other leave messages: the slot of a pairing (SPEC 2.9).

In a mailbox a slot is a list that strangers may write to, opened by one of its clients. Any
other transport lends two boxes, one for each direction. Nothing here is trusted or secret: the
slot is the number that a code begins with, and the pairing looks after itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, Protocol

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.exchange.boxes import BOX_BYTES
from counterseal.exchange.transports import NoBlocks
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from counterseal.exchange.transports import Transport

__all__ = ["BoxSlot", "MailboxSlot", "Rendezvous", "Side", "SlotUser", "slot_box"]

Side = Literal["inviter", "accepter"]
MAX_MESSAGES: Final = 8  # in each direction: a pairing has two, and some may be repeated
LONGEST_WAIT: Final = 20.0


class Rendezvous(Protocol):
    """One side of a slot."""

    def post(self, message: bytes) -> None: ...

    def messages(self, *, wait: float) -> Iterator[bytes]:
        """What the other side has posted since, for at most `wait` seconds without any."""
        ...

    def close(self) -> None: ...


class SlotUser(Protocol):
    """What a mailbox's client offers."""

    def open_slot(self, number: int) -> None: ...
    def close_slot(self, number: int) -> None: ...
    def post_slot(self, number: int, data: bytes) -> int: ...
    def poll_slot(self, number: int, index: int, *, wait: float) -> bytes | None: ...


def slot_box(number: int, to: Side) -> str:
    return sha256(bind("slot", number.to_bytes(2, "big"), to.encode()))[:BOX_BYTES].hex()


class BoxSlot:
    """Two boxes of any transport. What lies there from an earlier pairing is read and refused."""

    def __init__(self, transport: Transport, number: int, *, us: Side) -> None:
        self._transport = transport
        self._mine = slot_box(number, us)
        self._theirs = slot_box(number, "accepter" if us == "inviter" else "inviter")

    def post(self, message: bytes) -> None:
        self._transport.deliver(self._theirs, message, NoBlocks())

    def messages(self, *, wait: float) -> Iterator[bytes]:
        for waiting in self._transport.waiting([self._mine], wait=wait):
            self._transport.done(waiting)
            if len(waiting.data) <= limits.PAIRING_MESSAGE_BYTES:
                yield waiting.data

    def close(self) -> None:
        """Boxes need no closing."""


class MailboxSlot:
    """A slot of a mailbox: one list for both directions, of which we skip our own."""

    def __init__(
        self,
        client: SlotUser,
        number: int,
        *,
        us: Side,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._number, self._us = client, number, us
        self._index = 0
        self._ours: set[int] = set()
        self._sleep = sleep
        if us == "inviter":
            client.open_slot(number)

    def post(self, message: bytes) -> None:
        self._ours.add(self._client.post_slot(self._number, message))

    def messages(self, *, wait: float) -> Iterator[bytes]:
        if self._index >= MAX_MESSAGES:  # the list is full: nothing can come any more
            self._sleep(wait)
            return
        data = self._client.poll_slot(self._number, self._index, wait=min(wait, LONGEST_WAIT))
        if data is None:
            return
        self._index += 1
        if self._index - 1 not in self._ours:
            yield data

    def close(self) -> None:
        if self._us == "inviter":
            self._client.close_slot(self._number)
