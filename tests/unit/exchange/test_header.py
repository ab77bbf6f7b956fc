from datetime import timedelta

import msgspec
import pytest
from workshop import AT, Parts

from counterseal.errors import ExpiredKey, FormatError
from counterseal.exchange import header as headers
from counterseal.wire import canonical, limits


@pytest.fixture
def parts(bench):
    return Parts.of(bench.seal(b"weights").read_bytes())


def encoded(parts, core=(), **fields):
    new_core = msgspec.structs.replace(parts.header.core, **dict(core))
    header = msgspec.structs.replace(parts.header, core=new_core, **fields)
    envelope = msgspec.structs.replace(parts.envelope, payload=canonical.encode(header))
    return canonical.encode(envelope)


def test_what_was_written_is_read(parts):
    envelope, header = headers.parse(encoded(parts))
    assert header == parts.header
    assert envelope.payloadType == headers.PACKAGE_TYPE
    assert header.core.suite == headers.SUITE


@pytest.mark.parametrize(
    ("core", "fields"),
    [
        ((), {"body": 100, "size": 100}),
        ((), {"body": 101, "size": 100}),
        ((), {"recipients": 0}),
        ((), {"recipients": limits.RECIPIENTS + 1}),
        ((), {"size": 2**53}),
        ((), {"card": "A" * 64}),
        ((), {"stanzas": "0" * 63}),
        ({"manifest_bytes": 1 << 40}, {}),
        ({"manifest_bytes": headers.MAX_MANIFEST + 1}, {"size": 2**50}),
        ({"package": "0" * 31}, {}),
        ({"package": "0" * 32 + "\n"}, {}),
        ({"charter": "with space"}, {}),
        ({"charter": "newline\n"}, {}),
        ({"charter": ""}, {}),
        ({"charter": "x" * 129}, {}),
        ({"suite": "counterseal-2"}, {}),
        ({"kind": "card"}, {}),
        ({"format": 2}, {}),
    ],
)
def test_what_is_out_of_range_is_refused(parts, core, fields):
    try:
        data = encoded(parts, core, **fields)
    except ValueError:  # RFC 8785 knows no such number
        return
    with pytest.raises(FormatError):
        headers.parse(data)


def test_a_header_is_not_longer_than_it_may_be():
    with pytest.raises(FormatError):
        headers.parse(b"{" + b" " * limits.HEADER_BYTES)


def test_the_end_is_inclusive(parts):
    core = msgspec.structs.replace(parts.header.core, expires=AT)
    core.check_time(at=AT)
    with pytest.raises(ExpiredKey):
        core.check_time(at=AT + timedelta(seconds=1))
    parts.header.core.check_time(at=AT + timedelta(days=9999))


def test_the_digest_covers_every_field(parts):
    core = parts.header.core
    changed = {"charter": "c", "expires": AT, "package": "0" * 32, "sender": "0" * 64}
    digests = {msgspec.structs.replace(core, **{k: v}).digest() for k, v in changed.items()}
    assert len(digests | {core.digest()}) == 5
