"""The durable counters of a charter's quotas, one cell for all of them; and periods of UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from counterseal.errors import FormatError

if TYPE_CHECKING:
    from counterseal.charter.document import Period

__all__ = ["Counter", "Counters", "decode", "encode", "period_of", "seconds"]

_Whole = Annotated[int, msgspec.Meta(ge=0)]


class Counter(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """`start`: when the period began, in seconds since 1970. `leased`: to whomever."""

    start: _Whole
    leased: _Whole


Counters = dict[Annotated[str, msgspec.Meta(max_length=32)], Counter]  # by "unit/period"
_DECODER: Final = msgspec.json.Decoder(Counters)


def encode(counters: Counters) -> bytes:
    return msgspec.json.encode(counters)


def decode(kept: bytes | None) -> Counters:
    if kept is None:
        return {}
    try:
        return _DECODER.decode(kept)
    except (msgspec.DecodeError, ValueError) as error:
        raise FormatError("the gateway's quota counters cannot be read") from error


def period_of(period: Period, at: datetime) -> tuple[datetime, datetime | None]:
    """When the period around `at` began and when the next one does, in UTC; a term has none."""
    moment = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    match period:
        case "hour":
            return moment, moment + timedelta(hours=1)
        case "day":
            moment = moment.replace(hour=0)
            return moment, moment + timedelta(days=1)
        case "month":
            moment = moment.replace(day=1, hour=0)
            return moment, (moment + timedelta(days=32)).replace(day=1)
        case "term":
            return datetime.fromtimestamp(0, UTC), None


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())
