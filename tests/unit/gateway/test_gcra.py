import pytest

from counterseal.gateway.gcra import admit, recalled

SECOND = 1_000_000_000
RATE = {"count": 10, "seconds": 1, "burst": 3}


def run(times, rate=RATE, tat=0):
    """For each time whether it is admitted."""
    found = []
    for now in times:
        new, wait = admit(tat, now=now, **rate)
        assert (new is None) == (wait > 0)
        found.append(new is not None)
        tat = tat if new is None else new
    return found


def test_a_burst_passes_at_once_and_then_one_per_interval():
    start = 5 * SECOND
    step = SECOND // 10
    assert run([start] * 5) == [True, True, True, False, False]
    assert run([start] * 3 + [start + step - 1, start + step, start + step]) == [
        True, True, True, False, True, False,
    ]  # fmt: skip


def test_who_waits_as_told_is_admitted_and_no_nanosecond_earlier():
    tat = 0
    now = 7 * SECOND
    for _ in range(3):
        tat, _ = admit(tat, now=now, **RATE)
    refused, wait = admit(tat, now=now, **RATE)
    assert refused is None
    assert admit(tat, now=now + wait - 1, **RATE) == (None, 1)
    assert admit(tat, now=now + wait, **RATE)[0] is not None


def test_a_refused_request_costs_nothing():
    start = SECOND
    times = [start] * 100 + [start + SECOND // 10]
    assert run(times).count(True) == 4


def test_an_interval_that_is_no_whole_nanosecond_is_rounded_up():
    new, _ = admit(0, now=0, count=3, seconds=1, burst=1)
    assert new == SECOND // 3 + 1


def test_a_clock_that_goes_back_gives_nothing_extra():
    there, back = 100 * SECOND, 90 * SECOND
    assert run([there] * 3 + [back] * 3 + [there] * 3) == [True] * 3 + [False] * 6


def test_what_was_kept_over_a_boot_delays_by_one_interval_at_most():
    old = 10**6 * SECOND  # of a machine that was up for days
    now = 2 * SECOND
    tat = recalled(old, now=now, **RATE)
    assert admit(tat, now=now, **RATE) == (None, SECOND // 10)
    assert recalled(now - 5, now=now, **RATE) == now - 5  # what can be true stays


@pytest.mark.parametrize("burst", [1, 10**12])
def test_the_largest_numbers_of_a_charter_stay_within_63_bits(burst):
    rate = {"count": 1, "seconds": 366 * 86_400, "burst": burst}
    tat, now = 0, 1 << 60
    for _ in range(200):
        new, _ = admit(tat, now=now, **rate)
        tat = tat if new is None else new
    assert tat < 1 << 63
    assert recalled((1 << 63) - 1, now=now, **rate) < 1 << 63
