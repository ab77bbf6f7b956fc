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

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal, get_args

import msgspec

from counterseal.crypto.derive import Deriver, derive
from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp

__all__ = [
    "EVENTS",
    "ID_BYTES",
    "CharterRef",
    "Entry",
    "Event",
    "Record",
    "check",
    "commitment",
    "decode",
    "encode",
    "intent_id",
    "make",
    "record_key",
]

ID_BYTES: Final = 16
_MOST: Final = (1 << 53) - 1  # what RFC 8785 can write
_SOME_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)
MAX_POLICIES: Final = 64

Event = Literal[
    "sealed", "opened", "sent", "received", "charter", "key", "intent", "call", "refused",
    "export", "incident", "exit", "session", "model", "note",
]  # fmt: skip
EVENTS: Final[tuple[str, ...]] = get_args(Event)

# No quote, backslash, space or letter beyond ASCII: JSON has one spelling for such a word.
Term = Annotated[str, msgspec.Meta(pattern=r"^[!#-\[\]-~]{1,256}\Z", max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Risk = Annotated[int, msgspec.Meta(ge=0, le=100)]
RecordId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]


class CharterRef(Message, frozen=True):
    """Under which version of which charter."""

    id: Term
    version: Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


class Entry(Message, frozen=True):
    """One line of the log. `actor` did it, `partner` is the other side; digests are hex.

    `document`: the digest of what the event is about (a charter, a certificate, a card);
    `package`: the id of the package it is about. `reason`: the code of a refusal.
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
    package: RecordId | None
    decision: Literal["permit", "deny"] | None
    policies: Annotated[tuple[Term, ...], msgspec.Meta(max_length=MAX_POLICIES)]
    reason: Term | None
    risk: Risk | None
    quota: Count | None
    rows: Count | None
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


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What to write down. Of `input` and `output` only sizes and commitments enter the log.

    `id`: where the caller has chosen it (the partner, for its own calls); else it is random.
    Of an "intent" it is the id of the call that is to come.
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
    package: str | None = None
    decision: Literal["permit", "deny"] | None = None
    policies: tuple[str, ...] = ()
    reason: str | None = None
    risk: int | None = None
    quota: int | None = None
    rows: int | None = None
    input: bytes | None = None
    output: bytes | None = None
    id: bytes | None = None


def record_key(log_key: bytes | Deriver, id: bytes) -> bytes:  # noqa: A002 - the entry's field
    if isinstance(log_key, Deriver):
        return log_key.derive("ledger record", id)
    return derive(log_key, "ledger record", id)


def intent_id(call: bytes) -> bytes:
    """The id of the entry that says, before a call is answered, that it is to be.

    It has the call's record key: the same input gives the same commitment in both.
    """
    return sha256(b"intent" + call)[:ID_BYTES]


def commitment(key: bytes, side: Literal["in", "out"], payload: bytes) -> str:
    """Commit to a payload under the key of a record, 64 hex characters.

    Binding without the key as well: HMAC-SHA-512 with keys of one length is collision
    resistant, so an owner cannot find a second key for another payload.
    """
    return _commit(Deriver(key), side, payload)


def _commit(key: Deriver, side: Literal["in", "out"], payload: bytes) -> str:
    return key.derive("ledger commitment", side.encode(), sha256(payload)).hex()


def make(record: Record, *, id: bytes, key: bytes, at: datetime) -> Entry:  # noqa: A002
    """The entry of a record whose key is `key`."""
    committing = Deriver(key)
    return Entry(
        kind="entry",
        format=1,
        id=(intent_id(id) if record.event == "intent" else id).hex(),
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
        package=record.package,
        decision=record.decision,
        policies=record.policies,
        reason=record.reason,
        risk=record.risk,
        quota=record.quota,
        rows=record.rows,
        bytes_in=None if record.input is None else len(record.input),
        bytes_out=None if record.output is None else len(record.output),
        commit_in=None if record.input is None else _commit(committing, "in", record.input),
        commit_out=None if record.output is None else _commit(committing, "out", record.output),
    )


def check(record: Record) -> None:
    """Raise FormatError for a record that would break the log for every reader.

    The words of a record are mostly those of the one before: each set of them is read once.
    """
    charter = record.charter
    _check_words(
        record.event,
        record.actor,
        record.partner,
        None if charter is None else charter.id,
        None if charter is None else charter.version,
        record.action,
        record.purpose,
        record.model,
        record.session,
        record.document,
        record.package,
        record.decision,
        tuple(record.policies),
        record.reason,
    )
    for number, most in ((record.risk, 100), (record.quota, _MOST), (record.rows, _MOST)):
        if number is not None and (type(number) is not int or not 0 <= number <= most):
            raise FormatError(f"a number of a record is not from 0 to {most}")


@lru_cache(maxsize=4096, typed=True)  # typed: 1.0 and True are not the version 1
def _check_words(  # noqa: PLR0917
    event: Event,
    actor: str,
    partner: str | None,
    charter: str | None,
    version: int | None,
    action: str | None,
    purpose: str | None,
    model: str | None,
    session: str | None,
    document: str | None,
    package: str | None,
    decision: Literal["permit", "deny"] | None,
    policies: tuple[str, ...],
    reason: str | None,
) -> None:
    record = Record(
        event=event,
        actor=actor,
        partner=partner,
        charter=None if charter is None else CharterRef(id=charter, version=version or 0),
        action=action,
        purpose=purpose,
        model=model,
        session=session,
        document=document,
        package=package,
        decision=decision,
        policies=policies,
        reason=reason,
    )
    try:
        data = encode(make(record, id=bytes(ID_BYTES), key=b"", at=_SOME_TIME))
    except (TypeError, UnicodeError, msgspec.MsgspecError) as error:
        raise FormatError(f"a record is not in the form of this version ({error})") from None
    decode(data)


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
