"""Whatever a broker drops, repeats, reorders or changes: every block arrives, and little else."""

import random

from carrier import Faults, World
from hypothesis import given, settings
from hypothesis import strategies as st
from shipping import MemorySink, MemorySource

KIB = 1024


def shipment(rng, count, *, size=4 * KIB, secret=b"s" * 32):
    lengths = [rng.randrange(1, size) for _ in range(count)]
    return MemorySource([rng.randbytes(length) for length in lengths], secret=secret)


def arrived(source, sink):
    return {name: source.read(name) for name in sink.wanted} == sink.blocks


rates = st.sampled_from([0.0, 0.01, 0.1, 0.3])


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
    rates=st.fixed_dictionaries({"drop": rates, "twice": rates, "change": rates}),
    late=st.sampled_from([0.0, 0.02, 0.5]),
    shape=st.tuples(st.sampled_from([700, 4 * KIB, 64 * KIB]), st.sampled_from([b"", b"s" * 32])),
)
def test_every_block_arrives(seed, count, rates, late, shape):
    rng, (part, secret) = random.Random(seed), shape
    source = shipment(rng, count, secret=secret)
    sink = MemorySink(source)
    faults = Faults(rng, **rates, late=late)
    World(source, sink, faults, part=part, window=8 * part).run()
    assert arrived(source, sink)


@given(
    seed=st.integers(0, 2**32), queue=st.integers(1, 6), largest=st.sampled_from([20_000, 10**6])
)
@settings(max_examples=30)
def test_a_broker_that_drops_at_its_limits(seed, queue, largest):
    rng = random.Random(seed)
    source = MemorySource([rng.randbytes(40 * KIB) for _ in range(40)])
    sink = MemorySink(source)
    faults = Faults(rng, queue=queue, largest=largest)
    World(source, sink, faults, part=32 * KIB, window=16 * 32 * KIB).run()
    assert arrived(source, sink)


@given(
    seed=st.integers(0, 2**32),
    sender=st.lists(st.floats(0.01, 3.0), max_size=3),
    receiver=st.lists(st.floats(0.01, 3.0), max_size=3),
    drop=st.sampled_from([0.0, 0.05]),
)
def test_either_end_killed_at_any_moment(seed, sender, receiver, drop):
    rng = random.Random(seed)
    source = shipment(rng, 60)
    sink = MemorySink(source)
    faults = Faults(rng, drop=drop)
    world = World(
        source, sink, faults, part=4 * KIB, window=8 * KIB,
        kill_sender=sender, kill_receiver=receiver,
    )  # fmt: skip
    world.run()
    assert arrived(source, sink)


@given(seed=st.integers(0, 2**32), count=st.integers(1, 80))
def test_without_losses_nothing_is_pushed_twice(seed, count):
    rng = random.Random(seed)
    source = shipment(rng, count)
    sink = MemorySink(source)
    world = World(source, sink, Faults(rng), part=KIB, window=8 * KIB).run()
    assert world.pushed == sum(map(source.size, dict.fromkeys(source.names)))


@given(seed=st.integers(0, 2**32), kept=st.floats(0, 1))
def test_what_is_there_is_not_pushed_again(seed, kept):
    rng = random.Random(seed)
    source = shipment(rng, 60)
    without = {name for name in source.names if rng.random() < kept}
    sink = MemorySink(source, without=without)
    world = World(source, sink, Faults(rng), part=KIB, window=8 * KIB)
    world.run()
    assert world.pushed == sum(sink.wanted.values())
    assert arrived(source, sink)


@given(seed=st.integers(0, 2**32), drop=st.sampled_from([0.01, 0.05]))
@settings(max_examples=20)
def test_only_what_was_lost_is_pushed_again(seed, drop):
    rng = random.Random(seed)
    source = MemorySource([rng.randbytes(KIB) for _ in range(1000)])
    sink = MemorySink(source)
    world = World(source, sink, Faults(rng, drop=drop), part=KIB, window=16 * KIB).run()
    total = sum(sink.wanted.values())
    # What was dropped, and a window now and then when the last report was lost.
    assert world.pushed - total <= 3 * drop * total + 32 * KIB


@given(data=st.binary(max_size=200), seed=st.integers(0, 2**32))
def test_garbage_is_ignored(data, seed):
    rng = random.Random(seed)
    source = shipment(rng, 3)
    sink = MemorySink(source)
    world = World(source, sink, Faults(rng))
    world._start("receiver")
    world._start("sender")
    for kind in range(8):
        assert world.sender.receive(bytes([kind]) + data, at=0.0) is None
        assert world.receiver.receive(bytes([kind]) + data, at=0.0) is None
    world.run()
    assert arrived(source, sink)
