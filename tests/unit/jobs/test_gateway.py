"""What the owner does to a gateway from beside it, while it runs or not."""

from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from gateway import Town
from gateway_attack import outcome

from counterseal.errors import FormatError
from counterseal.gateway.sqlite_state import SqliteState
from counterseal.jobs import gateway as gateways
from counterseal.trust.home import Home

pytest.importorskip("skl2onnx")


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path) as made:
        yield made


@contextmanager
def beside(town):
    """As a command does it: another process with the same home."""
    home = Home(town.home("lab"))
    with gateways.administration(town.book("lab"), by=town.lab, home=home) as administration:
        yield administration
    home.close()


def test_what_is_revoked_from_beside_is_met_by_the_next_request(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    with beside(town) as administration:
        assert administration.revoke("model", "scan", reason="a test", at=datetime.now(UTC)) == []
    assert outcome(lambda: gate.call(ticket)) == "CharterDenied"
    incidents = [one.action for one in gate.entries() if one.event == "incident"]
    assert incidents == ["suspend-model"]
    with beside(town) as administration:
        assert administration.lift("model", "scan")
    assert gate.call(ticket)


def test_what_is_revoked_while_nothing_runs_is_revoked_at_the_start(town):
    town.agree()
    with beside(town) as administration:
        administration.revoke("partner", town.clinic.history.identity, reason=None,
                              at=datetime.now(UTC))  # fmt: skip
    gate = town.open()
    assert outcome(lambda: bool(gate.session())) == "CharterDenied"


def test_a_command_touches_the_charters_that_are_ours(town):
    town.agree()
    town.agree_with_rival()
    with beside(town) as administration:
        assert len([*administration.charters()]) == 2


def test_usage_is_the_same_from_beside(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    gate.served.ledger.settle()
    gate.served.ledger.publish()
    (there,) = gate.office.usage(gate.visitor(ticket), None)
    gate.close()
    home = Home(town.home("lab"))
    here = gateways.usage(town.chain, by=town.lab, home=home)
    home.close()
    for name in ("charter", "version", "calls", "entries", "sessions", "state", "quotas"):
        assert here[name] == there[name], name


def test_the_folder_of_a_node_is_its_owners(town):
    home = Home(town.home("lab"))
    folder = gateways.gateway_folder(home, "lab", "node")
    for path in (home.path, folder, folder / "metrics"):
        assert path.stat().st_mode & 0o077 == 0
    home.close()


def test_the_state_is_in_the_home_or_in_postgresql(town):
    home = Home(town.home("lab"))
    state = gateways.open_state(None, home=home, owner="lab")
    assert isinstance(state, SqliteState)
    state.close()
    for url in ("mysql://host/db", "state.db", "", "https://host"):
        with pytest.raises(FormatError):
            gateways.open_state(url, home=home, owner="lab")
    home.close()


def test_to_announce_where_nothing_ever_ran_is_no_error(town):
    home = Home(town.home("lab"))
    gateways.announce(home)
    home.close()


def test_only_a_proof_makes_an_amendment_narrower(town):
    charter = town.charter()
    from charters import amended

    assert gateways.narrower(amended(charter, limits={"rows_per_request": 1}), charter)
    assert not gateways.narrower(amended(charter, limits={"rows_per_request": 4096}), charter)
