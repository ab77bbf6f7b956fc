"""Rows on their way between the workers of one node."""

import queue
import socket
from types import SimpleNamespace

import pytest

from counterseal.gateway.relay import Listener, RelayObserver

np = pytest.importorskip("numpy")

SERVED = SimpleNamespace(charter=SimpleNamespace(id="c0" * 16))
OFFER = SimpleNamespace(model="scan")
SECONDS = 20


@pytest.fixture
def line(tmp_path):
    class Line:
        path = tmp_path / "rows"
        came = queue.Queue()
        listener = Listener(path, lambda *one: Line.came.put(one))
        sender = RelayObserver(path)

        def next(self):
            return self.came.get(timeout=SECONDS)

    made = Line()
    yield made
    made.sender.close()
    made.listener.close()


@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "?", "u1"])
def test_rows_arrive_as_they_are(line, kind):
    rows = np.arange(12).reshape(3, 4).astype(kind)
    line.sender.observe(SERVED, OFFER, rows)
    charter, model, found = line.next()
    assert (charter, model) == ("c0" * 16, "scan")
    assert found.dtype == rows.dtype
    assert (found == rows).all()


def test_many_rows_arrive_in_order_in_several_parts(line):
    rows = np.arange(40_000.0).reshape(1000, 40)
    line.sender.observe(SERVED, OFFER, rows)
    found = []
    while sum(map(len, found)) < len(rows):
        found.append(line.next()[2])
    assert len(found) > 1
    assert (np.concatenate(found) == rows).all()


def test_a_probe_arrives(line):
    line.sender.probe(SERVED)
    assert line.next() == ("c0" * 16, "", None)


def test_texts_are_not_looked_at(line):
    line.sender.observe(SERVED, OFFER, np.array(["a", "b"], dtype=object))
    line.sender.probe(SERVED)
    assert line.next()[2] is None


def test_a_row_that_is_too_long_is_dropped_and_counted(line):
    line.sender.observe(SERVED, OFFER, np.zeros((1, 100_000)))
    assert line.sender.dropped == 1


def test_where_nobody_listens_rows_are_dropped_and_counted(tmp_path):
    sender = RelayObserver(tmp_path / "nobody")
    sender.observe(SERVED, OFFER, np.zeros((2, 2)))
    assert sender.dropped == 1
    sender.close()


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"\x00\x00\x00\x05nonse",
        b"\xff\xff\xff\xff",
        b'\x00\x00\x00\x43{"charter":"c","model":"m","dtype":"O","shape":[1]}' + b" " * 20,
        b'\x00\x00\x00\x33{"charter":"c","model":"m","dtype":"<f8","shape":[9]}' + bytes(8),
    ],
)
def test_what_is_no_datagram_of_ours_is_passed_over(line, data):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.sendto(data, str(line.path))
    line.sender.probe(SERVED)
    assert line.next()[2] is None


def test_only_the_owner_of_the_gateway_can_send(line):
    assert line.path.stat().st_mode & 0o077 == 0
