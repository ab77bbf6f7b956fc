"""One value, one encoding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Literal

import msgspec
import pytest

from counterseal.errors import FormatError
from counterseal.wire import canonical
from counterseal.wire.canonical import Hex32, Message, Name, Timestamp


class Note(Message, frozen=True):
    kind: Literal["note"]
    name: Name
    digest: Hex32 | None
    at: Timestamp
    count: Annotated[int, msgspec.Meta(ge=0)]
    data: bytes


NOTE = Note(
    kind="note",
    name="lab",
    digest="0" * 64,
    at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    count=3,
    data=b"\xff\x00",
)
WIRE = canonical.encode(NOTE)


def decode(data: bytes, limit: int = 1000) -> Note:
    return canonical.decode(data, Note, limit=limit, what="note")


def test_round_trip_and_key_order() -> None:
    assert decode(WIRE) == NOTE
    assert WIRE == (
        b'{"at":"2026-01-02T03:04:05Z","count":3,"data":"/wA=","digest":"' + b"0" * 64 + b'",'
        b'"kind":"note","name":"lab"}'
    )


def replace(old: bytes, new: bytes) -> bytes:
    assert WIRE.count(old) == 1
    return WIRE.replace(old, new)


REFUSED = {
    "nothing": b"",
    "not JSON": b"hello",
    "a list": b"[]",
    "another kind": replace(b'"note"', b'"nota"'),
    "an unknown field": replace(b'"count":3', b'"count":3,"cpunt":3'),
    "a missing field": replace(b'"count":3,', b""),
    "a key twice": replace(b'"count":3', b'"count":4,"count":3'),
    "white space": replace(b'"count":3', b'"count": 3'),
    "a newline at the end": WIRE + b"\n",
    "two documents": WIRE + WIRE,
    "a byte order mark": b"\xef\xbb\xbf" + WIRE,
    "another key order": replace(
        b'"at":"2026-01-02T03:04:05Z","count":3', b'"count":3,"at":"2026-01-02T03:04:05Z"'
    ),
    "a float": replace(b'"count":3', b'"count":3.0'),
    "an exponent": replace(b'"count":3', b'"count":3e0'),
    "minus zero": replace(b'"count":3', b'"count":-0'),
    "NaN": replace(b'"count":3', b'"count":NaN'),
    "infinity": replace(b'"count":3', b'"count":Infinity'),
    "a number in quotes": replace(b'"count":3', b'"count":"3"'),
    "a number out of range": replace(b'"count":3', b'"count":-1'),
    "an integer no double holds": replace(b'"count":3', b'"count":9007199254740993'),
    "an endless integer": replace(b'"count":3', b'"count":' + b"9" * 300),
    "true for a number": replace(b'"count":3', b'"count":true'),
    "the URL alphabet": replace(b'"/wA="', b'"_wA="'),
    "no padding": replace(b'"/wA="', b'"/wA"'),
    "loose bits in base64": replace(b'"/wA="', b'"/wB="'),
    "white space in base64": replace(b'"/wA="', b'"/w A="'),
    "an escape that was not needed": replace(b'"lab"', b'"l\\u0061b"'),
    "a lone surrogate": replace(b'"lab"', b'"\\ud800"'),
    "bytes that are not UTF-8": replace(b'"lab"', b'"\xff"'),
    "a name in capitals": replace(b'"lab"', b'"LAB"'),
    "a name that leaves the folder": replace(b'"lab"', b'"../x"'),
    "a name with a newline": replace(b'"lab"', b'"lab\\n"'),
    "an empty name": replace(b'"lab"', b'""'),
    "a name of 65": replace(b'"lab"', b'"' + b"a" * 65 + b'"'),
    "a digest in capitals": replace(b"0" * 64, b"A" * 64),
    "a digest of 63": replace(b"0" * 64, b"0" * 63),
    "null where there must be a value": replace(b'"lab"', b"null"),
    "a time without a zone": replace(b"05Z", b"05"),
    "a time in another zone": replace(b"05Z", b"05+02:00"),
    "a time with a part of a second": replace(b"05Z", b"05.5Z"),
    "a time in lower case": replace(b"05Z", b"05z"),
    "a time with +00:00": replace(b"05Z", b"05+00:00"),
    "a time before 2000": replace(b"2026-", b"1999-"),
    "a time at the end of the calendar": replace(b"2026-01-02T03:04:05", b"9999-12-31T23:59:59"),
    "a time at the beginning of the calendar": replace(b"2026-01-02", b"0001-01-01"),
    "a day that is none": replace(b"2026-01-02", b"2026-02-30"),
    "brackets without an end": b"[" * 900,
    "a deep value for a field": replace(b'"lab"', b"[" * 300 + b"]" * 300),
    "a deep value for an unknown field": replace(b'"count"', b'"x":' + b'{"a":' * 100),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    with pytest.raises(FormatError):
        decode(REFUSED[case])


def test_deep_nesting_of_megabytes_is_refused_quickly() -> None:
    for opening in (b"[", b'{"a":'):
        deep = opening * 400_000
        with pytest.raises(FormatError):
            decode(deep, limit=len(deep))
        with pytest.raises(FormatError):
            decode(b'{"unknown":' + deep, limit=len(deep) + 20)


def test_the_limit_is_checked_before_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode(WIRE, limit=len(WIRE)) == NOTE
    monkeypatch.setattr("msgspec.json.decode", None)
    with pytest.raises(FormatError, match="longer than"):
        decode(WIRE, limit=len(WIRE) - 1)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 1),  # noqa: DTZ001 - the case
        datetime(2026, 1, 1, microsecond=1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(1999, 12, 31, tzinfo=UTC),
        datetime(3000, 1, 1, tzinfo=UTC),
    ],
)
def test_a_time_that_could_not_be_read_back_cannot_be_written(moment: datetime) -> None:
    with pytest.raises(ValueError, match="UTC"):
        Note(kind="note", name="lab", digest=None, at=moment, count=0, data=b"")


def test_timestamp_cuts_to_whole_seconds_of_utc() -> None:
    moment = datetime(2026, 1, 1, 1, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    assert canonical.timestamp(moment) == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="zone"):
        canonical.timestamp(datetime(2026, 1, 1))  # noqa: DTZ001 - the case
