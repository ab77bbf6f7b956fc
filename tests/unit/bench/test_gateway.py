"""The bench of gateways serves for real, and says what it could not measure."""

import json
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from postgres import postgres, postgres_cluster  # noqa: F401 - fixtures

from counterseal.bench import gateway, gateway_limits, gateway_report
from counterseal.bench.callers import Callers, Target
from counterseal.bench.gateway import ESTIMATOR, GROUP, STRICT, WATCHED, Profile
from counterseal.bench.gateway_stage import Stage
from counterseal.bench.processes import Running, children, module, tree_cpu
from counterseal.bench.wall import Wall
from counterseal.errors import CountersealError

TINY = Profile(
    runs=1,
    requests=40,
    heavy_rows=4,
    connections=(1, 16),
    seconds=0.1,
    rounds=2,
    cuts=1,
    quota=40,
    workers=2,
    patience=0,
)


@pytest.fixture(scope="module")
def raw():
    # Not pytest's folder: its path is too long for the sockets of workers.
    with tempfile.TemporaryDirectory() as folder:
        result = gateway.run(TINY, folder=Path(folder), mlserver=Path("/no/python"))
        assert list(Path(folder).iterdir()) == []
    return json.loads(json.dumps(result))


def test_every_server_answered_everything(raw):
    asked = {"scan": {"bare", GROUP, WATCHED, STRICT}, "heavy": {"bare", GROUP, WATCHED}}
    asked["estimator"] = {"bare", ESTIMATOR}
    for model, names in asked.items():
        for connections in (1, 16):
            turns = raw["cpu"][f"{model}/{connections}"]
            assert turns.keys() == names
            for name, (burst,) in turns.items():
                assert burst["answered"] == burst["requests"], (model, name, burst["others"])
                assert burst["cpu"] > 0


def test_latency_was_measured_at_half_load(raw):
    for name in ("bare", GROUP, WATCHED, STRICT):
        (turn,) = raw["latency"][name]
        assert turn["others"] == {}
        assert 0 < turn["p50"] <= turn["p99"] <= turn["most"]


def test_each_revocation_was_seen(raw):
    found = raw["revocation"]
    assert (found["rounds"], found["missed"]) == (2, 0)
    assert len(found["delays"]) == 2


def test_a_quota_is_exact_also_when_a_worker_dies(raw):
    whole, killed = raw["quota"]["whole"], raw["quota"]["killed"]
    assert whole["granted"] == whole["count"] == 40
    assert killed["granted"] <= 40
    assert sum(whole["statuses"].values()) == whole["asked"] == 160


def test_what_is_not_there_is_said(raw):
    assert [line.partition(":")[0] for line in raw["missing"]] == [
        "without MLServer",
        "without two nodes",
    ]
    met = {one.what: one.met for one in gateway_report.figures(raw)}
    assert met["revoked on another node, first refusal, p99"] is None
    assert met["a node is cut off, last yes"] is None
    text = gateway_report.markdown(raw)
    assert "- without MLServer" in text
    assert "bare server, without governance" in text


def test_the_report_says_which_targets_are_missed(raw):
    ours, theirs = ({"cpu": cpu, "wall": 1.0, "requests": 1, "answered": 1} for cpu in (1.4, 1.0))
    raw["cpu"]["scan/16"] |= {GROUP: [ours], "bare": [theirs], WATCHED: [theirs]}
    raw["quota"]["whole"]["granted"] = 41
    met = {one.what: one.met for one in gateway_report.figures(raw)}
    scan = "logistic regression (ONNX), 1 row, 16 connections"
    assert met[f"gateway, audit in groups / bare, CPU, {scan}"] is False
    assert met[f"gateway, audit in groups, detectors / bare, CPU, {scan}"] is True
    assert met["quota of 40, 2 workers, 160 asked: granted beyond it"] is False


def test_refusals_do_not_make_a_server_look_cheap():
    refused = {"cpu": 1.0, "answered": 1, "requests": 10}
    assert gateway_report._each(refused) == 1.0


def test_the_first_refusal_counts_from_the_announcement():
    ms = 10**6
    revoked = [
        {"begun": 0, "announced": 10 * ms, "lifting": 60 * ms},
        {"begun": 100 * ms, "announced": 110 * ms, "lifting": 160 * ms},
    ]
    seen = [{"asked": 11 * ms, "yes": 12 * ms, "no": 13 * ms, "answer": 13 * ms}]
    found = gateway_limits._matched(revoked, seen)
    assert found == {"delays": [3.0], "late": [1.0], "missed": 1, "rounds": 2}


def test_a_wall_lets_nothing_pass_until_it_falls():
    with socket.create_server(("127.0.0.1", 0)) as there, Wall(*there.getsockname()) as wall:
        link = socket.create_connection(("127.0.0.1", wall.port), timeout=10)
        server, _ = there.accept()
        link.sendall(b"a")
        assert server.recv(1) == b"a"
        wall.stand()
        link.sendall(b"b")
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.recv(1)
        wall.fall()
        server.settimeout(10)
        assert server.recv(1) == b"b"
        server.close()
        link.close()


def test_cpu_of_a_tree_has_its_children(tmp_path):
    work = (
        "import os,sys,time\nif os.fork() == 0:\n"
        " while time.process_time() < 0.3: pass\n"
        " print('done', flush=True)\ntime.sleep(60)\n"
    )
    running = Running([*module("x")[:1], "-c", work], said=tmp_path / "said")
    try:
        running.until("done")
        assert len(children(running.pid)) == 1
        assert tree_cpu(running.pid) >= 0.3
    finally:
        children_then = children(running.pid)
        running.end()
    assert children_then


def test_a_server_that_does_not_start_says_why(tmp_path):
    running = Running([*module("x")[:1], "-c", "print('no model')"], said=tmp_path / "said")
    with pytest.raises(CountersealError, match="no model"):
        running.until("serving;")
    running.end()


def test_a_caller_counts_what_breaks():
    """One answer, then the line is cut: the second call is no answer."""

    def serve(listener):
        link, _ = listener.accept()
        link.recv(1 << 16)
        link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        link.recv(1 << 16)
        link.close()
        listener.close()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(listener,))
    thread.start()
    head = "POST / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n"
    with Callers(Target(listener.getsockname()[1], head, ("{}",)), processes=1) as callers:
        callers.connect(1, warm=0)
        found = callers.call(2)
    thread.join()
    assert found.statuses == {200: 1, 0: 1}
    assert found.answered == 1
    assert len(found.latencies) == 2


def test_two_nodes_share_a_state_and_one_is_cut_off(tmp_path, postgres, monkeypatch):  # noqa: F811
    monkeypatch.setattr(gateway_limits, "CUT_SECONDS", 3.0)
    monkeypatch.setattr(gateway_limits, "BACK_SECONDS", 0.0)
    with Stage(tmp_path, heavy_rows=1) as stage:
        found = gateway_limits.two_nodes(stage, postgres, rounds=2, cuts=1)
    far = found["two_nodes"]["far"]
    assert (far["rounds"], far["missed"]) == (2, 0)
    (cut,) = found["cut_off"]
    assert cut["yes"] < 1000 * gateway_limits.CUT_SECONDS
