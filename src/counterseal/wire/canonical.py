"""One value, one encoding: RFC 8785 JSON into frozen typed values and back.

Rules for everything that is decoded, in order:
1. not longer than the limit that the caller names;
2. JSON of exactly the fields of the expected type: an unknown or missing one is refused;
3. encoding the value again gives the same bytes. This is what refuses duplicate keys,
   white space, another number format, another base64 alphabet: anything that two readers
   could read differently;
4. times are whole seconds of UTC in the years 2000 to 2999: one spelling for each, and room
   on both sides to add a lifetime without leaving the calendar.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import msgspec
import rfc8785

from counterseal.errors import FormatError

__all__ = [
    "Hex32",
    "Message",
    "Name",
    "PrivateMessage",
    "Timestamp",
    "decode",
    "encode",
    "timestamp",
]

# \Z and not $, which also matches before a newline at the end: "lab\n" is not "lab".
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z", max_length=64)]
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything that is written. Fields have no defaults: absent is not `null`."""

    def __post_init__(self) -> None:
        # Rule 4. A class with a `__post_init__` of its own and a time calls this one first.
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, datetime) and not (
                value.utcoffset() == timedelta(0)
                and value.microsecond == 0
                and 2000 <= value.year < 3000
            ):
                raise ValueError(f"`{field}` is not a whole second of UTC from 2000 to 2999")


class PrivateMessage(Message, frozen=True):
    """A message with private bytes: neither `repr` nor rich's tracebacks show any of them."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


T = TypeVar("T", bound=Message)


def encode(value: Message) -> bytes:
    """The one encoding of `value` (RFC 8785)."""
    return rfc8785.dumps(msgspec.to_builtins(value))


def decode(data: bytes, kind: type[T], *, limit: int, what: str) -> T:
    """Read a `kind` from `data` by the rules above; `what` names it in the error."""
    if len(data) > limit:
        raise FormatError(f"the {what} is longer than {limit} bytes")
    try:
        value = msgspec.json.decode(data, type=kind, strict=True)
        again = encode(value)
    except (
        msgspec.DecodeError,  # includes ValidationError
        rfc8785.CanonicalizationError,
        UnicodeError,
        ValueError,
        RecursionError,
    ) as error:
        raise FormatError(f"the {what} is not in the form of this version ({error})") from None
    if again != data:
        raise FormatError(f"the {what} is not in canonical form (RFC 8785)")
    return value


def timestamp(moment: datetime) -> datetime:
    """Cut a time to whole seconds of UTC, as it is written everywhere. Must be aware."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC).replace(microsecond=0)
