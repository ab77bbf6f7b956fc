"""What receiving comes to, and what of it is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from counterseal.ledger.entry import Record

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from counterseal.errors import CountersealError
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner

__all__ = ["Arrived", "Confirmed", "Event", "Refused", "records_of"]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A package is here, whole. `kept`: how many of its bytes an earlier attempt had brought."""

    sender: str
    path: Path
    package: str
    bytes: int
    kept: int
    receipt_sent: bool


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A partner has a package that we sent."""

    partner: str
    file: str
    package: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """A letter that was not accepted; `removed` unless it may be good, or come whole, later."""

    sender: str
    error: CountersealError
    removed: bool


Event = Arrived | Confirmed | Refused


def records_of(event: Event, sender: Partner, by: Identity) -> list[Record]:
    """What stays refused again with each pass: it is written down when it is taken away."""
    us, them = by.history.identity, sender.identity
    if isinstance(event, Arrived):
        return [Record(event="received", actor=us, partner=them, package=event.package)]
    if isinstance(event, Confirmed):
        return [
            Record(
                event="received", actor=us, partner=them, action="receipt", package=event.package
            )
        ]
    if not event.removed:
        return []
    return [Record(event="refused", actor=us, partner=them, reason=type(event.error).__name__)]
