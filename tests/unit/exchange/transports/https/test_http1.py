"""Heads and bodies over a link; the link is two buffers."""

import pytest

from counterseal.errors import Aborted, Dropped, FormatError
from counterseal.exchange.transports.https.http1 import Stream, StreamBody


class Wire:
    """What one end has sent and the other has not read yet; `record` bytes at a time."""

    def __init__(self, data=b"", record=16_384):
        self.data, self.record, self.sent = data, record, b""

    def read_into(self, view):
        count = min(len(view), len(self.data), self.record)
        view[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def send(self, data):
        self.sent += bytes(data)


def heads(data, record=16_384):
    """All requests in `data`, with their bodies."""
    wire = Wire(data, record)
    stream = Stream(wire)
    found = []
    while (got := stream.next_head(wire.read_into)) is not None:
        head, _ = got
        body = StreamBody(stream, head.length, before=lambda: None)
        content = bytearray()
        piece = memoryview(bytearray(7))
        while body.left:
            content += piece[: body.read_into(piece)]
        found.append((head.method, head.path, bytes(content)))
    return found


TWO = (
    b"PUT /a?x=1&x=2 HTTP/1.1\r\nhost: h\r\ncontent-length: 20\r\n\r\n"
    b"GET /no HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nhost: h\r\n\r\n"
)


@pytest.mark.parametrize("record", [1, 2, 3, 50, 16_384])
def test_requests_follow_one_another_however_they_are_cut(record):
    assert heads(TWO, record) == [("PUT", "/a", b"GET /no HTTP/1.1\r\n\r\n"), ("GET", "/b", b"")]


@pytest.mark.parametrize(
    "data",
    [
        b"PUT / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 1_0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: " + b"9" * 30 + b"\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\nx y: z\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET /" + b"a" * 90_000,
        b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"a" * 90_000,
    ],
)
def test_what_two_readers_could_read_differently_is_refused(data):
    with pytest.raises(FormatError):
        heads(data + b"\r\n\r\n")


def test_an_end_in_the_middle_of_a_body():
    with pytest.raises(Dropped):
        heads(b"PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nabc")


def client(said, *asked):
    wire = Wire(said)
    stream = Stream(wire)
    for method in asked:
        stream.ask(method, "/", {"host": "h"})
    return wire, stream


def test_answers_come_in_order_and_interim_ones_before_them():
    said = (
        b"HTTP/1.1 104 Upload Resumption\r\nlocation: /u\r\n\r\n"
        b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok"
        b"HTTP/1.1 204 No Content\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n"
    )
    _, stream = client(said, "PUT", "DELETE", "HEAD")
    answer = stream.answer()
    assert (answer.status, answer.length) == (201, 2)
    assert [(one.status, one.headers["location"]) for one in answer.interim] == [(104, "/u")]
    view = memoryview(bytearray(2))
    assert stream.read_into(view) == 2
    assert bytes(view) == b"ok"
    assert (stream.answer().status, stream.answer().length) == (204, 0)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", Dropped),
        (b"HTTP/1.1 200 OK\r\n", Dropped),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", Aborted),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Aborted),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Aborted),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", Aborted),
    ],
)
def test_a_mailbox_that_does_not_speak_http(said, error):
    _, stream = client(said, "GET")
    with pytest.raises(error):
        stream.answer()


def test_large_bodies_are_not_copied_into_heads():
    wire, stream = client(b"")
    stream.ask("PUT", "/", {"host": "h"}, memoryview(bytes(100_000)))
    head, _, body = wire.sent.partition(b"\r\n\r\n")
    assert b"content-length: 100000" in head.lower()
    assert len(body) == 100_000
