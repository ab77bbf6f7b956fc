"""Everything that is written reads back; everything that was touched is refused, with our errors."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from counterseal.crypto.passphrase import Cost
from counterseal.errors import CountersealError, FormatError
from counterseal.trust import prekeys, recovery, signed, succession
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.keystores import file as keystore_file
from counterseal.trust.keystores import keyring
from counterseal.trust.keystores.keyring import Generation, KeyRing
from counterseal.wire import canonical
from counterseal.wire.canonical import Hex32, Message, Name, Timestamp
from counterseal.wire.dsse import Envelope

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CHEAP = Cost(memory_kib=19 * 1024, passes=2, lanes=1)


class Inner(Message, frozen=True):
    data: bytes
    text: str


class Outer(Message, frozen=True):
    kind: Literal["outer"]
    name: Name
    digest: Hex32 | None
    at: Timestamp
    number: Annotated[int, msgspec.Meta(ge=-(2**53) + 1, le=2**53 - 1)]
    items: tuple[Inner, ...]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
outers = st.builds(
    Outer,
    kind=st.just("outer"),
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    digest=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    at=st.integers(946684800, 32503679999).map(lambda s: datetime.fromtimestamp(s, UTC)),
    number=st.integers(-(2**53) + 1, 2**53 - 1),
    items=st.lists(st.builds(Inner, data=st.binary(max_size=40), text=texts), max_size=4).map(
        tuple
    ),
)


def read(data: bytes) -> Outer:
    return canonical.decode(data, Outer, limit=100_000, what="test")


@given(outers)
def test_round_trip(value: Outer) -> None:
    wire = canonical.encode(value)
    assert read(wire) == value
    assert canonical.encode(read(wire)) == wire


@given(st.binary(max_size=300))
@example(b'{"kind":"outer"')
@example(b"\xff")
@example(b"[" * 300)
def test_any_bytes_are_a_value_or_a_format_error(data: bytes) -> None:
    try:
        value = read(data)
    except FormatError:
        return
    assert canonical.encode(value) == data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(outers, st.sampled_from([*Outer.__struct_fields__, "unknown"]), json_values)
def test_any_json_in_any_field_is_a_value_or_a_format_error(
    value: Outer, field: str, instead: object
) -> None:
    import json

    document = json.loads(canonical.encode(value)) | {field: instead}
    data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        again = read(data.encode("utf-8", "surrogatepass"))
    except FormatError:
        return
    assert canonical.encode(again) == data.encode()
    assert field != "unknown"


@given(outers, st.data())
def test_a_changed_byte_is_another_value_or_a_format_error(
    value: Outer, data: st.DataObject
) -> None:
    wire = bytearray(canonical.encode(value))
    place = data.draw(st.integers(0, len(wire) - 1))
    wire[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(FormatError):
        assert read(bytes(wire)) != value


# --- documents of trust: a single byte changed is always refused ---------------------------


@cache
def keys(_: int) -> Generation:
    return Generation.create(hardware=_ == 2)


@cache
def rotated() -> History:
    """Two cards (the second with P-256 halves), a revocation, recovery keys."""
    public = recovery.public_part([keys(0).signing], threshold=1)
    first = succession.first("lab", keys(1), recovery=public, at=NOW)[1]
    second = succession.next_card(first, keys(2), by=[keys(1).signing], at=NOW)[1]
    return succession.revoke(second, first.identity, by=[keys(2).signing], reason="lost", at=NOW)


@cache
def card_document() -> bytes:
    return rotated().document.encode().strip()


@cache
def prekey_envelope() -> bytes:
    bundle, _ = prekeys.generate(rotated(), rotated(), 2, at=NOW)
    return canonical.encode(signed.sign(bundle, prekeys.PREKEYS_TYPE, by=[keys(2).signing]))


@cache
def keystore() -> bytes:
    ring = KeyRing.create("a" * 64, keys(1))
    return keystore_file.encrypt(keyring.pack(ring), b"pass", kind="keystore", cost=CHEAP)


@cache
def recovery_file() -> bytes:
    seeds = keys(0).signing.seeds()
    secret = canonical.encode(
        recovery._RecoveryKey(
            kind="recovery-key",
            format=1,
            suite=keys(0).signing.public.suite,
            classical=seeds[0],
            pq=seeds[1],
        )
    )
    return keystore_file.encrypt(secret, b"pass", kind="recovery-key", cost=CHEAP)


def read_card(data: bytes) -> object:
    return History.verify(CardDocument.parse(data))


def read_prekeys(data: bytes) -> object:
    envelope = canonical.decode(data, Envelope, limit=100_000, what="prekeys")
    return prekeys.verify(envelope, of=rotated(), to=rotated().identity, at=NOW)


def read_keystore(data: bytes) -> object:
    return keyring.unpack(keystore_file.decrypt(data, b"pass", kind="keystore"))


def read_recovery(data: bytes) -> object:
    return keystore_file.decrypt(data, b"pass", kind="recovery-key")


DOCUMENTS = {
    "card document": (card_document, read_card, 150),
    "prekey bundle": (prekey_envelope, read_prekeys, 150),
    "keystore": (keystore, read_keystore, 40),
    "recovery key": (recovery_file, read_recovery, 40),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_document_itself_is_accepted(name: str) -> None:
    make, reader, _ = DOCUMENTS[name]
    reader(make())


def harmless(make: bytes, changed: bytes) -> bool:
    """White space at either end of a file stands for nothing and is cut before it is read."""
    return changed.strip() == make


def refused(name: str, changed: bytes) -> None:
    make, reader, _ = DOCUMENTS[name]
    if not harmless(make(), changed):
        with pytest.raises(CountersealError):
            reader(changed)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_changed_byte_is_refused(name: str) -> None:
    make, _, count = DOCUMENTS[name]
    wire = make()

    @settings(max_examples=count, deadline=None)
    @given(st.integers(0, len(wire) - 1), st.integers(1, 255))
    def one(place: int, flip: int) -> None:
        refused(name, wire[:place] + bytes([wire[place] ^ flip]) + wire[place + 1 :])

    one()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_changed_base64_or_hex_letter_is_refused(name: str) -> None:
    """Flips that stay in the alphabet get past the parser, to the signatures and tags."""
    make, _, count = DOCUMENTS[name]
    wire = make()
    letters = [n for n, byte in enumerate(wire) if chr(byte).isalnum()]

    @settings(max_examples=count, deadline=None)
    @given(st.sampled_from(letters), st.sampled_from(b"ABCXYZabcxyz0189+/"))
    def one(place: int, letter: int) -> None:
        if wire[place] != letter:
            refused(name, wire[:place] + bytes([letter]) + wire[place + 1 :])

    one()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_byte_put_in_or_taken_out_is_refused(name: str) -> None:
    make, _, count = DOCUMENTS[name]
    wire = make()

    @settings(max_examples=count // 2, deadline=None)
    @given(st.integers(0, len(wire) - 1), st.binary(max_size=2))
    def one(place: int, instead: bytes) -> None:
        changed = wire[:place] + instead + wire[place + 1 :]
        if changed != wire:
            refused(name, changed)

    one()
