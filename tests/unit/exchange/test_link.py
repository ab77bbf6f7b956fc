import itertools

import pytest

from counterseal.errors import Aborted, TimedOut
from counterseal.exchange.link import LETTER_OVERHEAD_BYTES, WINDOW, Link, line_of

LINE = bytes(range(16))


def pair(**more):
    more = {"piece": 100, "most": 1000, "inbox": 2000, **more}
    return Link(LINE, initiator=True, **more), Link(LINE, initiator=False, **more)


def settle(left, right, *, now=0.0, loses=lambda _number: False):
    """Carry letters at `now` until nobody has one; returns how many there were."""
    count = 0
    while True:
        letters = [(letter, right) for letter in left.tick(now)]
        letters += [(letter, left) for letter in right.tick(now)]
        if not letters:
            return count
        for letter, end in letters:
            count += 1
            if not loses(count - 1):
                end.receive(letter, now=now)


def taken(link):
    found = []
    while (message := link.take()) is not None:
        found.append(message)
    return found


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 1000])
def test_a_message_of_every_size_both_ways(size):
    left, right = pair()
    left.send(b"a" * size)
    right.send(b"b" * size)
    settle(left, right)
    assert taken(right) == [b"a" * size]
    assert taken(left) == [b"b" * size]
    assert left.idle
    assert right.idle
    assert left.seconds(0.0) is None


def test_many_messages_stay_in_order():
    left, right = pair(inbox=100_000)
    sent = [bytes([n]) * (7 * n) for n in range(100)]
    for message in sent:
        left.send(message)
    settle(left, right)
    assert taken(right) == sent


def test_a_lost_letter_is_sent_again_after_a_while():
    left, right = pair()
    left.send(b"hello")
    settle(left, right, loses=lambda _: True)
    assert taken(right) == []
    assert left.seconds(0.4) == pytest.approx(0.6)
    assert settle(left, right, now=0.9) == 0
    settle(left, right, now=1.0)
    assert taken(right) == [b"hello"]


def test_one_lost_letter_of_many_costs_one_letter():
    left, right = pair()
    left.send(bytes(1000))  # ten pieces, the second is lost
    total = settle(left, right, loses=lambda number: number == 1)
    assert taken(right) == [bytes(1000)]  # without waiting: three later ones arrived
    assert total <= 10 + 1 + 10  # each once, one twice, and acknowledgements


def test_waits_double():
    left, _ = pair(patience=100)
    left.send(b"x")
    times, now = [], 0.0
    while len(times) < 6:
        times += [now] * len(left.tick(now))
        now += 0.25
    assert [b - a for a, b in itertools.pairwise(times)] == [1, 2, 4, 8, 15]


def test_the_wait_follows_the_round_trip():
    left, right = pair()
    for start in range(20):
        left.send(b"x")
        (letter,) = left.tick(start)
        right.receive(letter, now=start + 0.3)
        for answer in right.tick(start + 0.3):
            left.receive(answer, now=start + 0.6)
    assert left._out._wait() == pytest.approx(0.6, abs=0.1)


def test_who_does_not_take_closes_the_window_and_opens_it_again():
    left, right = pair(inbox=300)
    for number in range(3):
        left.send(bytes([number]) * 100)
    settle(left, right)
    assert left.room
    left.send(b"more")
    now = 0.0
    for _ in range(40):  # it asks, and is told to wait
        now += left.seconds(now) or 0
        settle(left, right, now=now)
    assert now > 60
    assert len(right._in._inbox) == 3
    assert taken(right) == [bytes([number]) * 100 for number in range(3)]
    settle(left, right, now=now)
    now += left.seconds(now) or 0
    settle(left, right, now=now)
    assert taken(right) == [b"more"]


def test_a_full_line_says_so():
    left, _ = pair(inbox=1000)
    left.send(bytes(1000))
    assert not left.room
    with pytest.raises(RuntimeError, match="room"):
        left.send(b"")
    with pytest.raises(ValueError, match="at most"):
        left.send(bytes(1001))


def test_a_line_that_nobody_answers_is_lost():
    left, _ = pair(patience=10)
    assert left.tick(1000.0) == []
    left.send(b"x")
    left.tick(2000.0)
    left.tick(2010.0)
    with pytest.raises(TimedOut):
        left.tick(2010.5)


def test_a_broker_that_hands_us_our_own_letters_does_no_harm():
    left, right = pair()
    left.send(b"hello")
    for letter in left.tick(0.0):
        left.receive(letter, now=0.0)
        right.receive(letter, now=0.0)
        right.receive(letter, now=0.0)
    assert taken(left) == []
    assert taken(right) == [b"hello"]


NONSENSE = {
    "nothing": b"",
    "a head that is cut": bytes(34),
    "a kind that is none": bytes([3, 1]) + LINE + bytes(17),
    "a direction that is none": bytes([1, 2]) + LINE + bytes(17),
    "another line": bytes([1, 1]) + bytes(16) + bytes(17),
    "what was never sent": bytes([1, 1]) + LINE + b"\xff" * 17,
    "data without a number": bytes([2, 1]) + LINE + bytes(17) + bytes(8),
    "a number far away": bytes([2, 1]) + LINE + bytes(17) + b"\xff" * 8 + b"\1x",
    "the number behind the window": bytes([2, 1])
    + LINE
    + bytes(17)
    + WINDOW.to_bytes(8, "big")
    + b"\1x",
    "a piece that is too long": bytes([2, 1]) + LINE + bytes(17) + bytes(8) + b"\1" + bytes(101),
}


@pytest.mark.parametrize("sentence", NONSENSE)
def test_nonsense_is_ignored(sentence):
    left, right = pair()
    left.receive(NONSENSE[sentence], now=0.0)
    assert left.take() is None
    assert not left._in._early
    left.send(b"after it")
    settle(left, right)
    assert taken(right) == [b"after it"]


def test_a_flood_is_bounded():
    _, right = pair(inbox=2000)
    for number in range(10_000):
        letter = bytes([2, 0]) + LINE + bytes(16) + b"\x40" + number.to_bytes(8, "big") + b"\1"
        right.receive(letter + bytes(100), now=0.0)
    assert right._in._waiting <= 2000 + WINDOW * 100
    assert len(right._in._early) <= WINDOW
    assert len(right.tick(0.0)) == 1


def test_a_message_without_an_end_is_refused():
    _, right = pair()
    letters = [
        bytes([2, 0]) + LINE + bytes(17) + number.to_bytes(8, "big") + b"\0" + bytes(100)
        for number in range(11)
    ]
    for letter in letters[:10]:
        right.receive(letter, now=0.0)
    with pytest.raises(Aborted) as caught:
        right.receive(letters[10], now=0.0)
    assert caught.value.check == "message size"


def test_what_a_letter_tells_before_its_line_is_known():
    left, right = pair()
    left.send(b"x")
    (letter,) = left.tick(0.0)
    assert line_of(letter) == (LINE, True)
    assert len(letter) == LETTER_OVERHEAD_BYTES + 1
    right.receive(letter, now=0.0)
    assert line_of(right.tick(0.0)[0]) == (LINE, False)
    assert line_of(b"something else that is long enough to be one") is None


def test_arguments():
    with pytest.raises(ValueError, match="16 bytes"):
        Link(b"short", initiator=True)
    with pytest.raises(ValueError, match="1 to 64"):
        Link(LINE, initiator=True, window=65)
