"""What was used, for each side to see."""

import pytest
from gateway import Town, body_of

pytest.importorskip("skl2onnx")


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path) as made:
        yield made


def test_usage_is_what_the_ledger_says(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket, body_of(3))
    gate.call(ticket, body_of(2))
    gate.answer(ticket, purpose="research")
    entries = gate.entries()
    (facts,) = gate.office.usage(gate.visitor(ticket), None)
    used = {(one["unit"], one["period"]): one["used"] for one in facts["quotas"]}
    assert used == {("requests", "day"): 2, ("rows", "month"): 5}
    assert facts["calls"] == sum(one.event == "call" for one in entries) == 2
    assert facts["entries"] == facts["recent"] == len(entries)
    assert [(one["policy"], one["times"]) for one in facts["refusals"]] == [
        (next(one.reason for one in entries if one.event == "refused"), 1)
    ]
    assert facts["sessions"] == 1
    assert (facts["state"], facts["rung"], facts["risk"]) == ("active", None, 0)
    assert facts["charter"] == town.chain.charter.id


def test_the_owner_sees_all_and_a_partner_its_own(town):
    town.agree_with_rival()
    gate = town.open()
    owner = gate.visitor(gate.owner())
    assert len(gate.office.usage(owner, None)) == 2
    for name, other in (("clinic", "rival"), ("rival", "clinic")):
        (facts,) = gate.office.usage(gate.visitor(gate.session(name)), None)
        assert facts["partner"] == name != other


def test_usage_after_a_suspension_is_still_shown(town):
    gate = town.open()
    ticket = gate.session()
    town.suspend()
    gate.desk.poll()
    (facts,) = gate.office.usage(gate.visitor(ticket), None)
    assert facts["state"] == "suspended"
