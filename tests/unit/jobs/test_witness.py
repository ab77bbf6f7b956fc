"""What of a partner's ledger is kept here; attacks on it are in tests/attacks."""

from types import SimpleNamespace

import pytest
from gateway import Town
from gateway_watch import Watched

from counterseal.errors import TrustError
from counterseal.jobs import witness

pytest.importorskip("skl2onnx")


@pytest.fixture
def clinic(tmp_path):
    with Town(tmp_path) as town:
        yield Watched(town.open(audit={"readers": ("analyst", "auditor")}))


def test_a_ledger_without_calls_is_verified_too(clinic):
    found = clinic.verify()
    assert (found.settled, found.waiting, found.others) == (0, 0, 0)
    assert found.cosigned
    assert len(found.root) == 64


def test_it_goes_on_from_what_was_seen_last(clinic):
    clinic.call()
    first = clinic.verify()
    clinic.call()
    second = clinic.verify()
    assert (first.settled, second.settled) == (1, 1)
    assert second.entries > first.entries
    assert second.at >= first.at


def test_our_witness_has_the_same_keys_every_time(clinic):
    clinic.verify()
    before = clinic.worker.town.store("clinic").items("witness-keys")
    clinic.verify()
    assert clinic.worker.town.store("clinic").items("witness-keys") == before
    assert len(before) == 1


def test_the_owners_own_session_has_no_ledger(clinic):
    owner = SimpleNamespace(opened=SimpleNamespace(charter=None))
    town = clinic.worker.town
    with pytest.raises(TrustError, match="no ledger"):
        witness.verify(owner, by=town.lab, owner=town.lab.history)


def test_sessions_are_handed_out_under_one_charter(clinic):
    store = clinic.worker.town.store("clinic")
    witness.hand_out(store, "22" * 32, "c0" * 16, "5e" * 32)
    witness.hand_out(store, "22" * 32, "c1" * 16, "5f" * 32)
    assert witness._others(store, f"{'22' * 32}/{'c0' * 16}") == {"5e" * 32}


def test_a_refused_call_is_in_no_ledger_as_a_call(clinic):
    from counterseal.ledger.witness import Call

    record = bytes(15) + b"\x01"
    clinic.book.keep(Call.made(record, time=0))  # long ago, and never answered
    answer = clinic.worker.answer(clinic.ticket, record=record.hex(), purpose="research")
    assert answer.status == 403
    assert clinic.verify().settled == 0
