"""One charter as a worker serves it."""

from datetime import timedelta

import pytest
from charters import AT, BEGINS, DAY, a_charter
from workshop import Cast

from counterseal.charter.chain import Chain
from counterseal.charter.document import Rate
from counterseal.errors import CharterDenied, RolledBack
from counterseal.gateway.ladder import Standing
from counterseal.gateway.quota import Quotas
from counterseal.gateway.served import Served, read_standing, write_standing
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault


class Table:
    def __init__(self):
        cast = Cast(at=BEGINS - DAY)
        self.parties = {one.history.identity: one.history for one in (cast.lab, cast.clinic)}
        self.cast = cast
        charter = a_charter(
            owner={"identity": cast.lab.history.identity},
            partner={"identity": cast.clinic.history.identity},
        )
        offered = Chain.begin(charter, **self.by("lab"))
        self.signed = offered.countersigned(**self.by("clinic"))
        self.suspended = self.signed.moved("suspend", reason="a question", **self.by("lab"))
        other = self.signed.moved("suspend", reason="another", **self.by("clinic"))
        self.other = other

    def by(self, who):
        return {"by": getattr(self.cast, who), "parties": self.parties, "at": BEGINS + DAY}


@pytest.fixture(scope="module")
def table():
    return Table()


@pytest.fixture
def vault():
    return Vault(MemoryState(), protect=lambda s, label: s, unprotect=lambda h, label: h)


def served(chain, vault):
    quotas = Quotas(vault, chain.charter, workers=1)
    return Served.of(chain, vault=vault, quotas=quotas, ledger=None)


def test_a_charter_in_force_allows(table, vault):
    served(table.signed, vault).check_active(AT)


@pytest.mark.parametrize("at", [BEGINS - timedelta(seconds=1), AT + 366 * DAY])
def test_before_and_after_its_term_it_does_not(table, vault, at):
    with pytest.raises(CharterDenied):
        served(table.signed, vault).check_active(at)


def test_a_suspended_charter_says_why(table, vault):
    with pytest.raises(CharterDenied, match=r"suspended \(a question\)"):
        served(table.suspended, vault).check_active(AT)


def test_an_older_chain_is_a_rollback(table, vault):
    served(table.suspended, vault)
    with pytest.raises(RolledBack, match="3 steps, but 4"):
        served(table.signed, vault)
    served(table.suspended, vault)


def test_another_chain_of_the_same_length_is_one_too(table, vault):
    served(table.suspended, vault)
    with pytest.raises(RolledBack):
        served(table.other, vault)


def test_the_ladder_slows_and_a_clear_one_does_not(table, vault):
    one = served(table.signed, vault)
    assert one.rate == table.signed.charter.limits.rate == Rate(count=60, seconds=60, burst=10)
    write_standing(vault, one.charter.id, Standing(("flag", "throttle"), 70))
    one.reread(vault)
    assert one.rung == "throttle"
    assert one.rate == Rate(count=60, seconds=240, burst=2)
    assert served(table.signed, vault).rate == one.rate
    write_standing(vault, one.charter.id, Standing())
    one.reread(vault)
    assert one.rate.seconds == 60
    assert read_standing(vault, one.charter.id) == Standing()


def test_where_no_rate_was_agreed_throttling_is_one_a_second(table, vault):
    free = a_charter(
        owner={"identity": table.cast.lab.history.identity},
        partner={"identity": table.cast.clinic.history.identity},
        limits={"rate": None},
    )
    chain = Chain.begin(free, **table.by("lab")).countersigned(**table.by("clinic"))
    write_standing(vault, free.id, Standing(("throttle",), 70))
    assert served(chain, vault).rate == Rate(count=1, seconds=1, burst=1)


def test_the_end_of_a_period_is_looked_up_anew_when_it_is_over(table, vault):
    one = served(table.signed, vault)
    assert one.ends_of("hour", AT) == AT + timedelta(hours=1)
    assert one.ends_of("hour", AT + timedelta(minutes=59)) == AT + timedelta(hours=1)
    assert one.ends_of("hour", AT + timedelta(minutes=60)) == AT + timedelta(hours=2)
    assert one.ends_of("term", AT) is None
