"""The bench of transfers carries real packages between real processes."""

import json
from pathlib import Path

import pytest

from counterseal.bench import transfer, transfer_report
from counterseal.bench.transfer import MIB, Profile
from counterseal.errors import CountersealError


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    result = transfer.run(Profile(size=4 * MIB, runs=1), folder=folder)
    assert list(Path(folder).iterdir()) == []
    return json.loads(json.dumps(result))


def test_both_ends_carried_the_whole_package(raw):
    (turn,) = raw["turns"]
    for way in ("ssl", "raw", "https", *(["mqtt"] if not raw["missing"] else [])):
        assert "failure" not in turn[way], turn[way]
        assert turn[way]["send"]["bytes"] > 4 * MIB
        assert turn[way]["receive"]["bytes"] > 4 * MIB


def test_a_broken_transfer_goes_on_where_it_stopped(raw):
    for side in ("send", "receive"):
        part = raw["resume"][side]
        assert part["bytes"] <= part["carried"] <= part["bytes"] + MIB


def test_the_report_has_every_figure(raw):
    text = transfer_report.markdown(raw)
    assert "HTTPS upload / TLS socket of Python" in text
    assert "carried again after a break at half, receive" in text


def test_too_little_room_is_said_before_anything_is_done(tmp_path):
    with pytest.raises(CountersealError, match="this needs"):
        transfer.run(Profile(size=1 << 50, runs=1), folder=tmp_path)
