"""A clock that goes forward only, within a process and from one to the next."""

from datetime import timedelta

import pytest

from counterseal.errors import CountersealError
from counterseal.gateway.clock import AHEAD, SteadyClock
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault

HOUR = 3600.0
START = 1_800_000_000.0


class Machine:
    wall, steady = START, 50.0

    def clock(self, vault):
        return SteadyClock(vault, wall=lambda: self.wall, steady=lambda: self.steady)

    def pass_by(self, seconds):
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def vault():
    return Vault(MemoryState(), protect=lambda s, label: s, unprotect=lambda h, label: h)


@pytest.fixture
def machine():
    return Machine()


def test_it_goes_as_the_wall_clock_does(vault, machine):
    clock = machine.clock(vault)
    assert clock.seconds() == START
    machine.pass_by(7)
    assert clock.seconds() == START + 7
    assert clock.now().timestamp() == START + 7


def test_it_does_not_go_back(vault, machine):
    clock = machine.clock(vault)
    machine.pass_by(10)
    machine.wall -= HOUR
    assert clock.seconds() == START + 10
    machine.pass_by(5)
    assert clock.seconds() == START + 15


def test_it_follows_a_wall_clock_that_is_ahead(vault, machine):
    """After sleep: the steady clock stood still."""
    clock = machine.clock(vault)
    machine.wall += HOUR
    assert clock.seconds() == START + HOUR
    machine.wall -= HOUR
    assert clock.seconds() == START + HOUR


def test_what_was_seen_is_kept_and_never_less(vault, machine):
    clock = machine.clock(vault)
    machine.pass_by(HOUR)
    clock.keep()
    older = machine.clock(vault)
    older._offset -= 30
    older.keep()
    assert int(vault.get("", "clock")) == START + HOUR


@pytest.mark.parametrize(("back", "starts"), [(0, True), (59, True), (61, False), (86_400, False)])
def test_a_process_on_an_older_clock_does_not_start(vault, machine, back, starts):
    assert timedelta(minutes=1) == AHEAD
    machine.clock(vault).keep()
    machine.wall -= back
    if starts:
        assert machine.clock(vault)
        return
    with pytest.raises(CountersealError, match="went back"):
        machine.clock(vault)
