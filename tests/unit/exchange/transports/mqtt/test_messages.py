"""The bytes of the messages, as SPEC has them."""

import pytest

from counterseal.crypto.digest import leaf_digest
from counterseal.exchange.transports.mqtt import messages, topics
from counterseal.exchange.transports.mqtt.messages import Kind, Lock, Part, State, Want

TRANSFER = "5e" * 16
RUN = bytes(range(8))
LOCK = Lock(TRANSFER, b"k" * 32)


def test_a_message_comes_back():
    message = LOCK.open(LOCK.close(Kind.DONE, RUN, 7))
    assert (message.kind, message.run, message.number) == (Kind.DONE, RUN, 7)
    assert message.body == b""
    assert not message.data


def test_the_head_of_a_part_is_45_bytes_and_its_data_follow():
    head = LOCK.close(Kind.PART, RUN, 3, Part(1, 2, 4).encode())
    assert len(head) == messages.HEAD_BYTES == 1 + 8 + 4 + 12 + 16 + 4 - 4
    message = LOCK.open(head + b"data")
    assert Part.parse(message.body) == Part(1, 2, 4)
    assert bytes(message.data) == b"data"


def test_the_layout_of_the_head():
    closed = LOCK.close(Kind.STATE, RUN, 258, b"")
    assert closed[:13] == bytes([2]) + RUN + b"\0\0\1\2"
    assert len(closed) == 13 + 16


@pytest.mark.parametrize("at", range(29))
def test_any_changed_bit_of_a_control_message_is_noticed(at):
    data = bytearray(LOCK.close(Kind.DONE, RUN, 7))
    data[at] ^= 1
    assert LOCK.open(bytes(data)) is None


@pytest.mark.parametrize(
    "other", [Lock(TRANSFER, b"l" * 32), Lock("5f" * 16, b"k" * 32), Lock(TRANSFER)]
)
def test_only_the_same_shipment_and_secret_open_it(other):
    assert other.open(LOCK.close(Kind.DONE, RUN, 7)) is None


def test_without_a_secret_a_tag_still_recognizes_accidents():
    lock = Lock(TRANSFER)
    data = lock.close(Kind.DONE, RUN, 0)
    assert lock.open(data) is not None
    assert lock.open(data[:-1] + bytes([data[-1] ^ 1])) is None
    assert not lock.secret


@pytest.mark.parametrize("data", [b"", b"\x03", bytes(29), bytes(28), b"\x06" + bytes(28)])
def test_what_is_too_short_or_of_no_kind_is_nothing(data):
    assert LOCK.open(data) is None


def test_a_control_message_has_a_limit():
    assert LOCK.open(LOCK.close(Kind.WANT, RUN, 0, bytes(messages.MAX_CONTROL))) is None


def test_a_want_comes_back():
    names = tuple(messages.short(leaf_digest(bytes([n])).hex()) for n in range(3))
    want = Want(last=True, remaining=1 << 40, names=names)
    assert Want.parse(want.encode()) == want
    assert len(want.encode()) == 9 + 24


@pytest.mark.parametrize("body", [b"", bytes(8), bytes(10), b"\2" + bytes(8)])
def test_a_want_of_another_shape_is_none(body):
    assert Want.parse(body) is None


def test_a_state_comes_back():
    for state in (State(0, 0, 0, 0), State(9, 0b101, 3, 1 << 4000), State(2**32 - 1, 1, 0, 1)):
        assert State.parse(state.encode()) == state


@pytest.mark.parametrize("length", [0, 135, 136 + 513])
def test_a_state_of_another_length_is_none(length):
    assert State.parse(bytes(length)) is None


def test_topics_say_neither_box_nor_name_and_differ_by_place():
    box, letter = "ab" * 16, b"letter"
    place = topics.letters(box)
    assert box not in place
    assert place.split("/")[0] == "cs1"
    assert place.split("/")[1] == topics.board(box).split("/")[1]
    transfer = topics.transfer(place, letter)
    assert len(transfer) == 32
    assert transfer != topics.transfer(topics.letters("ac" * 16), letter)
    assert transfer != topics.transfer(place, letter + b".")
    assert topics.wants(transfer) == f"cs1/{transfer}/wants"
    assert topics.blocks(transfer) == f"cs1/{transfer}/blocks"
