"""A gateway put together from a home; what can be wrong is found before a worker starts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from gateway import Town, onnx_model

from counterseal.charter import document
from counterseal.errors import CharterDenied, CountersealError, FormatError, TamperError, TrustError
from counterseal.jobs.serve import ModelSource, check
from counterseal.models.inspection import inspect
from counterseal.models.manifest import content_of
from counterseal.models.names import walk

np = pytest.importorskip("numpy")
pytest.importorskip("skl2onnx")
pytest.importorskip("uvicorn")


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path) as made:
        made.agree()
        yield made


def checked(town, *, us=None, plan=None, by="lab"):
    us = us or town.identity(by).history.identity
    return check(plan or town.plan, town.book(by), us=us, at=datetime.now(UTC))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("scan=a.onnx", ("scan", "1.0.0", "a.onnx")),
        ("scan@1.4.0=a.onnx", ("scan", "1.4.0", "a.onnx")),
        ("scan=dir/a=b.onnx", ("scan", "1.0.0", "dir/a=b.onnx")),
        ("scan=oip+https://host/v2", ("scan", "1.0.0", "oip+https://host/v2")),
    ],
)
def test_what_is_served_is_written_in_one_word(text, found):
    source = ModelSource.parse(text)
    assert (source.name, source.number, source.where) == found


@pytest.mark.parametrize("text", ["", "scan", "=a", "scan=", "@1.0=a"])
def test_what_says_nothing_is_refused(text):
    with pytest.raises(FormatError):
        ModelSource.parse(text)


def test_a_good_plan_gives_its_charters(town):
    assert [chain.charter.id for chain in checked(town)] == [town.chain.charter.id]


def test_a_charter_that_is_not_here_is_said_so(town):
    with pytest.raises(TrustError, match="no charter"):
        checked(town, plan=replace(town.plan, charters=["nothing"]))


def test_only_the_owner_serves_a_model(town):
    with pytest.raises(CharterDenied, match="is about a model of lab"):
        checked(town, by="clinic")


def test_a_charter_that_nobody_countersigned_is_not_served(town):
    from counterseal.charter.chain import Chain

    town.chain = Chain.begin(town.charter(title="Another"), **town.by("lab"))
    town.book("lab").take(town.chain.document.encode())
    with pytest.raises(CharterDenied, match="is offered"):
        checked(town)


def test_a_suspended_charter_can_be_served_and_allows_nothing(town):
    """It may be resumed while the gateway runs."""
    town.suspend()
    assert checked(town)


def test_a_model_of_the_charter_has_to_be_there(town):
    plan = replace(town.plan, models=[ModelSource("other", "1.0.0", town.plan.models[0].where)])
    with pytest.raises(FormatError, match="no model of"):
        checked(town, plan=plan)
    plan = replace(town.plan, models=[ModelSource("scan", "1.0.0", str(town.folder / "nothing"))])
    with pytest.raises(FormatError, match="there is no model"):
        checked(town, plan=plan)


def test_promised_detectors_need_rows_to_compare_with(tmp_path):
    with Town(tmp_path) as town:
        detectors = (document.Detector(name="novelty", threshold_permille=5000),)
        town.agree(monitoring={"detectors": detectors})
        with pytest.raises(FormatError, match="promises detectors"):
            checked(town)
        rows = tmp_path / "rows.npy"
        np.save(rows, np.random.default_rng(1).normal(size=(200, 30)).astype("f4"))
        plan = replace(town.plan, references={"scan": rows})
        assert checked(town, plan=plan)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x93NUMPY\x01\x00"])
def test_rows_that_are_none_are_refused(town, tmp_path, monkeypatch, data):
    path = tmp_path / "rows.npy"
    path.write_bytes(data)
    plan = replace(town.plan, references={"scan": path})
    monkeypatch.setattr(Town, "plan", property(lambda _: plan))
    with pytest.raises(FormatError, match="does not hold rows"):
        town.open()


def test_rows_are_never_unpickled(town, tmp_path, monkeypatch):
    path = tmp_path / "rows.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    plan = replace(town.plan, references={"scan": path})
    monkeypatch.setattr(Town, "plan", property(lambda _: plan))
    with pytest.raises(FormatError, match="does not hold rows"):
        town.open()


def test_the_digest_of_a_model_is_of_what_was_looked_at(town):
    gate = town.open()
    files, _ = walk(Path(town.plan.models[0].where))
    inspect(files)
    assert gate.desk.registry.offers["scan"]["1.0.0"].digest == content_of(files)


def test_a_version_never_changes_from_one_start_to_the_next(town):
    town.open().close()
    path = Path(town.plan.models[0].where)
    changed = onnx_model()[0].replace(b"skl2onnx", b"skl2ONNX")
    assert changed != onnx_model()[0]
    path.write_bytes(changed)
    with pytest.raises(TamperError, match="was another model"):
        town.open()


def test_a_session_and_an_alias_outlive_a_restart(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    assert town.restart().call(ticket)


def test_a_gateway_with_nothing_that_can_be_served_does_not_start(town):
    """And says why: this time to its owner."""
    older = town.chain.document.encode()
    gate = town.open()
    town.suspend()
    gate.desk.poll()
    gate.desk.sync()
    gate.desk.vault.change(town.chain.charter.id, "chain-file", lambda _: (None, None))
    gate.close()
    place = f"{town.lab.history.identity}/{town.chain.charter.id}"
    town.store("lab").put("charter", place, older)
    with pytest.raises(CountersealError, match="were served under"):
        town.open()


def test_every_charter_has_a_ledger_of_its_own(town):
    town.agree_with_rival()
    gate = town.open()
    gate.call(gate.session())
    gate.call(gate.session("rival"))
    for served in gate.desk.served.values():
        assert served.ledger.name == served.charter.id
        served.ledger.settle()
        assert served.ledger.size == 2


def test_a_charter_that_is_over_allows_nothing(tmp_path):
    with Town(tmp_path) as town:
        now = datetime.now(UTC).replace(microsecond=0)
        gate = town.open(ends=now + timedelta(hours=2))
        ticket = gate.session()
        assert gate.call(ticket)
        town.clock.wait(minutes=10)
        assert gate.call(ticket)
        for _ in range(12):
            town.clock.wait(minutes=10)
            gate.answer(ticket)
        assert gate.answer(ticket).refused.kind == "CharterDenied"
