"""Slots: where two meet who have no keys of each other yet (SPEC 14.3.7).

A client of the mailbox opens slot `number`; then anybody who knows the number may append small
messages and read all of them. The mailbox understands none of it, and believes none of it:
pairing is between the two ends. So that strangers cannot use it as a store, a slot holds eight
messages, lives an hour, and addresses may not ask often. Who opened it closes it when the last
message is written, which the other side may not have read yet: it can, for a minute more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterseal.errors import FormatError, QuotaExceeded
from counterseal.exchange.transports.https.limits import SLOT_MESSAGE_BYTES, SLOT_MESSAGES
from counterseal.exchange.transports.https.problems import StatusError

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.exchange.transports.https.index import Index
    from counterseal.exchange.transports.https.limits import Limits

__all__ = ["Slots"]


class Slots:
    def __init__(self, index: Index, limits: Limits) -> None:
        self._index = index
        self._limits = limits

    def open(self, number: int, *, owner: str, at: datetime) -> None:
        """Open it, empty. Opening one's own again empties it: a code is never tried twice."""
        with self._index.transaction():
            self._expire(at)
            rows = self._index.rows("SELECT owner FROM slots WHERE number = ?", number)
            if rows and rows[0][0] != owner:
                raise StatusError("this number is in use", 409, hint="take another one")
            mine = self._index.rows("SELECT count(*) FROM slots WHERE owner = ?", owner)
            if not rows and mine[0][0] >= self._limits.slots:
                raise QuotaExceeded("too many open slots", hint="close some, or wait an hour")
            self._clear(number)
            ends = int((at + self._limits.slot_life).timestamp())
            self._index.rows("INSERT INTO slots VALUES (?, ?, ?, 0)", number, owner, ends)

    def close(self, number: int, *, owner: str, at: datetime) -> None:
        """Nobody can post any more; what is there can be read for `slot_rest`."""
        ends = int((at + self._limits.slot_rest).timestamp())
        self._index.rows(
            "UPDATE slots SET closed = 1, ends = min(ends, ?)"
            " WHERE number = ? AND owner = ? AND NOT closed",
            ends,
            number,
            owner,
        )

    def post(self, number: int, data: bytes, *, at: datetime) -> int:
        """The index of the message; the same one posted again has the same."""
        if len(data) > SLOT_MESSAGE_BYTES:
            raise FormatError(f"a message longer than {SLOT_MESSAGE_BYTES} bytes")
        with self._index.transaction():
            self._check(number, at, more=True)
            rows = self._index.rows(
                "SELECT place FROM messages WHERE slot = ? AND data = ?", number, data
            )
            if rows:  # sent again, because the answer was lost
                return int(rows[0][0])
            rows = self._index.rows("SELECT count(*) FROM messages WHERE slot = ?", number)
            place = int(rows[0][0])
            if place >= SLOT_MESSAGES:
                raise QuotaExceeded("this slot is full", hint="start again with a new code")
            self._index.rows("INSERT INTO messages VALUES (?, ?, ?)", number, place, data)
        return place

    def read(self, number: int, place: int, *, at: datetime) -> bytes | None:
        rows = self._index.rows(
            "SELECT data FROM messages WHERE slot = ? AND place = ?", number, place
        )
        self._check(number, at, more=not rows)
        return bytes(rows[0][0]) if rows else None

    def sweep(self, *, at: datetime) -> None:
        with self._index.transaction():
            self._expire(at)

    def _check(self, number: int, at: datetime, *, more: bool = False) -> None:
        now = int(at.timestamp())
        rows = self._index.rows(
            "SELECT closed FROM slots WHERE number = ? AND ends > ?", number, now
        )
        if not rows or (more and rows[0][0]):
            raise StatusError(
                "nobody waits under this number", 404, hint="check the code; it lives an hour"
            )

    def _expire(self, at: datetime) -> None:
        now = int(at.timestamp())
        for (number,) in self._index.rows("SELECT number FROM slots WHERE ends <= ?", now):
            self._clear(number)

    def _clear(self, number: int) -> None:
        self._index.rows("DELETE FROM messages WHERE slot = ?", number)
        self._index.rows("DELETE FROM slots WHERE number = ?", number)
