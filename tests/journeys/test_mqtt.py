"""Two processes and a real broker over TLS, on the days when things go wrong."""

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from broker import Broker
from middle import Middle, unreliable

SHIPPING = Path(__file__).resolve().parents[1] / "support" / "shipping.py"
MIB = 1 << 20
BOX = "ab" * 16


RUNNING = []


@pytest.fixture(autouse=True)
def _end_all():
    yield
    while RUNNING:
        RUNNING.pop().kill()


class Process:
    """One end of a transfer. `lines` are its progress, `facts` what it said at the end."""

    def __init__(self, role, broker, file, *options, port=None, box=BOX):
        command = [sys.executable, str(SHIPPING), role, str(port or broker.port), str(broker.ca)]
        command += [str(file), box, f"version={broker.version}", *options]
        src = str(Path(__file__).resolve().parents[2] / "src")
        paths = os.pathsep.join(filter(None, [src, os.environ.get("PYTHONPATH")]))
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )
        RUNNING.append(self)
        assert self.child.stdout.readline() == "ready\n"

    def go(self):
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return self

    def until(self, share):
        """Read on until this share of the bytes has arrived."""
        for line in self.child.stdout:
            facts = json.loads(line)
            if facts.get("done", 0) >= share * facts.get("total", 1):
                return
        raise AssertionError("it ended before")

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()

    def facts(self):
        lines = self.child.communicate(timeout=120)[0].splitlines()
        assert self.child.returncode == 0
        return json.loads(lines[-1])


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path, persist=False) as started:
        yield started


@pytest.fixture
def mosquitto(tmp_path):
    """For what amqtt does not do: sessions that outlive a process."""
    with Broker(tmp_path) as started:
        yield started


def model(folder, mebibytes, name="model"):
    path = folder / name
    path.write_bytes(random.Random(name).randbytes(mebibytes * MIB + 12_345))
    return path


def transfer(broker, tmp_path, *options, size=24, port=None):
    """A whole one. (facts of the sender, facts of the receiver)"""
    source, target = model(tmp_path, size), tmp_path / "arrived"
    receiver = Process("receive", broker, target, *options, port=port)
    sender = Process("send", broker, source, *options, port=port).go()
    there = sender.facts()
    assert "error" not in there, there
    here = receiver.facts()
    assert "error" not in here, here
    assert target.read_bytes() == source.read_bytes()
    return there, here


def test_a_shipment_arrives_and_nothing_is_sent_twice(broker, tmp_path):
    sender, receiver = transfer(broker, tmp_path)
    assert sender["read"] == receiver["got"] == 25


def test_small_parts(broker, tmp_path):
    transfer(broker, tmp_path, "part_bytes=262144")


def test_several_shipments_at_once_do_not_mix(broker, tmp_path):
    names = ["one", "two", "three"]
    files = {name: model(tmp_path, 8, name) for name in names}
    boxes = {name: f"{number:032x}" for number, name in enumerate(names)}
    receivers = {
        name: Process("receive", broker, tmp_path / f"{name}.got", box=boxes[name])
        for name in names
    }
    senders = [Process("send", broker, files[name], box=boxes[name]).go() for name in names]
    for process in [*senders, *receivers.values()]:
        assert "error" not in process.facts()
    for name in names:
        assert (tmp_path / f"{name}.got").read_bytes() == files[name].read_bytes()


@pytest.mark.parametrize("persist", [True, False], ids=["persistent", "forgetful"])
def test_the_broker_is_killed_in_mid_transfer(tmp_path, persist):
    with Broker(tmp_path, persist=persist) as broker:
        source, target = model(tmp_path, 40), tmp_path / "arrived"
        receiver = Process("receive", broker, target, "session=r")
        sender = Process("send", broker, source, "session=s").go()
        for share in (0.2, 0.6):
            receiver.until(share)
            broker.restart()
        facts = sender.facts()
        assert "error" not in facts
        assert "error" not in receiver.facts()
        assert target.read_bytes() == source.read_bytes()
        assert facts["read"] <= 41 + 2 * 4  # about the window for each time


def test_the_receiver_is_killed_and_goes_on(mosquitto, tmp_path):
    source, target = model(tmp_path, 40), tmp_path / "arrived"
    receiver = Process("receive", mosquitto, target, "session=r")
    sender = Process("send", mosquitto, source).go()
    for share in (0.25, 0.25):
        receiver.until(share)
        receiver.kill()
        receiver = Process("receive", mosquitto, target, "session=r")
    here, there = receiver.facts(), sender.facts()
    assert target.read_bytes() == source.read_bytes()
    assert here["kept"] > 10
    assert here["kept"] + here["got"] == 41
    assert there["read"] <= 41 + 2 * 4


def test_the_sender_is_killed_and_goes_on(mosquitto, tmp_path):
    source, target = model(tmp_path, 40), tmp_path / "arrived"
    receiver = Process("receive", mosquitto, target, "session=r")
    for share in (0.2, 0.5):
        sender = Process("send", mosquitto, source, "session=s").go()
        sender.until(share)
        sender.kill()
    there = Process("send", mosquitto, source, "session=s").go().facts()
    here = receiver.facts()
    assert target.read_bytes() == source.read_bytes()
    assert (here["kept"], here["got"]) == (0, 41)  # none came twice
    assert there["read"] <= 41 * 0.5 + 4


def test_the_receiver_is_away_and_comes_later(mosquitto, tmp_path):
    source, target = model(tmp_path, 4), tmp_path / "arrived"
    listens_once(mosquitto)  # else the broker keeps nothing for it
    sender = Process("send", mosquitto, source, "session=s", "patience=1").go()
    assert sender.facts()["error"] == "TimedOut"
    receiver = Process("receive", mosquitto, target, "session=r", "patience=1")
    assert receiver.facts()["error"] == "TimedOut"  # it has the letter, and the sender is away
    receiver = Process("receive", mosquitto, target, "session=r")
    sender = Process("send", mosquitto, source, "session=s").go()
    assert "error" not in sender.facts()
    assert "error" not in receiver.facts()
    assert target.read_bytes() == source.read_bytes()


def listens_once(broker):
    from counterseal.exchange.transports.mqtt import MqttTransport

    via = MqttTransport("localhost", broker.port, ca_file=broker.ca, session="r", keep_letters=True)
    assert list(via.waiting([BOX], wait=0)) == []
    via.close()


def test_nobody_ever_listened(mosquitto, tmp_path):
    facts = Process("send", mosquitto, model(tmp_path, 1), "patience=1").go().facts()
    assert facts["error"] == "TimedOut"
    assert "ever listened" in facts["message"]


@pytest.mark.parametrize(
    "options",
    [
        ["max_queued_messages 1", "max_inflight_messages 1"],
        ["max_queued_messages 2", "max_inflight_bytes 300000", "max_queued_bytes 300000"],
        ["message_size_limit 600000"],
        ["max_packet_size 200000"],
        ["memory_limit 60000000"],
    ],
    ids=["queue of 1", "queue of bytes", "size of a message", "size of a packet", "memory"],
)
def test_a_broker_that_drops_in_silence(tmp_path, options):
    with Broker(tmp_path, options=options) as broker:
        transfer(broker, tmp_path, size=8)


@pytest.mark.parametrize(
    "faults",
    [
        {"drop": 0.03},
        {"twice": 0.3},
        {"swap": 0.2},
        {"change": 0.03},
        {"drop": 0.01, "twice": 0.1, "swap": 0.1, "change": 0.01},
    ],
    ids=["drops", "repeats", "reorders", "changes", "all of it"],
)
def test_a_broker_that(tmp_path, broker, faults):
    with Middle(broker, unreliable(random.Random(7), **faults)) as middle:
        transfer(broker, tmp_path, "part_bytes=262144", "patience=6", size=16, port=middle.port)


def test_connections_break_again_and_again(tmp_path, broker):
    with Middle(broker, lambda message: [message]) as middle:
        stop = threading.Event()

        def break_them():
            seen = 0
            while not stop.wait(0.05):
                if middle.messages >= seen + 40:
                    seen = middle.messages
                    middle.cut()

        breaker = threading.Thread(target=break_them)
        breaker.start()
        try:
            transfer(broker, tmp_path, "part_bytes=262144", size=16, port=middle.port)
        finally:
            stop.set()
            breaker.join()
