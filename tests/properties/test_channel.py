"""A channel delivers a beginning of what was sent, whatever happens to its frames, or the whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterseal.errors import Aborted, BadCiphertext, Dropped
from counterseal.exchange import channel as channels
from counterseal.exchange.channel import Channel, ChannelKeys

AT = datetime(2026, 6, 1, tzinfo=UTC)
KEYS = bytes(32), b"\1" * 32
PAYLOAD = 64


@pytest.fixture(autouse=True, scope="module")
def small_frames():
    """So that a few bytes make parts and turns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channels, "PAYLOAD_BYTES", PAYLOAD)
        patch.setattr(channels, "FRAME_BYTES", PAYLOAD + 17)
        patch.setattr(channels, "TURN_BYTES", 300)
        patch.setattr(channels, "WORN_BYTES", 600)
        yield


def ends() -> tuple[Channel, Channel]:
    until = AT + timedelta(days=1)
    return (
        Channel(ChannelKeys(*KEYS, until), at=AT),
        Channel(ChannelKeys(*KEYS[::-1], until), at=AT),
    )


sizes = st.one_of(
    st.builds(lambda n, d: max(0, n * PAYLOAD + d), st.integers(0, 6), st.integers(-1, 1)),
    st.integers(0, 6 * PAYLOAD),
)
steps = st.lists(st.tuples(st.sampled_from([0, 1]), sizes, st.integers(0, 90)), max_size=20)


@settings(max_examples=100)
@given(steps)
def test_both_directions_at_any_time(steps: list[tuple[int, int, int]]) -> None:
    both, now = ends(), AT
    for number, (way, size, minutes) in enumerate(steps):
        now = min(now + timedelta(minutes=minutes), AT + timedelta(days=1))
        message = bytes([number]) * size
        *first, last = [both[1 - way].open(f, at=now) for f in both[way].seal(message, at=now)]
        found = [one for one in [*first, last] if one is not None]
        assert found == [message]


def receive_all(end: Channel, frames: list[bytes], received: list[bytes]) -> None:
    for frame in frames:
        message = end.open(frame, at=AT)
        if message is not None:
            received.append(message)
    end.carrier_ended()


@settings(max_examples=200)
@given(
    st.lists(sizes, min_size=1, max_size=8),
    st.sampled_from(["drop", "repeat", "swap", "change", "cut", "grow", "other way"]),
    st.data(),
)
def test_what_was_tampered_with_ends_the_channel(
    sizes: list[int], what: str, data: st.DataObject
) -> None:
    left, right = ends()
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    frames = [frame for message in messages for frame in left.seal(message, at=AT)]
    frames.append(left.close())
    place = data.draw(st.integers(0, len(frames) - 1))
    if what == "drop":
        del frames[place]
    elif what == "repeat":
        frames.insert(place, frames[place])
    elif what == "swap":
        other = (place + data.draw(st.integers(1, len(frames) - 1))) % len(frames)
        frames[place], frames[other] = frames[other], frames[place]
    elif what == "change":
        index = data.draw(st.integers(0, len(frames[place]) - 1))
        changed = bytearray(frames[place])
        changed[index] ^= data.draw(st.integers(1, 255))
        frames[place] = bytes(changed)
    elif what == "cut":
        frames[place] = frames[place][: data.draw(st.integers(0, len(frames[place]) - 1))]
    elif what == "grow":
        frames[place] += data.draw(st.binary(min_size=1, max_size=90))
    else:
        frames[place] = right.seal(b"from here", at=AT)[0]
    received: list[bytes] = []
    with pytest.raises((BadCiphertext, Aborted, Dropped)):
        receive_all(right, frames, received)
    assert received == messages[: len(received)]
    with pytest.raises(Dropped):
        right.seal(b"", at=AT)
