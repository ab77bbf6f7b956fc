"""The sender: what it pushes, when, and again."""

import pytest
from shipping import MemorySource

from counterseal.errors import Aborted, FormatError
from counterseal.exchange.transports.mqtt import messages
from counterseal.exchange.transports.mqtt.messages import Kind, Lock, Part, State, Want
from counterseal.exchange.transports.mqtt.sender import LISTS, MAX_BLOCK, MIN_PART, Sender
from counterseal.wire.limits import KIB

TRANSFER = "5e" * 16
LOCK = Lock(TRANSFER, b"k" * 32)
SIZE = 64 * KIB


class Scene:
    """A sender of `count` blocks, and the words of its receiver."""

    def __init__(self, count=8, *, part=SIZE, window=4 * SIZE, lock=LOCK):
        self.source = MemorySource([bytes([n]) * SIZE for n in range(count)])
        self.lock = lock
        self.sender = Sender(self.source, lock, part_bytes=part, window_bytes=window, at=0.0)
        self.number = 0

    def want(self, names=None, *, run=b"run.....", last=True, at=0.0):
        names = self.source.names if names is None else names
        shorts = tuple(map(messages.short, names))
        body = Want(last=last, remaining=len(names) * SIZE, names=shorts).encode()
        return self.sender.receive(self.lock.close(Kind.WANT, run, 0, body), at=at)

    def state(self, top=0, seen=0, base=0, there=0, *, run=b"run.....", at=0.0, number=None):
        self.number += 1
        body = State(top, seen, base, there).encode()
        number = self.number if number is None else number
        return self.sender.receive(self.lock.close(Kind.STATE, run, number, body), at=at)

    def pushed(self, at=0.0):
        """[(number, block, offset, length)]"""
        found = []
        for push in self.sender.pushes(at=at):
            message = LOCK.open(push.head)
            part = Part.parse(message.body)
            found.append((message.number, part.block, part.offset, part.length))
        return found


def blocks(pushed):
    return [block for _, block, _, _ in pushed]


def test_nothing_is_pushed_before_a_want():
    assert Scene().pushed() == []


def test_a_window_is_pushed_and_no_more_until_some_arrived():
    scene = Scene()
    scene.want()
    assert blocks(scene.pushed()) == [0, 1, 2, 3]
    assert scene.pushed() == []
    scene.state(2, 0b11, 2)
    assert blocks(scene.pushed()) == [4, 5]


def test_blocks_are_cut_into_parts():
    scene = Scene(1, part=SIZE // 4 + 1)
    scene.want()
    lengths = [length for _, _, _, length in scene.pushed()]
    assert lengths == [SIZE // 4 + 1] * 3 + [SIZE - 3 * (SIZE // 4 + 1)]


def test_a_part_that_three_later_ones_overtook_is_pushed_again():
    scene = Scene(window=8 * SIZE)
    scene.want()
    assert blocks(scene.pushed()) == list(range(8))
    scene.state(3, 0b011, 0, 0b110)
    assert scene.pushed() == []  # two later ones: it may only be late
    scene.state(4, 0b0111, 0, 0b1110)
    assert blocks(scene.pushed()) == [0]


def test_silence_means_lost_and_a_window_of_one():
    scene = Scene()
    scene.want()
    assert len(scene.pushed()) == 4
    assert scene.sender.tick(at=0.9) is None
    assert scene.pushed(at=0.9) == []
    assert scene.sender.wake() == 1.0
    assert LOCK.open(scene.sender.tick(at=1.0)).kind is Kind.HELLO
    assert scene.pushed(at=1.0) == []  # to nobody, perhaps
    scene.state(at=1.1)
    assert blocks(scene.pushed(at=1.1)) == [0]
    assert scene.sender.wake() == 3.1  # longer each time


def test_parts_that_never_pass_are_cut_smaller():
    scene = Scene(1, part=SIZE)
    scene.want()
    at, lengths = 0.0, []
    for _ in range(20):
        lengths += [length for _, _, _, length in scene.pushed(at=at)]
        at = scene.sender.wake()
        scene.sender.tick(at=at)
        scene.state(at=at)
    assert lengths[0] == SIZE
    assert min(lengths) == MIN_PART


def test_a_block_that_arrived_and_is_not_there_was_changed():
    scene = Scene()
    scene.want()
    scene.pushed()
    scene.state(4, 0b1111, 0, 0b1101)  # block 1 was refused
    assert blocks(scene.pushed()) == [1, 4, 5, 6]


def test_overtaken_reports_are_ignored():
    scene = Scene()
    scene.want()
    scene.pushed()
    scene.state(4, 0b1111, 4, number=9)
    scene.pushed()
    done = scene.sender.done
    scene.state(0, 0, 0, number=8)
    assert scene.sender.done == done == 4 * SIZE


def test_reports_of_what_was_never_pushed_are_ignored():
    scene = Scene()
    scene.want()
    scene.pushed()
    scene.state(2**32 - 1, 0, 0)
    scene.state(4, 0b1111, 99)
    assert scene.sender.done == 0
    assert scene.pushed() == []


def test_only_what_is_wanted_is_pushed():
    scene = Scene()
    scene.want(scene.source.names[5:7])
    assert scene.sender.done == 6 * SIZE
    assert [push.name for push in scene.sender.pushes(at=0.0)] == scene.source.names[5:7]


def test_unknown_names_are_skipped_and_a_list_of_nothing_else_is_nobodys():
    scene = Scene()
    scene.want(["ff" * 32], run=b"stranger")
    assert not scene.sender.answered
    scene.want(["ff" * 32, scene.source.names[1]])
    assert blocks(scene.pushed()) == [1]


def test_it_ends_when_the_last_list_is_there():
    scene = Scene(2)
    scene.want(last=False)
    scene.pushed()
    scene.state(2, 0b11, 2)
    assert not scene.sender.finished
    scene.want(scene.source.names[:1], run=b"second..")
    scene.pushed()
    scene.state(3, 0b1, 1, run=b"second..", number=1)
    assert scene.sender.finished
    assert scene.sender.done == scene.sender.total


def test_it_ends_with_done():
    scene = Scene()
    scene.sender.receive(LOCK.close(Kind.DONE, bytes(8), 0), at=0.0)
    assert scene.sender.finished


@pytest.mark.parametrize("lock", [LOCK, Lock(TRANSFER)])
def test_cancel_counts_only_with_a_secret(lock):
    scene = Scene(lock=lock)
    scene.sender.receive(lock.close(Kind.CANCEL, bytes(8), 0), at=0.0)
    assert scene.sender.cancelled is lock.secret


def test_an_unknown_list_is_answered_with_hello_but_not_too_often():
    scene = Scene()
    assert LOCK.open(scene.state(run=b"unknown.", at=1.0)).kind is Kind.HELLO
    assert scene.state(run=b"unknown.", at=1.1) is None
    assert scene.state(run=b"unknown.", at=1.3) is not None


def test_after_a_lost_connection_it_waits_for_the_receiver():
    scene = Scene()
    scene.want()
    scene.pushed()
    assert LOCK.open(scene.sender.reconnected()).run == b"run....."
    assert scene.pushed() == []
    scene.state(2, 0b11, 2)
    assert blocks(scene.pushed()) == [2, 3, 4, 5]


def test_a_list_counts_once_and_lists_are_not_endless():
    scene = Scene()
    scene.want()
    scene.pushed()
    scene.want()
    assert scene.pushed() == []
    for number in range(2 * LISTS):
        scene.want(run=bytes([number]) * 8)
    assert scene.sender._list.run == bytes([LISTS - 2]) * 8


def test_what_repeats_without_end_is_given_up():
    scene = Scene()

    def ask_for_ever():
        for number in range(10_000):
            scene.want(run=number.to_bytes(8, "big"), at=float(number))
            scene.pushed(at=float(number))

    with pytest.raises(Aborted) as caught:
        ask_for_ever()
    assert caught.value.party == "receiver"


def test_blocks_have_a_limit():
    class Huge:
        names = ("00" * 32,)

        def size(self, _name):
            return MAX_BLOCK + 1

    with pytest.raises(FormatError, match="larger"):
        Sender(Huge(), LOCK, part_bytes=1 << 20, window_bytes=1 << 23, at=0.0)
