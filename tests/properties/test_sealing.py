"""Letters of any length open to what was sealed, and nothing else opens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workshop import AT, Cast

from counterseal.errors import BadCiphertext, FormatError
from counterseal.exchange.sealing import (
    PAD_TO,
    _pad,
    _unpad,
    open_sealed_message,
    seal_message,
)
from counterseal.trust.prekeys import prekey_id

CASTS = [Cast(), Cast(hardware=("clinic",))]
PREKEYS = [
    cast.with_prekeys(cast.clinic, cast.lab, count=1).prekeys.keys[0]  # one for each
    for cast in CASTS
]
lengths = st.one_of(
    st.builds(lambda n, d: max(0, n * PAD_TO + d), st.integers(0, 3), st.integers(-6, 6)),
    st.integers(0, 3 * PAD_TO),
)


def sealed(number, message, *, with_prekey):
    cast, public = CASTS[number], PREKEYS[number]
    prekey = (prekey_id(public), public.key()) if with_prekey else None
    return seal_message(message, to=cast.clinic.history.current(at=AT), prekey=prekey)


def opened(number, data):
    cast = CASTS[number]
    return open_sealed_message(data, by=cast.clinic, partner=cast.lab.history.identity)


@settings(max_examples=60)
@given(
    number=st.sampled_from([0, 1]),
    length=lengths,
    with_prekey=st.booleans(),
    fill=st.integers(0, 255),
)
def test_there_and_back(*, number: int, length: int, with_prekey: bool, fill: int) -> None:
    message = bytes([fill]) * length
    assert opened(number, sealed(number, message, with_prekey=with_prekey)) == message


@settings(max_examples=60)
@given(st.sampled_from([0, 1]), lengths, lengths)
def test_lengths_are_told_in_steps_only(number: int, one: int, two: int) -> None:
    first, second = (len(sealed(number, bytes(n), with_prekey=False)) for n in (one, two))
    same_step = -(-(one + 4) // PAD_TO) == -(-(two + 4) // PAD_TO)
    assert (first == second) is same_step


@settings(max_examples=150)
@given(number=st.sampled_from([0, 1]), with_prekey=st.booleans(), data=st.data())
def test_nothing_else_opens(*, number: int, with_prekey: bool, data: st.DataObject) -> None:
    good = sealed(number, b"message", with_prekey=with_prekey)
    how = data.draw(st.sampled_from(["bits", "cut", "grown", "pieces"]))
    at = data.draw(st.integers(0, len(good) - 1))
    if how == "bits":
        mask = data.draw(st.integers(1, 255))
        bad = good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :]
    elif how == "cut":
        bad = good[:at]
    elif how == "grown":
        bad = good[:at] + data.draw(st.binary(min_size=1, max_size=40)) + good[at:]
    else:
        other = sealed(number, b"another", with_prekey=with_prekey)
        at = max(at, 10)  # one byte of the salt at least
        bad = good[:at] + other[at:]
    if bad == good:
        return
    with pytest.raises((BadCiphertext, FormatError)):
        opened(number, bad)


@given(st.binary(max_size=200))
def test_padding_is_one_to_one(message: bytes) -> None:
    padded = _pad(message)
    assert len(padded) % PAD_TO == 0
    assert _unpad(padded) == message


@given(st.binary(max_size=64), st.integers(0, 2 * PAD_TO))
def test_what_is_unpadded_was_padded(start: bytes, length: int) -> None:
    padded = start + bytes(max(0, length - len(start)))
    try:
        message = _unpad(padded)
    except FormatError:
        return
    assert _pad(message) == padded


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for data in (noise, b"\x89cslet\x01\n" + noise):
        with pytest.raises((BadCiphertext, FormatError)):
            opened(0, data)
