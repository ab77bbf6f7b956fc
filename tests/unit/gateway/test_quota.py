"""Quotas of one charter over workers, periods and versions; the last tests use real processes."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from charters import AT, ENDS, a_charter, amended

from counterseal.charter.document import Quota
from counterseal.errors import CharterDenied, FormatError
from counterseal.gateway.quota import Quotas, period_of
from counterseal.gateway.sqlite_state import SqliteState
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
REQUESTS_HOUR, ROWS_DAY = ("requests", "hour"), ("rows", "day")


def vault_of(state):
    return Vault(state, protect=lambda secret, label: secret, unprotect=lambda held, label: held)


class Counted(MemoryState):
    """Counts what it is asked."""

    def __init__(self):
        super().__init__()
        self.reads = self.writes = 0

    def get(self, charter, name):
        self.reads += name.startswith("cell/")
        return super().get(charter, name)

    def change(self, charter, name, change):
        self.writes += name.startswith("cell/")
        return super().change(charter, name, change)


@pytest.fixture
def state():
    return Counted()


@pytest.fixture
def vault(state):
    return vault_of(state)


def charter_with(*quotas):
    return a_charter(
        limits={"quotas": tuple(Quota(unit=u, count=c, period=p) for u, c, p in quotas)}
    )


TEN = charter_with(("requests", 10, "hour"))


def quotas_of(vault, charter=TEN, workers=2, **more):
    return Quotas(vault, charter, workers=workers, **more)


def grants(quotas, count, at=AT, **amounts):
    """How many of so many requests are granted."""
    made = [quotas.reserve(amounts or {"requests": 1}, at) for _ in range(count)]
    return sum(one.granted for one in made)


def test_what_fits_is_granted_and_what_does_not_is_above_the_count(vault):
    quotas = quotas_of(vault)
    used = [quotas.reserve({"requests": 3}, AT) for _ in range(4)]
    assert [one.granted for one in used] == [True, True, True, False]
    assert all(one.used[REQUESTS_HOUR] <= 10 for one in used[:3])
    assert used[3].used[REQUESTS_HOUR] > 10
    assert used[3].remaining[REQUESTS_HOUR] == 0
    assert quotas.reserve({"requests": 1}, AT).granted  # the refused one took nothing


def test_every_quota_is_counted_also_one_that_this_request_does_not_use(vault):
    quotas = quotas_of(vault, charter_with(("requests", 10, "hour"), ("rows", 50, "day")))
    made = quotas.reserve({"requests": 1}, AT)
    assert set(made.used) == {REQUESTS_HOUR, ROWS_DAY}
    assert made.used[ROWS_DAY] == 0
    assert made.remaining[ROWS_DAY] == 50


def test_all_that_is_needed_or_nothing(vault):
    quotas = quotas_of(vault, charter_with(("requests", 10, "hour"), ("rows", 5, "day")))
    refused = quotas.reserve({"requests": 2, "rows": 6}, AT)
    assert not refused.granted
    assert refused.used[ROWS_DAY] > 5
    assert refused.used[REQUESTS_HOUR] <= 10
    assert [(one.unit, one.used) for one in quotas.usage(AT)] == [("requests", 0), ("rows", 0)]
    assert grants(quotas, 20) == 10


def test_a_lease_is_at_most_a_part_of_half_of_what_is_left(state, vault):
    one, two = quotas_of(vault, workers=2, lease=100), quotas_of(vault, workers=2, lease=100)
    assert one.reserve({"requests": 1}, AT).granted
    assert one._held[REQUESTS_HOUR].left == 1  # 10 // 4, one spent
    assert two.reserve({"requests": 1}, AT).granted
    assert two._held[REQUESTS_HOUR].left == 1  # 8 // 4
    del one  # killed: what it held is lost
    assert grants(two, 20) == 7
    assert state.get(TEN.id, "cell/quotas") is not None


def test_a_lease_never_grants_more_than_is_left(vault):
    quotas = quotas_of(vault, workers=1, lease=100)
    assert quotas.reserve({"requests": 1}, AT).granted  # five were leased
    assert quotas.reserve({"requests": 7}, AT).granted  # four of them, and three of the last five
    assert quotas.usage(AT)[0].used == 8
    assert grants(quotas, 20) == 2


def test_a_lease_spares_the_store(state, vault):
    quotas = quotas_of(vault, charter_with(("requests", 10**6, "hour")), workers=4)
    before = state.writes
    assert grants(quotas, 320) == 320
    assert state.writes - before == 10


def test_a_lease_is_for_as_many_requests_of_that_size(state, vault):
    quotas = quotas_of(vault, charter_with(("rows", 10**9, "hour")), workers=4)
    assert grants(quotas, 320, rows=200) == 320
    assert state.writes == 10


def test_who_was_refused_does_not_ask_the_store_each_time(state, vault):
    quotas = quotas_of(vault)
    assert grants(quotas, 10) == 10
    assert not quotas.reserve({"requests": 1}, AT).granted
    before = state.reads, state.writes
    assert grants(quotas, 1000, at=AT + timedelta(milliseconds=900)) == 0
    assert state.writes == before[1]
    assert state.reads - before[0] <= 1


def test_what_another_worker_gave_back_is_seen_a_second_later_or_at_once_after_forget(vault):
    one, two = quotas_of(vault), quotas_of(vault)
    held = [one.reserve({"requests": 5}, AT), one.reserve({"requests": 5}, AT)]
    assert not two.reserve({"requests": 1}, AT).granted
    one.cancel(held[0])
    one.give_back()
    assert not two.reserve({"requests": 1}, AT).granted
    two.forget()
    assert two.reserve({"requests": 5}, AT).granted
    assert not two.reserve({"requests": 1}, AT).granted
    one.cancel(held[1])
    one.give_back()
    assert two.reserve({"requests": 5}, AT + timedelta(seconds=1)).granted


def test_a_refused_reservation_is_never_within_the_count_whatever_comes_back(vault):
    one, two = quotas_of(vault), quotas_of(vault)
    big = one.reserve({"requests": 8}, AT)
    two.reserve({"requests": 2}, AT)
    assert not one.reserve({"requests": 5}, AT).granted
    one.cancel(big)
    after = one.reserve({"requests": 5}, AT)
    assert after.granted == (after.used[REQUESTS_HOUR] <= 10)


def test_less_than_reserved_is_given_back_and_more_is_taken_as_far_as_there_is_more(vault):
    key = ("tokens", "day")
    quotas = quotas_of(vault, charter_with(("tokens", 100, "day")), lease=1)
    first = quotas.reserve({"tokens": 60}, AT)
    assert quotas.settle(first, {"tokens": 10}) == {}
    assert quotas.usage(AT)[0].used == 10
    second = quotas.reserve({"tokens": 50}, AT)
    assert second.granted
    assert quotas.settle(second, {"tokens": 70}) == {}
    assert quotas.usage(AT)[0].used == 80
    third = quotas.reserve({"tokens": 15}, AT)
    assert quotas.settle(third, {"tokens": 50}) == {key: 30}
    assert quotas.usage(AT)[0].used == 100
    assert not quotas.reserve({"tokens": 1}, AT).granted


def test_a_worker_does_not_sit_on_what_a_long_answer_did_not_use(vault):
    charter = charter_with(("tokens", 10_000, "day"))
    workers = [quotas_of(vault, charter, workers=3) for _ in range(3)]
    for one in workers * 10:
        made = one.reserve({"tokens": 4000}, AT)
        assert made.granted
        one.settle(made, {"tokens": 10})


def test_settled_twice_counts_once(vault):
    quotas = quotas_of(vault)
    made = quotas.reserve({"requests": 5}, AT)
    for _ in range(3):
        quotas.cancel(made)
        quotas.settle(made, {"requests": 0})
    assert grants(quotas, 20) == 10


def test_a_refused_one_gives_nothing_back(vault):
    quotas = quotas_of(vault)
    assert grants(quotas, 10) == 10
    quotas.cancel(quotas.reserve({"requests": 5}, AT))
    assert grants(quotas, 5) == 0


def test_closing_gives_back_what_was_not_spent(vault):
    one = quotas_of(vault)
    held = one.reserve({"requests": 1}, AT)
    one.close()
    with pytest.raises(RuntimeError):
        one.reserve({"requests": 1}, AT)
    assert grants(quotas_of(vault), 20) == 9
    one.cancel(held)  # an answer that ended later
    assert grants(quotas_of(vault), 20) == 1


def test_a_new_period_begins_anew_on_the_hour(vault):
    quotas = quotas_of(vault)
    last = AT + HOUR - timedelta(microseconds=1)
    assert grants(quotas, 12, at=last) == 10
    assert grants(quotas, 12, at=AT + HOUR) == 10


def test_what_was_reserved_in_one_period_is_not_given_back_in_the_next(vault):
    quotas = quotas_of(vault)
    old = quotas.reserve({"requests": 10}, AT)
    assert grants(quotas, 10, at=AT + HOUR) == 10
    quotas.cancel(old)
    assert grants(quotas, 5, at=AT + HOUR) == 0


def test_what_is_given_back_while_the_store_tells_of_a_later_period_is_not_of_that_one(vault):
    charter = charter_with(("requests", 10, "hour"), ("tokens", 100, "day"))
    one, two = quotas_of(vault, charter, lease=1), quotas_of(vault, charter, lease=1)
    old = one.reserve({"requests": 5, "tokens": 10}, AT)
    assert grants(two, 20, at=AT + HOUR) == 10
    assert one.settle(old, {"requests": 1, "tokens": 20}) == {}
    assert grants(one, 20, at=AT + HOUR) == 0


def test_what_is_left_of_one_period_does_not_count_in_the_next(vault):
    one = quotas_of(vault, workers=1, lease=100)
    two = quotas_of(vault, workers=1, lease=100)
    assert one.reserve({"requests": 1}, AT).granted  # five were leased
    assert two.reserve({"requests": 1}, AT + HOUR).granted  # five of the next hour
    assert one.reserve({"requests": 5}, AT).granted  # the other five
    assert grants(two, 20, at=AT + HOUR) == 4
    assert grants(one, 20, at=AT + HOUR) == 0


def test_what_is_left_of_one_period_is_not_given_back_in_the_next(vault):
    one = quotas_of(vault, workers=1, lease=100)
    two = quotas_of(vault, workers=1, lease=100)
    assert one.reserve({"requests": 1}, AT).granted
    assert grants(two, 20, at=AT + HOUR) == 10
    one.give_back()
    two.forget()
    assert grants(two, 20, at=AT + HOUR) == 0


def test_a_clock_moved_back_goes_on_in_the_later_period(vault):
    one, two = quotas_of(vault), quotas_of(vault)
    assert grants(one, 4, at=AT + HOUR) == 4
    one.close()
    assert grants(two, 20, at=AT) == 6
    assert grants(quotas_of(vault), 20, at=AT - 100 * HOUR) == 0
    assert grants(quotas_of(vault), 20, at=AT + 2 * HOUR) == 10


def test_a_new_version_keeps_the_counters_under_its_own_counts(vault):
    first = quotas_of(vault)
    assert grants(first, 4) == 4
    first.close()
    fewer = amended(TEN, limits={"quotas": (Quota(unit="requests", count=6, period="hour"),)})
    assert grants(quotas_of(vault, fewer), 20) == 2
    more = amended(fewer, limits={"quotas": (Quota(unit="requests", count=9, period="hour"),)})
    assert grants(quotas_of(vault, more), 20) == 3
    least = amended(more, limits={"quotas": (Quota(unit="requests", count=1, period="hour"),)})
    refused = quotas_of(vault, least).reserve({"requests": 1}, AT)
    assert not refused.granted
    assert refused.used[REQUESTS_HOUR] > 1


def test_a_quota_that_a_version_left_out_is_still_counted_when_it_comes_back(vault):
    first = quotas_of(vault)
    assert grants(first, 4) == 4
    first.close()
    other = quotas_of(vault, charter_with(("rows", 10, "day")))
    assert grants(other, 3, rows=1) == 3
    other.close()
    assert grants(quotas_of(vault), 20) == 6


def test_without_quotas_everything_is_granted(vault):
    quotas = quotas_of(vault, charter_with())
    made = quotas.reserve({"requests": 10**12}, AT)
    assert (made.granted, made.used) == (True, {})


def test_usage_is_of_all_workers_and_says_when_it_begins_anew(vault):
    charter = charter_with(("requests", 10, "hour"), ("rows", 50, "term"), ("tokens", 9, "month"))
    one, two = quotas_of(vault, charter), quotas_of(vault, charter)
    one.reserve({"requests": 2, "rows": 7}, AT)
    two.reserve({"requests": 1}, AT)
    one.give_back()
    two.give_back()
    found = [(x.unit, x.period, x.used, x.count, x.resets_at) for x in one.usage(AT)]
    assert found == [
        ("requests", "hour", 3, 10, AT + HOUR),
        ("rows", "term", 7, 50, None),
        ("tokens", "month", 0, 9, datetime(2026, 7, 1, tzinfo=UTC)),
    ]
    assert [x.used for x in one.usage(AT + HOUR)] == [0, 7, 0]
    assert one.usage(ENDS - MINUTE)[0].resets_at is None


PERIODS = [
    ("hour", "2026-02-28T23:59:59+00:00", "2026-02-28T23:00", "2026-03-01T00:00"),
    ("day", "2026-12-31T00:00:00+00:00", "2026-12-31T00:00", "2027-01-01T00:00"),
    ("day", "2026-06-01T01:30:00+02:00", "2026-05-31T00:00", "2026-06-01T00:00"),
    ("month", "2028-02-29T12:00:00+00:00", "2028-02-01T00:00", "2028-03-01T00:00"),
    ("month", "2026-12-31T23:00:00-02:00", "2027-01-01T00:00", "2027-02-01T00:00"),
]


@pytest.mark.parametrize(("period", "at", "begins", "ends"), PERIODS)
def test_periods_are_of_utc(period, at, begins, ends):
    found = period_of(period, datetime.fromisoformat(at))
    assert found == tuple(datetime.fromisoformat(f"{one}+00:00") for one in (begins, ends))


def test_less_than_nothing_is_a_mistake(vault):
    with pytest.raises(ValueError):
        quotas_of(vault).reserve({"requests": -1}, AT)
    quotas = quotas_of(vault)
    with pytest.raises(ValueError):
        quotas.settle(quotas.reserve({"requests": 1}, AT), {"requests": -1})
    for wrong in ({"workers": 0}, {"lease": 0}):
        with pytest.raises(ValueError):
            quotas_of(vault, **wrong)


def test_when_the_store_fails_nothing_is_granted(vault, state, monkeypatch):
    quotas = quotas_of(vault)

    def fail(*_):
        raise OSError("no disk")

    with monkeypatch.context() as patch:
        patch.setattr(state, "change", fail)
        with pytest.raises(OSError, match="no disk"):
            quotas.reserve({"requests": 1}, AT)
    assert grants(quotas, 20) == 10


def test_counters_that_cannot_be_read_grant_nothing(vault):
    for wrong in (b"x", b'{"requests/hour":[0,-5]}', b'{"requests/hour":[0]}'):
        vault.change(TEN.id, "quotas", lambda _, wrong=wrong: (wrong, None))
        with pytest.raises(FormatError):
            quotas_of(vault).reserve({"requests": 1}, AT)


def test_with_a_store_that_was_put_back_used_is_still_a_number(vault, state):
    charter = charter_with(("requests", 10, "hour"), ("rows", 50, "day"))
    quotas = quotas_of(vault, charter, workers=1, lease=100)
    early = dict(state._cells)
    assert quotas.reserve({"requests": 1}, AT).granted  # five were leased
    state._cells = early
    assert quotas.reserve({"rows": 1}, AT).used[REQUESTS_HOUR] == 0
    assert quotas.reserve({"requests": 6}, AT).used[REQUESTS_HOUR] == 6
    assert grants(quotas, 20) == 4


def test_of_a_shredded_charter_nothing_is_granted(vault):
    quotas = quotas_of(vault)
    assert quotas.reserve({"requests": 1}, AT).granted
    held = quotas.reserve({"requests": 1}, AT)
    vault.shred(TEN.id)
    with pytest.raises(CharterDenied):
        grants(quotas, 10)
    quotas.cancel(held)
    quotas.close()
    assert vault.state.items(TEN.id, "") == []


# Real processes over SQLite

SPEND = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from charters import AT, a_charter
from counterseal.charter.document import Quota
from counterseal.gateway.quota import Quotas
from counterseal.gateway.sqlite_state import SqliteState
from counterseal.gateway.vault import Vault

state = SqliteState(Path(sys.argv[1]))
vault = Vault(state, protect=lambda secret, label: secret, unprotect=lambda held, label: held)
charter = a_charter(limits={"quotas": (Quota(unit="requests", count=1000, period="day"),)})
quotas = Quotas(vault, charter, workers=4)
while True:
    made = quotas.reserve({"requests": 1}, AT)
    if not made.granted:
        break
    print("granted", flush=True)
quotas.close()
"""


@pytest.fixture
def spend(tmp_path):
    """Starts a process that asks until it is refused, a line for each request granted."""
    import charters

    support = charters.__file__.rpartition("/")[0]
    started = []

    def start():
        command = [sys.executable, "-c", SPEND, str(tmp_path / "state.db"), support]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()
        one.stdout.close()


def test_four_processes_together_get_exactly_the_count(spend):
    running = [spend() for _ in range(4)]
    granted = [one.communicate()[0].count("granted") for one in running]
    assert sum(granted) == 1000


def test_with_one_killed_in_the_middle_no_more_than_the_count_and_little_less(spend, tmp_path):
    running = [spend() for _ in range(4)]
    victim = running[1]
    seen = sum(bool(victim.stdout.readline()) for _ in range(40))
    victim.kill()
    seen += victim.stdout.read().count("granted")
    granted = seen + sum(
        one.communicate()[0].count("granted") for one in running if one is not victim
    )
    assert 1000 - 2 * 32 <= granted <= 1000
    state = SqliteState(tmp_path / "state.db")
    again = Quotas(
        vault_of(state), charter_with(("requests", 1000, "day")), workers=4
    )  # a restart gives nothing new
    assert grants(again, 5) == 0
    state.close()
