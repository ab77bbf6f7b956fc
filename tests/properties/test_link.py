"""Whatever a carrier loses, repeats, delays and reorders: the messages arrive, once, in order."""

from __future__ import annotations

import heapq
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from counterseal.exchange.link import Link

LINE = bytes(16)
messages = st.lists(st.integers(0, 350), max_size=12)


class Carrier:
    """Letters on their way, by arrival time; the schedule decides what becomes of each."""

    def __init__(self, seed: int, loss: float, repeat: float, delay: float) -> None:
        self.random = random.Random(seed)
        self.loss, self.repeat, self.delay = loss, repeat, delay
        self.on_the_way: list[tuple[float, int, bytes, int]] = []
        self.count = 0

    def send(self, letter: bytes, to: int, now: float) -> None:
        if self.random.random() < self.loss:
            return
        for _ in range(2 if self.random.random() < self.repeat else 1):
            self.count += 1
            arrival = now + 0.01 + self.random.random() * self.delay
            heapq.heappush(self.on_the_way, (arrival, self.count, letter, to))


@settings(max_examples=200)
@given(
    sizes=st.tuples(messages, messages),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.4, 0.6]),
    repeat=st.sampled_from([0.0, 0.3]),
    delay=st.sampled_from([0.0, 0.1, 3.0]),
    window=st.sampled_from([1, 4, 64]),
    lazy=st.booleans(),
)
def test_any_schedule_delivers_the_same_messages(
    *,
    sizes: tuple[list[int], list[int]],
    seed: int,
    loss: float,
    repeat: float,
    delay: float,
    window: int,
    lazy: bool,
) -> None:
    options = {"piece": 50, "window": window, "most": 350, "inbox": 200, "patience": 1e6}
    ends = [Link(LINE, initiator=first, **options) for first in (True, False)]
    sent = [[bytes([n % 251]) * size for n, size in enumerate(part)] for part in sizes]
    left = [list(part) for part in sent]
    received: list[list[bytes]] = [[], []]
    carrier = Carrier(seed, loss, repeat, delay)
    now = 0.0
    for step in range(200_000):
        for number, end in enumerate(ends):
            while left[number] and end.room:
                end.send(left[number].pop(0))
            if not lazy or step % 7 == 0:
                while (message := end.take()) is not None:
                    received[number].append(message)
            for letter in end.tick(now):
                carrier.send(letter, 1 - number, now)
        if (
            not any(left)
            and all(end.idle for end in ends)
            and [*map(len, received)]
            == [
                len(sent[1]),
                len(sent[0]),
            ]
        ):
            break
        times = [now + wait for end in ends if (wait := end.seconds(now)) is not None]
        if carrier.on_the_way:
            times.append(carrier.on_the_way[0][0])
        now = max(now, min(times, default=now + 1.0))
        while carrier.on_the_way and carrier.on_the_way[0][0] <= now:
            _, _, letter, to = heapq.heappop(carrier.on_the_way)
            ends[to].receive(letter, now=now)
    else:
        raise AssertionError("it never ends")
    assert received == [sent[1], sent[0]]


@given(st.lists(st.binary(max_size=120), max_size=30), st.booleans())
def test_no_letter_breaks_a_line(letters: list[bytes], ours: bool) -> None:  # noqa: FBT001 - drawn
    left, right = Link(LINE, initiator=True), Link(LINE, initiator=False)
    for letter in letters:
        head = bytes([1 + len(letter) % 2, 0 if ours else 1]) + LINE
        for forged in (letter, head + letter):
            left.receive(forged, now=0.0)
            right.receive(forged, now=0.0)
    left.tick(0.0)
    right.tick(0.0)
