"""What a gateway reads of its home, and what travels between its nodes."""

import pytest
from gateway import Town

from counterseal.charter.chain import Chain
from counterseal.errors import CountersealError
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault
from counterseal.jobs.agreements import HomeAgreements
from counterseal.jobs.gateway import narrower

pytest.importorskip("skl2onnx")


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path) as made:
        made.agree()
        yield made


@pytest.fixture
def vault():
    return Vault(MemoryState(), protect=lambda s, label: s, unprotect=lambda h, label: h)


def agreements(town, vault, *more):
    wanted = [chain.charter.id for chain in town.chains]
    return HomeAgreements(
        town.lab.history, town.store("lab"), vault, [*wanted, *more], narrower=narrower
    )


def settled(town, vault):
    """Read once, and once more: the first time it leaves the charters in the state."""
    home = agreements(town, vault)
    home.read()
    home.read()
    return home


def place(town):
    return f"{town.lab.history.identity}/{town.chain.charter.id}"


def test_chains_and_pinned_partners_are_read(town, vault):
    chains, partners = agreements(town, vault).read()
    assert chains[town.chain.charter.id].standing == town.chain.standing
    assert {town.clinic.history.identity, town.rival.history.identity} <= set(partners)


def test_what_is_the_same_is_not_verified_again(town, vault):
    home = settled(town, vault)
    first = home.read()[0][town.chain.charter.id]
    assert not home.changed()
    assert home.read()[0][town.chain.charter.id] is first


def test_a_step_and_a_new_card_are_changes(town, vault):
    home = settled(town, vault)
    town.suspend()
    assert home.changed()
    assert home.read()[0][town.chain.charter.id].standing.last.action == "suspend"
    home.read()
    assert not home.changed()
    town.rival.rotate()
    town.partners("lab").refresh("rival", town.rival.card())
    assert home.changed()


def test_a_charter_that_is_not_there_is_left_out(town, vault):
    chains, _ = agreements(town, vault, "ab" * 16).read()
    assert set(chains) == {town.chain.charter.id}


def test_another_node_finds_a_newer_chain_in_the_state(town, vault):
    """One node has taken the suspension; the other one's home is as it was."""
    here = agreements(town, vault)
    before = town.store("lab").get("charter", place(town))
    here.read()
    town.suspend()
    here.read()
    town.store("lab").put("charter", place(town), before)
    chains, _ = agreements(town, vault).read()
    assert chains[town.chain.charter.id].standing.last.action == "suspend"
    assert town.store("lab").get("charter", place(town)) != before


def test_an_older_chain_in_the_state_does_not_win(town, vault):
    here = agreements(town, vault)
    here.read()
    older = vault.get(town.chain.charter.id, "chain-file")
    town.suspend()
    here.read()
    vault.change(town.chain.charter.id, "chain-file", lambda _: (older, None))
    chains, _ = here.read()
    assert chains[town.chain.charter.id].standing.last.action == "suspend"
    assert vault.get(town.chain.charter.id, "chain-file") != older


def test_a_chain_in_the_state_is_verified_like_any_other(town, vault):
    home = settled(town, vault)
    vault.change(town.chain.charter.id, "chain-file", lambda _: (b"{}", None))
    found = home.read()[0][town.chain.charter.id]
    assert isinstance(found, CountersealError)


def test_a_charter_that_cannot_be_read_does_not_hide_the_others(town, vault):
    other = town.agree_with_rival()
    home = agreements(town, vault)
    town.store("lab").put("charter", place(town), b"nonsense")
    chains, _ = home.read()
    assert isinstance(chains[town.chain.charter.id], CountersealError)
    assert isinstance(chains[other.charter.id], Chain)


def test_what_was_shredded_is_left_out(town, vault):
    home = settled(town, vault)
    vault.shred(town.chain.charter.id)
    assert home.changed()
    assert home.read()[0] == {}
    assert vault.state.charters() == []
