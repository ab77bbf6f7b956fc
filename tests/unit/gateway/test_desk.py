"""What one worker knows, and when it learns that something changed."""

import pytest
from gateway import Town
from gateway_attack import outcome

from counterseal.errors import CountersealError
from counterseal.gateway.desk import REFUSALS_A_SECOND

pytest.importorskip("skl2onnx")


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path) as made:
        yield made


def test_nothing_is_read_again_while_nothing_changed(town):
    gate = town.open()
    before = gate.served
    gate.desk.poll()
    gate.desk.sync()
    assert gate.served is before
    assert gate.served.chain is before.chain


def test_a_suspension_in_the_home_is_found_by_looking(town):
    gate = town.open()
    ticket = gate.session()
    town.suspend()
    assert gate.call(ticket)
    gate.desk.poll()
    assert outcome(lambda: gate.call(ticket)) == "CharterDenied"


def test_a_new_version_takes_over_the_quota_that_was_used(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    town.amend(limits={"concurrency": 3})
    gate.desk.poll()
    gate.desk.sync()
    assert gate.served.charter.version == 2
    assert gate.used() == 1
    assert gate.call(ticket)
    assert gate.used() == 2


def test_a_worker_that_cannot_learn_asks_again_with_the_next_request(town):
    gate = town.open()
    ticket = gate.session()
    gate.desk.shared.bump()
    with pytest.MonkeyPatch.context() as patch:

        def fails(*_):
            raise CountersealError("the disk is gone")

        patch.setattr(type(gate.desk.registry), "refresh", fails)
        assert outcome(lambda: gate.call(ticket)) == "CutOffError"
        assert outcome(lambda: gate.call(ticket)) == "CutOffError"
    assert gate.call(ticket)


def test_why_it_cannot_learn_is_reported_once(town, capsys):
    gate = town.open()
    ticket = gate.session()
    gate.desk.shared.bump()
    with pytest.MonkeyPatch.context() as patch:

        def fails(*_):
            raise CountersealError("the disk is gone")

        patch.setattr(type(gate.desk.registry), "refresh", fails)
        for _ in range(5):
            outcome(lambda: gate.call(ticket))
    assert capsys.readouterr().err.count("the disk is gone") == 1


def test_a_flood_of_refusals_is_counted_and_does_not_fill_the_ledger(town):
    gate = town.open()
    ticket = gate.session()
    for _ in range(REFUSALS_A_SECOND * 3):
        gate.answer(ticket, b"nonsense")
    town.clock.wait(seconds=2)
    gate.answer(ticket, b"nonsense")
    refused = [one for one in gate.entries() if one.event == "refused"]
    summaries = [one for one in refused if one.reason == "more-refusals"]
    assert summaries
    assert len(refused) < REFUSALS_A_SECOND * 3
    named = len(refused) - len(summaries)
    assert named + sum(one.rows for one in summaries) >= REFUSALS_A_SECOND * 3


def test_the_most_generous_charter_says_how_much_is_read(town):
    town.agree_with_rival(limits={"bytes_per_request": 5000})
    gate = town.open(limits={"bytes_per_request": 4000})
    assert gate.desk.most_bytes == 5000


def test_what_was_leased_goes_back_at_the_end(town):
    gate = town.open()
    gate.call(gate.session())
    assert town.restart().used() == 1
