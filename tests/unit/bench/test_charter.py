"""The bench of charters decides and proves what it says, and reports misses as misses."""

import json

import pytest

from counterseal.bench import charter, charter_report
from counterseal.bench.charter import Profile
from counterseal.errors import CountersealError


@pytest.fixture(scope="module")
def raw():
    result = charter.run(Profile(runs=1, seconds=0.001, charters=(1, 3), permissions=4))
    return json.loads(json.dumps(result))  # what is kept is JSON


def test_every_crowd_was_asked_in_every_way(raw):
    assert list(raw["decisions"]) == ["1", "3"]
    for found in raw["decisions"].values():
        assert {"cached", "evaluated", "first", "walked"} == found.keys()
        assert all(len(turns) == 1 for turns in found.values())


def test_a_decision_that_is_remembered_is_not_asked_again(raw):
    for found in raw["decisions"].values():
        assert found["cached"][0] < found["evaluated"][0] < found["first"][0]


def test_each_pair_of_versions_was_proved(raw):
    assert len(raw["diff"]) == 5
    assert all(turns[0]["wall"] > 0 for turns in raw["diff"].values())


def test_a_wrong_proof_is_no_measurement():
    ((old, new, relation), *_) = charter._versions(2).values()
    assert relation == "equal"
    with pytest.raises(CountersealError, match="proved equal, and not wider"):
        charter._compared(old, new, "wider")


def test_the_report_says_which_targets_are_missed(raw):
    raw["decisions"]["1"] |= {"cached": [2e-6], "evaluated": [5e-5], "walked": [0.0]}
    raw["decisions"]["3"] |= {"cached": [2e-6], "evaluated": [1e-4], "walked": [0.0]}
    met = {one.what: one.met for one in charter_report.figures(raw)}
    assert met["decision, remembered, 1 charter, CPU"] is False
    assert met["decision, one evaluation by Cedar, 1 charter, CPU"] is True
    assert met["decision, remembered, 3 charters / 1"] is True
    assert met["decision, one evaluation by Cedar, 3 charters / 1"] is False
    assert "**no**" in charter_report.markdown(raw)


def test_too_many_charters_for_the_memory_are_left_out_and_said(monkeypatch):
    monkeypatch.setattr(charter.machine, "free_memory", lambda: 2 * charter.RULES_BYTES)
    raw = charter.run(Profile(runs=1, seconds=0.001, charters=(1, 3), permissions=2))
    assert list(raw["decisions"]) == ["1"]
    assert raw["missing"] == ["without 3 charters: too little memory"]
