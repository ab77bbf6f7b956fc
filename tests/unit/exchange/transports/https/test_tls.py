"""One connection between two threads."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest

from counterseal.errors import Aborted, Dropped, TimedOut
from counterseal.exchange.transports.https.tls import GROUP, RECORD_BYTES, Link


@pytest.fixture
def ends():
    """The client's end and the mailbox's."""
    made = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            made.append(Link.accept(listener.accept()[0], timeout=10))

        thread = threading.Thread(target=accept)
        thread.start()
        client = Link.connect("127.0.0.1", listener.getsockname()[1], timeout=10)
        thread.join()
    yield client, made[0]
    client.close()
    made[0].close()


def read(link, count):
    view = memoryview(bytearray(count))
    at = 0
    while at < count and (got := link.read_into(view[at:])):
        at += got
    return bytes(view[:at])


def test_both_ends_have_one_secret(ends):
    client, mailbox = ends
    assert client.exporter == mailbox.exporter
    assert len(client.exporter) == 32
    assert client._tls.get_group_name() == GROUP == "X25519MLKEM768"
    assert client._tls.get_protocol_version_name() == "TLSv1.3"


def test_bytes_go_both_ways_whole(ends):
    client, mailbox = ends
    data = os.urandom(3 << 20)
    thread = threading.Thread(target=client.send, args=(memoryview(data),))
    thread.start()
    assert read(mailbox, len(data)) == data
    thread.join()
    mailbox.send(b"")
    mailbox.send(bytearray(b"yes"))
    assert read(client, 3) == b"yes"
    assert RECORD_BYTES == 16_384


def test_an_end_that_is_said_and_one_that_is_not(ends):
    client, mailbox = ends
    client.finish()
    assert mailbox.read_into(memoryview(bytearray(1))) == 0
    mailbox.send(b"still here")
    assert read(client, 10) == b"still here"
    mailbox._socket.shutdown(socket.SHUT_RDWR)  # as somebody who cuts the line would
    with pytest.raises(Dropped):
        client.read_into(memoryview(bytearray(1)))


def test_standing_still(ends):
    client, mailbox = ends
    client.limit(0.05)
    with pytest.raises(TimedOut):
        client.read_into(memoryview(bytearray(1)))
    mailbox.limit(0.05)
    with pytest.raises(TimedOut):
        mailbox.send(bytes(64 << 20))  # nobody reads


def test_a_signal_is_not_the_end_of_a_wait(ends):
    client, mailbox = ends
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        client.limit(30)
        me = threading.main_thread().ident

        def disturb():
            while not heard:
                signal.pthread_kill(me, signal.SIGUSR1)
                time.sleep(0.01)
            mailbox.send(b"x")

        thread = threading.Thread(target=disturb)
        thread.start()
        assert read(client, 1) == b"x"
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_abort_from_another_thread(ends):
    client, _ = ends
    failure = []

    def wait():
        try:
            client.read_into(memoryview(bytearray(1)))
        except Dropped as error:
            failure.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    client.abort()
    thread.join(10)
    assert failure


def test_who_does_not_speak_tls():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            sock = listener.accept()[0]
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with contextlib.suppress(OSError):
                sock.recv(1)
            sock.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Aborted, match="TLS connection failed"):
            Link.connect("127.0.0.1", listener.getsockname()[1], timeout=10)
        thread.join()


def test_no_such_machine():
    with pytest.raises(Dropped, match="cannot reach"):
        Link.connect("no-such-machine.invalid", 443, timeout=1)


@pytest.mark.parametrize("direct", [True, False])
def test_both_ways_to_decrypt(ends, monkeypatch, direct):
    """With pyOpenSSL's inner names, and without them."""
    from counterseal.exchange.transports.https import decrypt

    assert decrypt._DIRECT  # for the release that we pin
    monkeypatch.setattr(decrypt, "_DIRECT", direct)
    client, mailbox = ends
    data = os.urandom(1 << 20)
    thread = threading.Thread(target=client.send, args=(data,))
    thread.start()
    assert read(mailbox, len(data)) == data
    thread.join()
    client._socket.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody encrypted
    with pytest.raises(Aborted):
        mailbox.read_into(memoryview(bytearray(1)))
