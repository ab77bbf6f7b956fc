"""What is asked for, what is used so far, and the facts that both make (SPEC 16.5)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from counterseal.charter.clauses import words_of
from counterseal.charter.conditions import UNCOUNTED, Facts
from counterseal.charter.document import Period, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterseal.charter.versions import Version

__all__ = ["USED", "Request", "Usage", "facts_of"]

_NOWHERE: Final = (-1, -1, -1, -1)  # in no network
USED: Final = tuple(
    (f"used_{unit}_{period}", (unit, period))
    for unit in get_args(Unit)
    for period in get_args(Period)
)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. `party`: who proved to be there, by its identity (hex); `digest`: of the
    model that would answer. A purpose that nobody declared is None, never a default.
    """

    party: str
    role: str
    action: str
    asset: str
    version: Version
    digest: str
    session_purpose: str | None
    purpose: str | None
    address: str
    proof: str
    rows: int
    bytes: int

    def __post_init__(self) -> None:
        if self.rows < 0 or self.bytes < 0:
            raise ValueError("a request of less than nothing")


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What is used with this request: reserved before asking, given back if denied (no race).

    `concurrent`: requests running; `risk`: 0 to 100; `used`: for each unit and period that has a
    quota. What is missing in `used` counts as used up.
    """

    concurrent: int
    risk: int
    used: Mapping[tuple[Unit, Period], int]

    def __post_init__(self) -> None:
        if (
            self.concurrent < 1
            or not 0 <= self.risk <= 100
            or min(self.used.values(), default=0) < 0
        ):
            raise ValueError("usage counts this request; risk is 0 to 100")


def facts_of(request: Request, usage: Usage, *, at: datetime) -> Facts:
    """All of it, typed: what nobody said or counted is something that no condition allows."""
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    moment = at.astimezone(UTC)
    try:
        address = words_of(request.address)
    except ValueError:
        address = _NOWHERE
    return Facts(
        party=request.party,
        action=request.action,
        asset=request.asset,
        role=request.role,
        major=request.version[0],
        minor=request.version[1],
        patch=request.version[2],
        digest=request.digest,
        session_purpose=request.session_purpose or "",
        purpose=request.purpose or "",
        now=int(moment.timestamp()),
        weekday=moment.weekday(),
        minute=moment.hour * 60 + moment.minute,
        address0=address[0],
        address1=address[1],
        address2=address[2],
        address3=address[3],
        rows=request.rows,
        bytes=request.bytes,
        concurrent=usage.concurrent,
        risk=usage.risk,
        proof=request.proof,
        **{name: usage.used.get(key, UNCOUNTED) for name, key in USED},
    )
