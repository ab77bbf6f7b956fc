"""Rates and quotas against what they mean, in whatever order things happen."""

from collections import Counter
from datetime import timedelta
from fractions import Fraction

from charters import AT, a_charter
from hypothesis import given
from hypothesis import strategies as st

from counterseal.charter.document import Quota
from counterseal.gateway.gcra import NANOSECONDS, admit
from counterseal.gateway.quota import Quotas
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault

HOUR = timedelta(hours=1)
RATES = st.fixed_dictionaries(
    {"count": st.integers(1, 50), "seconds": st.integers(1, 20), "burst": st.integers(1, 12)}
)
STEPS = st.lists(st.integers(0, 3 * NANOSECONDS), max_size=60)


class Bucket:
    """A bucket of `burst` tokens that fills evenly: what a rate means, in exact fractions."""

    def __init__(self, *, count, seconds, burst):
        self.interval = -(-seconds * NANOSECONDS // count)
        self.burst, self.tokens, self.at = burst, Fraction(burst), 0

    def admit(self, now):
        filled = self.tokens + Fraction(now - self.at, self.interval)
        self.tokens, self.at = min(filled, Fraction(self.burst)), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@given(RATES, STEPS)
def test_a_rate_admits_exactly_what_an_even_bucket_does(rate, steps):
    bucket, tat, now = Bucket(**rate), 0, 0
    for step in steps:
        now += step
        new, wait = admit(tat, now=now, **rate)
        assert (new is not None) == bucket.admit(now) == (wait == 0)
        tat = tat if new is None else new


@given(RATES, st.lists(st.integers(-3 * NANOSECONDS, 3 * NANOSECONDS), max_size=60))
def test_no_clock_however_it_moves_admits_more_than_the_furthest_it_came(rate, steps):
    tat, now, furthest, admitted = 0, 0, 0, 0
    for step in steps:
        now = max(0, now + step)
        furthest = max(furthest, now)
        new, _ = admit(tat, now=now, **rate)
        if new is not None:
            tat, admitted = new, admitted + 1
    assert admitted <= rate["burst"] + Fraction(
        furthest * rate["count"], rate["seconds"] * NANOSECONDS
    )


# Quotas

CHARTER = a_charter(
    limits={
        "quotas": (
            Quota(unit="requests", count=40, period="hour"),
            Quota(unit="requests", count=90, period="term"),
            Quota(unit="tokens", count=500, period="day"),
        )
    }
)
COUNTS = {(one.unit, one.period): one.count for one in CHARTER.limits.quotas}
WORKERS = 3
AMOUNT = st.fixed_dictionaries(
    {}, optional={"requests": st.integers(0, 12), "tokens": st.integers(0, 150)}
)
WORKER = st.integers(0, WORKERS - 1)
CALM = [
    st.tuples(st.just("reserve"), WORKER, AMOUNT),
    st.tuples(st.just("reserve"), WORKER, AMOUNT),
    st.tuples(st.just("settle"), st.integers(0, 9), AMOUNT),
    st.tuples(st.just("cancel"), st.integers(0, 9), st.none()),
    st.tuples(st.just("close"), WORKER, st.none()),
    st.tuples(st.just("give back"), WORKER, st.none()),
    st.tuples(st.just("forget"), WORKER, st.none()),
]
WILD = [
    *CALM,
    st.tuples(st.just("kill"), WORKER, st.none()),
    st.tuples(st.just("clock"), WORKER, st.integers(-90, 90)),
]


class Town:
    """Workers over one store, and what they granted, by quota and period."""

    def __init__(self, lease):
        self.vault = Vault(
            MemoryState(), protect=lambda secret, label: secret, unprotect=lambda held, label: held
        )
        self.lease = lease
        self.workers = [self.new() for _ in range(WORKERS)]
        self.clocks = [AT] * WORKERS
        self.pending = []
        self.spent = Counter()
        self.beyond = Counter()

    def new(self):
        return Quotas(self.vault, CHARTER, workers=WORKERS, lease=self.lease)

    def do(self, what, number, value):
        if what == "reserve":
            self.reserve(number, value)
        elif what in {"settle", "cancel"}:
            if self.pending:
                self.end(self.pending.pop(number % len(self.pending)), value)
        elif what == "close":
            self.workers[number].close()
            self.workers[number] = self.new()
        elif what == "give back":
            self.workers[number].give_back()
        elif what == "forget":
            self.workers[number].forget()
        elif what == "kill":
            gone = self.workers[number]
            self.workers[number] = self.new()
            self.pending = [one for one in self.pending if one[0] is not gone]
        else:
            self.clocks[number] += timedelta(minutes=value)
        for key, amount in self.spent.items():
            assert amount <= COUNTS[key[:2]], key

    def reserve(self, number, amounts):
        quotas = self.workers[number]
        made = quotas.reserve(amounts, self.clocks[number])
        fits = all(made.used[key] <= count for key, count in COUNTS.items())
        assert made.granted == fits
        if made.granted:
            self.pending.append((quotas, made))
            self.spend(made, made.amounts, 1)

    def end(self, one, actual):
        quotas, made = one
        self.spend(made, made.amounts, -1)
        if actual is None:
            quotas.cancel(made)
            quotas.cancel(made)  # again: nothing happens
            return
        beyond = quotas.settle(made, actual)
        assert not quotas.settle(made, {})
        for key in COUNTS:
            # Of a period that was over already, only what was reserved was ever charged.
            over = made.starts[key] != quotas._held[key].start
            amount = min(actual.get(key[0], 0), made.amounts.get(key[0], 0)) if over else (
                actual.get(key[0], 0) - beyond.get(key, 0)
            )  # fmt: skip
            self.spent[(*key, made.starts[key])] += amount

    def spend(self, made, amounts, sign):
        for key in COUNTS:
            self.spent[(*key, made.starts[key])] += sign * amounts.get(key[0], 0)


@given(st.lists(st.one_of(WILD), max_size=80), st.integers(1, 40))
def test_whatever_is_killed_and_however_clocks_run_no_count_is_exceeded(steps, lease):
    town = Town(lease)
    for step in steps:
        town.do(*step)


@given(st.lists(st.one_of(CALM), max_size=80), st.integers(1, 40))
def test_without_a_kill_everything_that_was_not_used_can_be_had(steps, lease):
    town = Town(lease)
    for step in steps:
        town.do(*step)
    for one in town.workers:
        one.close()
    while town.pending:  # settled after the worker closed
        town.end(town.pending.pop(), {})
    start = town.new()
    start.reserve({}, AT)
    left = {
        key: count - town.spent[(*key, start._held[key].start)] for key, count in COUNTS.items()
    }
    rest = {
        "requests": min(left["requests", "hour"], left["requests", "term"]),
        "tokens": left["tokens", "day"],
    }
    one_more = {unit: amount + 1 for unit, amount in rest.items()}
    assert not start.reserve(one_more, AT).granted
    start.forget()
    assert start.reserve(rest, AT).granted
    for unit in rest:
        assert not start.reserve({unit: 1}, AT).granted


@given(st.lists(st.tuples(WORKER, st.integers(-200, 200)), min_size=1, max_size=60))
def test_a_clock_that_goes_back_gives_no_new_quota(moves):
    town = Town(lease=8)
    granted, hours = 0, set()
    for number, minutes in moves:
        town.clocks[number] += timedelta(minutes=minutes)
        made = town.workers[number].reserve({"requests": 5}, town.clocks[number])
        hours.add(made.starts["requests", "hour"])
        granted += 5 * made.granted
    assert granted <= min(90, 40 * len(hours))
