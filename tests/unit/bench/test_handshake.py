"""The bench of key agreement measures what it says, and reports misses as misses."""

import json

import pytest

from counterseal.bench import handshake, handshake_report
from counterseal.bench.handshake import CLASSICAL, OFFLINE, OURS, PAIRING, Profile


@pytest.fixture(scope="module")
def raw():
    result = handshake.run(Profile(runs=1, seconds=0.001, partners=(1, 3)))
    return json.loads(json.dumps(result))  # what is kept is JSON


def test_every_way_came_to_its_end(raw):
    ways = raw["contenders"]
    assert {OURS, OFFLINE, PAIRING, CLASSICAL} <= ways.keys()
    assert len(ways) >= 14
    for name, way in ways.items():
        assert way["failures"] == [], name
        assert way["cpu"], name


def test_ours_crosses_as_many_bytes_as_the_messages_have(raw):
    assert raw["contenders"][OURS]["bytes"] == 1283 + 4606 + 3486 + 33
    assert raw["contenders"]["X25519 and ML-KEM-768, ephemeral"]["bytes"] == 1216 + 1120


def test_the_cost_of_partners_grows_with_their_number(raw):
    one, three = raw["scaling"]
    assert (one["partners"], three["partners"]) == (1, 3)
    assert three["seal_bytes"] == 3 * one["seal_bytes"]
    assert three["epoch_bytes"] > one["epoch_bytes"]


def test_the_report_says_which_targets_are_missed(raw):
    for way in raw["contenders"].values():
        way["cpu"] = [0.001]
    raw["contenders"][OURS]["cpu"] = [0.0021]
    text = handshake_report.markdown(raw)
    assert "| handshake / classical mutual TLS (P-256), CPU | <= 2 x | 2.1 x" in text
    assert "**no**" in text
    assert "PBKDF2" in text


def test_without_the_baselines_ratios_are_not_measured(raw):
    for name in [name for name in raw["contenders"] if name.startswith("TLS")]:
        del raw["contenders"][name]
    found = handshake_report.figures(raw)
    assert [figure.met for figure in found[:3]] == [None, None, None]
