"""An entry: what happened, without what was said (SPEC 17.4).

Of a payload an entry has its size and a keyed commitment. The key of a record is derived from
a key of the log, which its owner can destroy, and the record's random id:

    log key ──derive──> record key ──derive──> commit_in, commit_out
             record id              payload

With the log key gone, nobody can tell any more whether a commitment was to a payload they
guess, and the tree still verifies. A partner gets the record keys of its own calls, so that it
can check them without the owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

import msgspec

from counterseal.crypto.derive import derive
from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "EVENTS",
    "ID_BYTES",
    "CharterRef",
    "Entry",
    "Event",
    "Record",
    "commitment",
    "decode",
    "encode",
    "make",
    "record_key",
]

ID_BYTES: Final = 16
MAX_POLICIES: Final = 64

Event = Literal[
    "sealed", "opened", "sent", "received", "charter", "key", "call", "refused",
    "export", "incident", "exit", "session", "model", "note",
]  # fmt: skip
EVENTS: Final[tuple[str, ...]] = get_args(Event)

# No quote, backslash, space or letter beyond ASCII: JSON has one spelling for such a word.
Term = Annotated[str, msgspec.Meta(pattern=r"^[!#-\[\]-~]{1,256}\Z", max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]  # what RFC 8785 can write
RecordId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]


class CharterRef(Message, frozen=True):
    """Under which version of which charter."""

    id: Term
    version: Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]


class Entry(Message, frozen=True):
    """One line of the log. `actor` did it, `partner` is the other side; digests are hex.

    `document`: the digest of what the event is about (a package, a charter, a certificate).
    """

    kind: Literal["entry"]
    format: Literal[1]
    id: RecordId
    at: Timestamp
    event: Event
    actor: Hex32
    partner: Hex32 | None
    charter: CharterRef | None
    action: Term | None
    purpose: Term | None
    model: Hex32 | None
    session: Hex32 | None
    document: Hex32 | None
    decision: Literal["permit", "deny"] | None
    policies: Annotated[tuple[Term, ...], msgspec.Meta(max_length=MAX_POLICIES)]
    quota: Count | None
    bytes_in: Count | None
    bytes_out: Count | None
    commit_in: Hex32 | None
    commit_out: Hex32 | None

    def __post_init__(self) -> None:
        # The base class looks at every field; entries come by the hundred thousand.
        at = self.at
        if (
            at.microsecond
            or not 2000 <= at.year < 3000
            or (at.tzinfo is not UTC and at.utcoffset())
        ):
            raise ValueError("`at` is not a whole second of UTC from 2000 to 2999")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What to write down. Of `input` and `output` only sizes and commitments enter the log.

    `id`: where the caller has chosen it (the partner, for its own calls); else it is random.
    """

    event: Event
    actor: str
    partner: str | None = None
    charter: CharterRef | None = None
    action: str | None = None
    purpose: str | None = None
    model: str | None = None
    session: str | None = None
    document: str | None = None
    decision: Literal["permit", "deny"] | None = None
    policies: tuple[str, ...] = ()
    quota: int | None = None
    input: bytes | None = None
    output: bytes | None = None
    id: bytes | None = None


def record_key(log_key: bytes, id: bytes) -> bytes:  # noqa: A002 - the entry's field
    return derive(log_key, "ledger record", id)


def commitment(key: bytes, side: Literal["in", "out"], payload: bytes) -> str:
    """Commit to a payload under the key of a record, 64 hex characters.

    Binding without the key as well: HMAC-SHA-512 with keys of one length is collision
    resistant, so an owner cannot find a second key for another payload.
    """
    return derive(key, "ledger commitment", side.encode(), sha256(payload)).hex()


def make(record: Record, *, id: bytes, key: bytes, at: datetime) -> Entry:  # noqa: A002
    """The entry of a record whose key is `key`."""
    return Entry(
        kind="entry",
        format=1,
        id=id.hex(),
        at=canonical.timestamp(at),
        event=record.event,
        actor=record.actor,
        partner=record.partner,
        charter=record.charter,
        action=record.action,
        purpose=record.purpose,
        model=record.model,
        session=record.session,
        document=record.document,
        decision=record.decision,
        policies=record.policies,
        quota=record.quota,
        bytes_in=None if record.input is None else len(record.input),
        bytes_out=None if record.output is None else len(record.output),
        commit_in=None if record.input is None else commitment(key, "in", record.input),
        commit_out=None if record.output is None else commitment(key, "out", record.output),
    )


_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder(Entry, strict=True)


def encode(entry: Entry) -> bytes:
    """RFC 8785. With the types of this class msgspec writes the same, thirty times as fast."""
    return _encoder.encode(entry)


def decode(data: bytes) -> Entry:
    """Read an entry by the rules of `wire.canonical`."""
    if len(data) > limits.LEDGER_ENTRY_BYTES:
        raise FormatError(f"the entry is longer than {limits.LEDGER_ENTRY_BYTES} bytes")
    try:
        entry = _decoder.decode(data)
        again = _encoder.encode(entry)
    except (msgspec.DecodeError, UnicodeError, ValueError, RecursionError) as error:
        raise FormatError(f"the entry is not in the form of this version ({error})") from None
    if again != data:
        raise FormatError("the entry is not in canonical form (RFC 8785)")
    return entry
