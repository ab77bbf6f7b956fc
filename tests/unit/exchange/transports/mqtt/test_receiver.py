"""The receiver: what it lists, puts together and reports."""

import itertools

import pytest

from counterseal.errors import FormatError
from counterseal.exchange.transports.mqtt import messages
from counterseal.exchange.transports.mqtt.messages import MAX_WANTED, Kind, Lock, Part, State, Want
from counterseal.exchange.transports.mqtt.receiver import HALF_BLOCKS, Receiver
from counterseal.exchange.transports.mqtt.sender import MAX_BLOCK
from counterseal.wire.limits import KIB, MIB

TRANSFER = "5e" * 16
LOCK = Lock(TRANSFER, b"k" * 32)
SIZE = 1000


def name(number):
    return number.to_bytes(32, "little").hex()


class Scene:
    def __init__(self, count=4, size=SIZE):
        runs = itertools.count(1)
        self.receiver = Receiver(LOCK, random=lambda: next(runs).to_bytes(8, "big"), at=0.0)
        self.names = [name(n) for n in range(count)]
        self.size = size
        self.number = -1
        self.list()

    def list(self, at=0.0):
        reply = self.receiver.wants(self.names, lambda _: self.size, at=at)
        self.run = LOCK.open(reply.data).run
        assert reply.lasts
        return Want.parse(LOCK.open(reply.data).body)

    def part(self, block, offset=0, length=None, *, number=None, at=0.0, run=None, claims=None):
        self.number = self.number + 1 if number is None else number
        length = self.size - offset if length is None else length
        body = Part(block, offset, claims or length).encode()
        head = LOCK.close(Kind.PART, run or self.run, self.number, body)
        return self.receiver.receive(head + bytes([block]) * length, at=at)

    def reports(self, at):
        return [State.parse(LOCK.open(r.data).body) for r in self.receiver.replies(at=at)]


def test_the_list_says_what_is_missing():
    want = Scene().list(at=1.0)
    assert want.names == tuple(messages.short(name(n)) for n in range(4))
    assert (want.last, want.remaining) == (True, 4 * SIZE)


def test_a_long_list_is_cut():
    scene = Scene(MAX_WANTED + 1)
    want = scene.list()
    assert (len(want.names), want.last) == (MAX_WANTED, False)
    assert want.remaining == (MAX_WANTED + 1) * SIZE


def test_a_part_that_is_a_whole_block_is_handed_over():
    scene = Scene()
    block = scene.part(2)
    assert (block.name, block.data) == (name(2), bytes([2]) * SIZE)


@pytest.mark.parametrize("order", list(itertools.permutations([0, 300, 700])))
def test_parts_are_put_together_in_any_order(order):
    scene = Scene()
    ends = {0: 300, 300: 700, 700: SIZE}
    found = [scene.part(1, at, ends[at] - at) for at in order]
    assert found[:2] == [None, None]
    assert found[2].data == bytes([1]) * SIZE


def test_parts_may_overlap_and_repeat():
    scene = Scene()
    cuts = [(0, 400), (0, 400), (200, 500), (900, 100), (750, 50)]
    assert [scene.part(1, at, length) for at, length in cuts] == [None] * 5
    assert scene.part(1, 650, 300).data == bytes([1]) * SIZE


def test_a_block_that_is_there_is_not_handed_over_again():
    scene = Scene()
    scene.receiver.stored(scene.part(0))
    assert scene.part(0) is None


def test_overlapping_parts_complete_a_block():
    scene = Scene()
    assert scene.part(1, 0, 600) is None
    assert scene.part(1, 400, 600).data == bytes([1]) * SIZE


@pytest.mark.parametrize(
    "part",
    [
        {"block": 4},
        {"block": 0, "offset": SIZE - 1, "length": 2},
        {"block": 0, "length": 0},
        {"block": 0, "offset": 2**32 - 1, "length": 5},
        {"block": 0, "length": 10, "claims": 11},
        {"block": 0, "run": b"another."},
    ],
)
def test_parts_of_another_list_or_shape_are_ignored(part):
    scene = Scene()
    assert scene.part(**part) is None
    assert scene.reports(at=0.0) == []


def test_it_reports_every_512_kib_and_soon():
    scene = Scene(8, size=256 * KIB)
    scene.receiver.stored(scene.part(0, at=1.0))
    assert scene.reports(at=1.0) == []
    assert scene.receiver.wake() == pytest.approx(1.01)
    scene.receiver.stored(scene.part(1, at=1.0))
    assert scene.reports(at=1.0) == [State(top=2, seen=0b11, base=2, there=0)]
    scene.receiver.stored(scene.part(2, at=1.0))
    assert scene.reports(at=1.02) == [State(top=3, seen=0b111, base=3, there=0)]


def test_it_reports_a_gap_at_once():
    scene = Scene(8)
    scene.receiver.stored(scene.part(3, number=3))
    assert scene.reports(at=0.0) == [State(top=4, seen=0b1, base=0, there=0b1000)]
    scene.receiver.stored(scene.part(1, number=1))
    assert scene.reports(at=0.1) == [State(top=4, seen=0b101, base=0, there=0b1010)]


def test_it_reports_again_when_nothing_comes():
    scene = Scene()
    times = []
    for tenth in range(100):
        times += [tenth / 10] * len(scene.reports(at=tenth / 10))
    assert times == [0.5, 1.5, 3.5, 5.5, 7.5, 9.5]


def test_a_refused_block_is_reported_missing():
    scene = Scene()
    scene.receiver.refused(scene.part(0))
    assert scene.reports(at=1.0)[0] == State(top=1, seen=1, base=0, there=0)
    assert scene.part(0) is not None  # and is taken when it comes again


def test_a_number_far_away_costs_nothing():
    scene = Scene()
    scene.part(0, number=2**32 - 1)
    assert scene.receiver._seen == 1


def test_half_blocks_are_bounded():
    scene = Scene(8, size=16 * MIB)
    for block in range(8):
        scene.part(block, 0, 10)
        assert scene.receiver._held() <= HALF_BLOCKS
    assert list(scene.receiver._halves) == [6, 7]


def test_hello_of_a_sender_that_has_no_list_brings_a_new_one():
    scene = Scene()
    assert not scene.receiver.relist(at=5.0)
    scene.receiver.receive(LOCK.close(Kind.HELLO, bytes(8), 1), at=5.0)
    assert scene.receiver.relist(at=5.0)


def test_hello_of_a_sender_that_has_it_brings_a_report():
    scene = Scene()
    scene.receiver.receive(LOCK.close(Kind.HELLO, scene.run, 1), at=0.1)
    assert not scene.receiver.relist(at=5.0)
    assert len(scene.reports(at=0.1)) == 1


def test_a_list_and_a_hello_that_pass_each_other():
    scene = Scene()
    scene.receiver.receive(LOCK.close(Kind.HELLO, bytes(8), 1), at=0.05)
    assert not scene.receiver.relist(at=0.05)
    scene.part(0, at=0.1)
    assert not scene.receiver.relist(at=5.0)


def test_done_and_cancel():
    scene = Scene()
    assert LOCK.open(scene.receiver.done().data).kind is Kind.DONE
    assert scene.receiver.done().lasts
    assert LOCK.open(scene.receiver.cancel().data).kind is Kind.CANCEL


def test_it_can_say_done_without_ever_having_wanted():
    receiver = Receiver(LOCK, random=lambda: bytes(8), at=0.0)
    assert receiver.relist(at=0.0)
    assert State.parse(LOCK.open(receiver.report(at=0.0).data).body) == State(0, 0, 0, 0)


def test_blocks_have_a_limit():
    receiver = Receiver(LOCK, random=lambda: bytes(8), at=0.0)
    with pytest.raises(FormatError, match="larger"):
        receiver.wants([name(0)], lambda _: MAX_BLOCK + 1, at=0.0)
