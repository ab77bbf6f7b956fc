"""Blocks in any order, in any number of attempts, between crashes: the package, or nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from post import blocks_of
from workshop import Bench, Cast, listed

from counterseal.crypto.chunked import sealed_bytes
from counterseal.errors import CountersealError, FormatError
from counterseal.exchange import shipment
from counterseal.exchange.incoming import Incoming
from counterseal.exchange.layout import MAX_BODY
from counterseal.exchange.shipment import (
    MAX_BLOCKS,
    MAX_SIZE,
    Notice,
    Plan,
    block_bytes_for,
    file_name,
)

MIB = 1 << 20
LAB = "1" * 64


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """(package, notice, blocks) of a package of eight blocks."""
    bench = Bench(Cast(), tmp_path_factory.mktemp("shipped"))
    package = bench.seal({"w.bin": os.urandom(6 * MIB + 17)})
    return package.read_bytes(), *blocks_of(package)


# An attempt: which blocks come, in which order; and how it ends.
attempts = st.lists(
    st.tuples(
        st.lists(st.integers(0, 7), max_size=8),
        st.sampled_from(["ends", "killed", "a block is damaged on disk"]),
        st.integers(0, 6 * MIB),
    ),
    max_size=5,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attempts)
@example([([0, 1, 2, 3, 4, 5, 6, 7], "killed", 0)])
@example([([7], "a block is damaged on disk", 6 * MIB)])
def test_any_way_it_may_come(shipped, plan) -> None:
    package, notice, blocks = shipped
    names = list(blocks)
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "m.sealed"
        for brought, ending, at in plan:
            incoming = Incoming(notice, output, sender=LAB)
            missing = set(incoming.missing())
            for number in brought:
                incoming.put(names[number], blocks[names[number]])
                missing.discard(names[number])
            assert set(incoming.missing()) == missing
            if ending == "killed":
                os.close(incoming._descriptor)
            else:
                incoming.close()
            if ending.startswith("a block") and incoming.path.exists():
                with incoming.path.open("r+b") as file:
                    file.seek(at)
                    file.write(os.urandom(16))
            assert not output.exists()
        with Incoming(notice, output, sender=LAB) as incoming:
            for one in incoming.missing():
                incoming.put(one, blocks[one])
            incoming.finish(lambda _: None)
        assert output.read_bytes() == package
        assert listed(name) == ["m.sealed"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 7), st.binary(max_size=64), st.integers(0, MIB))
def test_no_other_bytes_are_taken_for_a_block(shipped, number, noise, at) -> None:
    _, notice, blocks = shipped
    name = list(blocks)[number]
    data = blocks[name]
    other = data[:at] + noise + data[at:] if noise else data[:at]
    if other == data:
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        Incoming(notice, Path(folder) / "m", sender=LAB) as incoming,
        pytest.raises(CountersealError),
    ):
        incoming.put(name, other)


sizes = st.one_of(st.integers(2, MAX_SIZE), st.integers(1, 42).map(lambda n: (1 << n) + 1))


@settings(max_examples=200)
@given(sizes, st.integers(1, MAX_BODY), st.integers(-1, 1))
@example(MAX_SIZE, MAX_BODY, 0)
@example(16 << 30, 4096, 1)
def test_a_plan_covers_everything_once(size: int, body: int, step: int) -> None:
    size = min(MAX_SIZE, max(2, size + step))
    body = min(body, size - 1)
    block = block_bytes_for(size)
    plan = Plan.of(body=body, size=size, block_bytes=block)
    assert len(plan.front) + len(plan.blocks) <= MAX_BLOCKS
    for places, start, end in ((plan.front, 0, sealed_bytes(body)), (plan.blocks, body, size)):
        at = start
        for offset, length in places:
            assert offset == at
            assert 0 < length <= block
            at += length
        assert at == end


@given(st.integers(-(1 << 60), 1 << 60), st.integers(-10, 1 << 60), st.integers(1, 1 << 60))
def test_no_plan_is_longer_than_it_may_be(body: int, size: int, block: int) -> None:
    try:
        plan = Plan.of(body=max(body, 0), size=size, block_bytes=block)
    except FormatError:
        return
    assert len(plan.front) + len(plan.blocks) <= MAX_BLOCKS


@given(st.text(max_size=200))
def test_every_name_has_one_to_propose(name: str) -> None:
    import msgspec

    proposed = file_name(Path("/folder") / name.replace("/", "_").replace("\0", "_"))
    assert msgspec.convert(proposed, shipment.FileName) == proposed


@given(st.binary(max_size=400))
def test_noise_is_no_notice(noise: bytes) -> None:
    with pytest.raises(FormatError):
        Notice.parse(noise)
