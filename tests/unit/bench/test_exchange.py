import json
import shutil

import pytest
from click.testing import CliRunner

from counterseal.bench import contenders, exchange, machine
from counterseal.bench.exchange import PROFILES
from counterseal.bench.figures import figures
from counterseal.bench.report import markdown
from counterseal.cli.bench import bench
from counterseal.errors import CountersealError, FormatError


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """One quick run of everything; what it found is never asserted, only that it is there."""
    folder = tmp_path_factory.mktemp("bench")
    found = exchange.run(PROFILES["quick"], folder=folder)
    assert not list(folder.iterdir()), "it left something behind"
    return json.loads(json.dumps(found))


def test_every_contender_ran_without_failing(raw):
    expected = {"cp", "seal", "seal with statement", "open", "write only", "SHA-256 only"}
    assert expected <= raw["timed"].keys()
    for name, samples in raw["timed"].items():
        assert samples["failures"] == [], name
        assert len(samples["wall"]) == PROFILES["quick"].runs
    assert all("failure" not in one for one in raw["memory"])


def test_every_figure_is_there(raw):
    found = {figure.what: figure for figure in figures(raw)}
    for part in ("seal / cp", "one tensor", "extra memory", "overhead", "add", "--help", "import"):
        assert any(part in what for what in found), part
    peers = ("age", "load")
    for what, figure in found.items():
        assert figure.value is not None or any(peer in what for peer in peers), what


def test_the_report_has_a_row_for_every_figure_and_contender(raw):
    text = markdown(raw)
    for figure in figures(raw):
        assert f"| {figure.what} |" in text
    for name in raw["timed"]:
        assert f"| {name} |" in text
    assert raw["machine"]["cpu"] in text


def test_a_failed_turn_is_left_out_of_the_ratio_and_named(raw):
    broken = json.loads(json.dumps(raw))
    broken["timed"]["seal"]["wall"][0] = None
    broken["timed"]["seal"]["failures"] = ["OSError: disk full"]
    first = figures(broken)[0]
    assert first.value is not None
    assert first.note == "OSError: disk full"
    assert "OSError: disk full" in markdown(broken)


def test_a_peer_that_is_missing_is_said_in_one_line(tmp_path, monkeypatch):
    which = shutil.which
    monkeypatch.setattr(
        contenders.shutil, "which", lambda name: None if "age" in name else which(name)
    )
    found = exchange.run(PROFILES["quick"], folder=tmp_path, only=["seal", "open"])
    assert found["missing"] == ["age: not installed (Debian package age)"]
    assert "- age: not installed (Debian package age)" in markdown(found)
    assert "not measured" in markdown(found)


def test_the_model_is_a_safetensors_file(tmp_path):
    from counterseal.models.files import FolderFiles
    from counterseal.models.formats.safetensors import read_header

    path = tmp_path / "m.safetensors"
    contenders.write_model(path, 3 << 20)
    header = read_header(FolderFiles(tmp_path, {path.name: path}), path.name)
    assert len(header.tensors) == contenders.TENSORS


def test_no_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(CountersealError, match="0 MiB free"):
        exchange.run(PROFILES["quick"], folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_memory_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 1)
    with pytest.raises(CountersealError, match="memory"):
        exchange.run(PROFILES["quick"], folder=tmp_path)


def test_an_unknown_scenario_is_refused(tmp_path):
    with pytest.raises(CountersealError, match="no scenario tea"):
        exchange.run(PROFILES["quick"], folder=tmp_path, only=["tea"])


def test_other_json_is_not_a_result():
    with pytest.raises(FormatError):
        markdown({"format": "something else"})


def test_the_command_keeps_the_raw_result_and_reads_it_again(tmp_path):
    kept = tmp_path / "raw.json"
    run = CliRunner().invoke(
        bench,
        ["exchange", "--profile", "quick", "--size", "1MiB", "--runs", "1", "--only", "seal,add",
         "--folder", str(tmp_path), "--output", str(kept)],
        catch_exceptions=False,
    )  # fmt: skip
    assert run.exit_code == 0
    assert json.loads(kept.read_text())["settings"]["size"] == 1 << 20
    again = CliRunner().invoke(bench, ["report", str(kept)], catch_exceptions=False)
    assert again.output == run.stdout
    assert list(tmp_path.iterdir()) == [kept]
