"""Slots, from the side of the two who meet in one; a stranger can do this, too."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from counterseal.errors import Aborted, FormatError
from counterseal.exchange.transports.https.limits import LONGEST_WAIT, SLOT_MESSAGE_BYTES, SLOTS

if TYPE_CHECKING:
    from counterseal.exchange.transports.https.pool import Pool

__all__ = ["SlotUser"]


class SlotUser:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def open_slot(self, number: int) -> None:
        """Open a meeting place, empty; only clients of the mailbox can."""
        self._pool.call("PUT", _slot(number))

    def close_slot(self, number: int) -> None:
        self._pool.call("DELETE", _slot(number))

    def post_slot(self, number: int, data: bytes) -> int:
        """Append a message; returns its index. The same one posted again keeps its index."""
        if len(data) > SLOT_MESSAGE_BYTES:
            raise FormatError(f"a message longer than {SLOT_MESSAGE_BYTES} bytes")
        reply = self._pool.call("POST", f"{_slot(number)}/messages", body=data)
        index = reply.headers.get("location", "").rpartition("/")[2]
        if not index.isascii() or not index.isdigit():
            raise Aborted("no index for a message", party="mailbox", check="slot")
        return int(index)

    def poll_slot(self, number: int, index: int, *, wait: float = 0.0) -> bytes | None:
        """The message with this index; None if there is none within `wait` whole seconds."""
        end = time.monotonic() + wait
        while True:
            seconds = math.ceil(min(max(end - time.monotonic(), 0.0), LONGEST_WAIT))
            target = f"{_slot(number)}/messages/{index}?wait={seconds}"
            reply = self._pool.call("GET", target, limit=SLOT_MESSAGE_BYTES, wait=seconds)
            if reply.status == 200:
                return reply.body
            if time.monotonic() >= end:
                return None


def _slot(number: int) -> str:
    if not 0 <= number < SLOTS:
        raise ValueError("a slot has a number of at most nine digits")
    return f"/v1/slots/{number}"
