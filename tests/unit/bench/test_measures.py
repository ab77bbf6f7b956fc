import os
import sys

import pytest

from counterseal.bench.measures import (
    Contender,
    await_quiet,
    child,
    estimate,
    take_turns,
    warm_memory,
)


def test_contenders_take_turns_and_the_first_turn_is_thrown_away():
    seen = []
    contenders = [Contender(name, lambda name=name: seen.append(name)) for name in "ab"]
    samples = take_turns(contenders, runs=2)
    assert seen == ["a", "b"] * 3
    assert [len(samples[name].wall) for name in "ab"] == [2, 2]


def test_a_failure_is_a_result_and_the_others_go_on():
    cleaned = []

    def fail():
        raise OSError("disk full")

    contenders = [
        Contender("bad", fail, after=lambda: cleaned.append("bad")),
        Contender("good", lambda: None),
    ]
    samples = take_turns(contenders, runs=2)
    assert samples["bad"].failures == ["OSError: disk full"] * 2
    assert samples["bad"].wall == samples["bad"].cpu == [None, None]
    assert len([wall for wall in samples["good"].wall if wall is not None]) == 2
    assert cleaned == ["bad"] * 3


def test_an_interval_holds_its_median_and_is_the_same_every_time():
    values = [3.0, 1.0, 2.0, 8.0, 2.5]
    found = estimate(values)
    assert found.least <= found.low <= found.median == 2.5 <= found.high <= found.most
    assert estimate(values) == found


def test_nothing_measured_has_no_median():
    with pytest.raises(ValueError, match="nothing was measured"):
        estimate([])


def test_a_child_is_billed_for_its_own_time():
    busy = "x = sum(i for i in range(3_000_000))"
    assert child([sys.executable, "-c", busy], env=os.environ) > child(
        [sys.executable, "-c", "pass"], env=os.environ
    )


def test_a_child_that_fails_is_no_sample():
    with pytest.raises(RuntimeError, match="ended with 3"):
        child([sys.executable, "-c", "raise SystemExit(3)"], env=os.environ)


def test_warming_gives_the_memory_back():
    warm_memory(1 << 20)


def test_waiting_for_quiet_ends():
    assert await_quiet(at_most=0) >= 0
    assert await_quiet(at_most=0.5) < 5


def test_what_others_took_is_kept_beside_every_sample():
    samples = take_turns([Contender("a", lambda: None)], runs=3)
    assert len(samples["a"].others) == 3
