"""A receipt: the receiver says, signed, which shipment arrived whole (SPEC 13.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.exchange.letter import Letter, LetterId
from counterseal.exchange.shipment import Hex16
from counterseal.wire import canonical
from counterseal.wire.canonical import Hex32, Message, Timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.exchange.shipment import Notice

__all__ = ["Receipt"]

LIMIT = 64 * 1024


class Receipt(Message, frozen=True):
    """The body of a receipt's letter. `notice` binds it to every block that was listed."""

    kind: Literal["receipt"]
    format: Literal[1]
    letter: LetterId
    notice: Hex32
    package: Hex16
    at: Timestamp

    @classmethod
    def of(cls, letter: Letter, notice: Notice, *, at: datetime) -> Receipt:
        return cls(
            kind="receipt",
            format=1,
            letter=letter.id,
            notice=notice_digest(letter.body),
            package=notice.package,
            at=canonical.timestamp(at),
        )

    @classmethod
    def parse(cls, data: bytes) -> Receipt:
        return canonical.decode(data, cls, limit=LIMIT, what="receipt")


def notice_digest(body: bytes) -> str:
    return sha256(bind("notice", body)).hex()
