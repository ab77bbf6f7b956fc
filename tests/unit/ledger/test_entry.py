import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workshop import AT

from counterseal.crypto.derive import derive
from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError
from counterseal.ledger import entry as entries
from counterseal.ledger.entry import EVENTS, CharterRef, Entry, Record
from counterseal.wire import canonical

US, THEM = "1" * 64, "2" * 64
ID, KEY = bytes(range(16)), bytes(32)


def made(**fields):
    record = Record(**{"event": "call", "actor": US, **fields})
    return entries.make(record, id=ID, key=KEY, at=AT)


FULL = made(
    partner=THEM,
    charter=CharterRef(id="urn:uuid:8a", version=3),
    action="predict",
    purpose="https://w3id.org/dpv#ServiceProvision",
    model="a" * 64,
    session="b" * 64,
    document="c" * 64,
    package="d" * 32,
    decision="permit",
    policies=("p1", "p2"),
    reason="limits.quotas[0]",
    risk=100,
    quota=0,
    rows=7,
    input=b"in",
    output=b"",
)


@pytest.mark.parametrize("entry", [made(), FULL], ids=["bare", "full"])
def test_an_entry_is_canonical_json_and_comes_back(entry):
    data = entries.encode(entry)
    assert data == canonical.encode(entry)
    assert entries.decode(data) == entry
    assert canonical.decode(data, Entry, limit=10_000, what="entry") == entry


def test_no_payload_is_in_it():
    data = entries.encode(made(input=b"a secret question", output=b"a secret answer"))
    assert b"secret" not in data
    assert sha256(b"a secret question").hex().encode() not in data


def test_commitments_are_derived_from_the_record_key():
    key = derive(KEY, "ledger record", ID)
    assert entries.record_key(KEY, ID) == key
    expected = derive(key, "ledger commitment", b"in", sha256(b"x")).hex()
    assert entries.commitment(key, "in", b"x") == expected
    others = [
        entries.commitment(key, "out", b"x"),
        entries.commitment(key, "in", b"y"),
        entries.commitment(entries.record_key(KEY, bytes(16)), "in", b"x"),
    ]
    assert len({expected, *others}) == 4


def test_sizes_are_there_when_payloads_are():
    assert (FULL.bytes_in, FULL.bytes_out) == (2, 0)
    assert FULL.commit_out is not None
    assert (made().bytes_in, made().commit_in) == (None, None)


@pytest.mark.parametrize("event", EVENTS)
def test_every_event(event):
    assert entries.decode(entries.encode(made(event=event))).event == event


GOOD = entries.encode(FULL)
BAD = {
    "an event of another version": GOOD.replace(b'"call"', b'"calf"'),
    "an unknown field": GOOD.replace(b"{", b'{"a":1,', 1),
    "a field twice": GOOD.replace(b'{"action":', b'{"action":"x","action":', 1),
    "a field gone": GOOD.replace(b'"action":"predict",', b""),
    "white space": GOOD.replace(b",", b", ", 1),
    "another order": b'{"quota":0,' + GOOD[1:].replace(b'"quota":0,', b""),
    "a float": GOOD.replace(b'"quota":0', b'"quota":0.0'),
    "a negative size": GOOD.replace(b'"bytes_in":2', b'"bytes_in":-2'),
    "a size that JSON cannot hold": GOOD.replace(b'"quota":0', b'"quota":9007199254740992'),
    "an escaped letter": GOOD.replace(b"predict", b"predi\\u0063t"),
    "a space in a term": GOOD.replace(b"predict", b"pre dict"),
    "a terminal escape": GOOD.replace(b"predict", b"\\u001b[31m"),
    "a newline after an id": GOOD.replace(b"urn:uuid:8a", b"urn:uuid:8a\\n"),
    "upper case in a digest": GOOD.replace(b"a" * 64, b"A" * 64),
    "a time of another zone": GOOD.replace(b"12:00:00Z", b"12:00:00+01:00"),
    "a time with fractions": GOOD.replace(b"12:00:00Z", b"12:00:00.5Z"),
    "a time without a zone": GOOD.replace(b"12:00:00Z", b"12:00:00"),
    "a time long ago": GOOD.replace(b"2026-", b"1999-"),
    "too long": GOOD + b" " * 65_535,
    "nothing": b"",
    "not JSON": b"\xff",
    "deep": b"[" * 60_000,
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_entry(what):
    assert BAD[what] != GOOD
    with pytest.raises(FormatError):
        entries.decode(BAD[what])


def test_a_version_counts_from_one():
    data = GOOD.replace(b'"version":3', b'"version":0')
    with pytest.raises(FormatError):
        entries.decode(data)


def test_a_term_has_one_spelling():
    for character in map(chr, range(0x250)):
        text = msgspec.json.encode(character).decode()
        good = text == f'"{character}"' and 0x21 <= ord(character) < 0x7F
        try:
            msgspec.convert(character, entries.Term)
        except msgspec.ValidationError:
            assert not good or character in {'"', "\\"}
        else:
            assert good


def test_an_intent_has_the_commitment_of_its_call_and_an_id_of_its_own():
    intent = made(event="intent", input=b"x")
    call = made(event="call", input=b"x", output=b"y")
    assert intent.commit_in == call.commit_in
    assert intent.commit_out is None
    assert intent.id == entries.intent_id(ID).hex() != call.id
    assert intent.id == sha256(b"intent" + ID).hex()[:32]
    assert entries.decode(entries.encode(intent)) == intent


@given(st.data())
def test_what_is_checked_can_be_read(data):
    """The quick check of a record says what reading the entry would."""
    words = st.sampled_from([None, "a", "a b", "1" * 64, "1" * 32, "", 1, True, b"a", "\u00e9"])
    numbers = st.sampled_from([None, 0, 1, 100, 101, -1, 1 << 53, 1.0, True, "1"])
    fields = {name: data.draw(words) for name in ("action", "session", "package", "reason")}
    fields |= {name: data.draw(numbers) for name in ("quota", "risk", "rows")}
    record = Record(event="refused", actor=US, **fields)
    try:
        entries.check(record)
    except FormatError:
        with pytest.raises((FormatError, TypeError)):
            entries.decode(entries.encode(entries.make(record, id=ID, key=KEY, at=AT)))
    else:
        entries.decode(entries.encode(entries.make(record, id=ID, key=KEY, at=AT)))
