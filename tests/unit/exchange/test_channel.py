from datetime import timedelta

import pytest
from parley import AT, agree

from counterseal.crypto.record import Sealer
from counterseal.errors import Aborted, BadCiphertext, Dropped, SessionExpired
from counterseal.exchange import channel as channels
from counterseal.exchange.channel import (
    FRAME_BYTES,
    PAYLOAD_BYTES,
    Channel,
    ChannelKeys,
    Kind,
)

ONE, TWO = b"\1" * 32, b"\2" * 32
UNTIL = AT + timedelta(days=1)
SIZES = [0, 1, PAYLOAD_BYTES - 1, PAYLOAD_BYTES, PAYLOAD_BYTES + 1, 3 * PAYLOAD_BYTES]


@pytest.fixture
def ends():
    return (
        Channel(ChannelKeys(ONE, TWO, UNTIL), at=AT),
        Channel(ChannelKeys(TWO, ONE, UNTIL), at=AT),
    )


def carry(frames, end, at=AT):
    """What the last frame completes; none of the others may complete anything."""
    *before, last = frames
    assert [end.open(frame, at=at) for frame in before] == [None] * len(before)
    return end.open(last, at=at)


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_every_size(ends, size):
    message = bytes(range(251)) * (size // 251 + 1)
    message = message[:size]
    for there, back in (ends, ends[::-1]):
        frames = there.seal(message, at=AT)
        assert len(frames) == max(1, -(-size // PAYLOAD_BYTES))
        assert max(map(len, frames)) <= FRAME_BYTES
        assert carry(frames, back) == message


def test_any_buffer_can_be_a_message_and_a_frame(ends):
    for message in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
        (frame,) = ends[0].seal(message, at=AT)
        received = ends[1].open(memoryview(bytearray(frame)), at=AT)
        assert received == b"abc"
        assert type(received) is bytes


def test_both_directions_close_by_themselves(ends):
    left, right = ends
    assert right.open(left.close(), at=AT) is None
    assert right.ended
    assert not left.ended
    (frame,) = right.seal(b"one more", at=AT)
    assert left.open(frame, at=AT) == b"one more"
    assert left.open(right.close(), at=AT) is None
    assert left.ended
    for end in ends:
        end.carrier_ended()  # nothing is missing
        with pytest.raises(RuntimeError):
            end.seal(b"", at=AT)
        with pytest.raises(RuntimeError):
            end.close()


def test_a_message_above_the_limit_is_neither_made_nor_accepted():
    left = Channel(ChannelKeys(ONE, TWO, UNTIL), at=AT)
    right = Channel(ChannelKeys(TWO, ONE, UNTIL), at=AT, most=PAYLOAD_BYTES + 5)
    with pytest.raises(ValueError, match="at most"):
        right.seal(bytes(PAYLOAD_BYTES + 6), at=AT)
    assert carry(left.seal(bytes(PAYLOAD_BYTES + 5), at=AT), right) is not None
    with pytest.raises(Aborted) as caught:
        carry(left.seal(bytes(PAYLOAD_BYTES + 6), at=AT), right)
    assert caught.value.check == "message size"
    short = Channel(ChannelKeys(TWO, ONE, UNTIL), at=AT, most=5)
    left = Channel(ChannelKeys(ONE, TWO, UNTIL), at=AT)
    with pytest.raises(Aborted):
        carry(left.seal(b"123456", at=AT), short)


MISBEHAVIOR = {
    "a kind that is none": [(0, b"")],
    "another kind that is none": [(5, b"")],
    "a part that is not full": [(Kind.PART, b"short")],
    "an empty end": [(Kind.PART, bytes(PAYLOAD_BYTES)), (Kind.LAST, b"")],
    "an empty part": [(Kind.PART, b"")],
    "a turn with something in it": [(Kind.TURN, b"x")],
    "a close with something in it": [(Kind.CLOSE, b"x")],
    "a close in the middle of a message": [(Kind.PART, bytes(PAYLOAD_BYTES)), (Kind.CLOSE, b"")],
    "a frame after close": [(Kind.CLOSE, b""), (Kind.LAST, b"more")],
    "a second close": [(Kind.CLOSE, b""), (Kind.CLOSE, b"")],
    "a payload above the limit": [(Kind.LAST, bytes(PAYLOAD_BYTES + 1))],
}


@pytest.mark.parametrize("sentence", MISBEHAVIOR)
def test_a_partner_that_breaks_the_rules_is_cut_off(sentence, ends):
    sealer, right = Sealer(ONE), ends[1]
    *before, last = MISBEHAVIOR[sentence]
    for kind, payload in before:
        right.open(sealer.seal(kind, payload), at=AT)
    with pytest.raises(Aborted):
        right.open(sealer.seal(*last), at=AT)
    for use in (lambda: right.seal(b"", at=AT), lambda: right.open(b"", at=AT)):
        with pytest.raises(Dropped):
            use()


def test_after_an_error_the_channel_is_dead_and_empty(ends):
    left, right = ends
    (frame,) = left.seal(b"one", at=AT)
    with pytest.raises(BadCiphertext):
        right.open(frame[:-1] + bytes([frame[-1] ^ 1]), at=AT)
    with pytest.raises(Dropped):
        right.open(frame, at=AT)
    with pytest.raises(Dropped):
        right.seal(b"", at=AT)
    with pytest.raises(RuntimeError):
        right.close()
    assert right._sealer._secret == right._opener._secret == b""
    assert right.dead
    assert not left.dead
    assert repr(right) == "<Channel dead>"


def test_an_end_without_close_is_a_cut(ends):
    left, right = ends
    (frame,) = left.seal(b"one", at=AT)
    assert right.open(frame, at=AT) == b"one"
    with pytest.raises(Dropped):
        right.carrier_ended()
    with pytest.raises(Dropped):
        right.seal(b"", at=AT)


def test_the_key_turns_with_the_time(ends):
    left, right = ends
    before = left._sealer._secret
    assert len(left.seal(b"a", at=AT + timedelta(minutes=59))) == 1
    right.open(Sealer(ONE).seal(Kind.LAST, b"a"), at=AT)
    later = AT + timedelta(minutes=60)
    frames = left.seal(b"b", at=later)
    assert len(frames) == 2
    assert left._sealer._secret != before
    assert carry(frames, right, at=later) == b"b"
    assert len(left.seal(b"c", at=later + timedelta(minutes=59))) == 1


def test_the_key_turns_with_the_bytes(ends, monkeypatch):
    monkeypatch.setattr(channels, "TURN_BYTES", 2 * PAYLOAD_BYTES)
    left, right = ends
    message = bytes(5 * PAYLOAD_BYTES)
    frames = left.seal(message, at=AT)
    # after 2, after 4 and not after the 5th
    assert [len(frame) < 100 for frame in frames] == [
        False, False, True, False, False, True, False
    ]  # fmt: skip
    assert [right.open(frame, at=AT) for frame in frames] == [None] * 6 + [message]
    frames = left.seal(b"x" * PAYLOAD_BYTES, at=AT)
    assert len(frames) == 2  # the turn right behind: no message waits for it
    assert right.open(frames[0], at=AT) == b"x" * PAYLOAD_BYTES
    assert right.open(frames[1], at=AT) is None
    assert left._sealer.used == right._opener.used == 0


def test_a_partner_that_never_turns_is_cut_off(ends, monkeypatch):
    monkeypatch.setattr(channels, "WORN_BYTES", 100)
    sealer, right = Sealer(ONE), ends[1]
    for _ in range(6):
        right.open(sealer.seal(Kind.LAST, b""), at=AT)
    with pytest.raises(Aborted) as caught:
        right.open(sealer.seal(Kind.LAST, b""), at=AT)
    assert caught.value.check == "renewal"


def test_the_time_of_a_channel_ends(ends):
    left, right = ends
    (frame,) = left.seal(b"", at=AT)
    assert right.open(frame, at=UNTIL) == b""
    late = UNTIL + timedelta(seconds=1)
    with pytest.raises(SessionExpired):
        left.seal(b"", at=late)
    with pytest.raises(SessionExpired):
        right.open(frame, at=late)
    with pytest.raises(Dropped):
        right.open(frame, at=AT)


def test_the_limit_of_a_handshake_is_that_of_its_channel(cast):
    ours, theirs = agree(cast.lab, cast.clinic, most=10)
    for agreed in (ours, theirs):
        with pytest.raises(ValueError, match="10 bytes"):
            agreed.channel.seal(b"x" * 11, at=AT)


def test_keys_are_not_shown():
    keys = ChannelKeys(ONE, TWO, UNTIL)
    assert repr(ONE)[2:-1] not in repr(keys)
    assert "send" not in repr(keys)
