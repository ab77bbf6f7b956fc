import queue
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from parley import AT, book_of

from counterseal.errors import (
    Aborted,
    BadCiphertext,
    Dropped,
    SessionExpired,
    TimedOut,
    UnknownPartner,
)
from counterseal.exchange.carriers import LinkCarrier, SocketCarrier, memory_pair
from counterseal.exchange.channel import FRAME_BYTES
from counterseal.exchange.link import Link
from counterseal.exchange.session import accept, connect
from counterseal.exchange.sessionbook import SessionBook
from counterseal.trust.identity import Identity

LONG = bytes(range(251)) * 20_000  # 5 MB: six frames


@contextmanager
def beside(function):
    """Run something in another thread and hand on what it raises."""
    raised = []

    def run():
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the test
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield raised
    thread.join(30)
    assert not thread.is_alive()


def echo(cast, carrier, *, known=None, **more):
    """What the clinic does: says everything again until the other side closes."""

    def run():
        partners = book_of([cast.lab] if known is None else known)
        with accept(
            carrier,
            us=cast.clinic,
            partners=partners,
            purpose="echo",
            sessions=SessionBook(),
            **{"clock": lambda: AT, **more},
        ) as session:
            assert session.partner is cast.lab.history
            while (message := session.receive(timeout=20)) is not None:
                session.send(message)

    return run


def call(cast, carrier, **more):
    more = {"purpose": "echo", "clock": lambda: AT, **more}
    return connect(carrier, us=cast.lab, to=cast.clinic.history, **more)


def talk(cast, ours, theirs, messages=(b"", b"hello", LONG)):
    with beside(echo(cast, theirs)) as raised:
        session = call(cast, ours)
        for message in messages:
            session.send(message)
            assert session.receive(timeout=20) == message
        session.close()
        session.close()
    assert raised == []


def test_in_memory(cast):
    talk(cast, *memory_pair())


def test_over_a_socket(cast):
    left, right = socket.socketpair()
    talk(cast, SocketCarrier(left), SocketCarrier(right))


def test_over_tcp(cast):
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.create_connection(server.getsockname())
        right, _ = server.accept()
    talk(cast, SocketCarrier(left), SocketCarrier(right))


def test_over_tls(cast, tmp_path):
    """The certificate means nothing here: it is the channel that knows the partner."""
    contexts = tls_contexts(tmp_path)
    sockets = socket.socketpair()
    ends = [None, None]

    def serve():
        ends[1] = contexts[1].wrap_socket(sockets[1], server_side=True)

    with beside(serve):
        ends[0] = contexts[0].wrap_socket(sockets[0])
    talk(cast, *map(SocketCarrier, ends))


def tls_contexts(folder):
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    built = built.public_key(key.public_key()).not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
    certificate = built.not_valid_after(datetime(2100, 1, 1, tzinfo=UTC)).sign(key, hashes.SHA256())
    pem = folder / "pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return client, server


class Letters:
    """One end of a broker that drops every `drop`-th letter and repeats and delays others."""

    def __init__(self, out, into, drop):
        self.out, self.into, self.drop, self.count, self.late = out, into, drop, 0, None

    def send(self, letter):
        self.count += 1
        if self.count % self.drop == 0:
            return
        if self.count % 5 == 0 and self.late is None:
            self.late = letter
            return
        self.out.put(letter)
        if self.count % 4 == 0:
            self.out.put(letter)
        if self.late is not None:
            self.out.put(self.late)
            self.late = None

    def receive(self, timeout):
        try:
            return self.into.get(timeout=timeout)
        except queue.Empty:
            return None


def letters_pair(drop):
    there, back = queue.SimpleQueue(), queue.SimpleQueue()
    return Letters(there, back, drop), Letters(back, there, drop)


def test_over_letters_that_get_lost(cast):
    ends = letters_pair(drop=11)
    left, right = (
        LinkCarrier(
            end, Link(b"l" * 16, initiator=first, piece=64 * 1024, inbox=1 << 20), linger=0.5
        )
        for end, first in zip(ends, (True, False), strict=True)
    )
    talk(cast, left, right, messages=(b"", b"hello", LONG[:600_000]))


def test_letters_that_nobody_answers(cast):
    link = Link(b"l" * 16, initiator=True)
    carrier = LinkCarrier(letters_pair(drop=1)[0], link, linger=0.05)
    with pytest.raises(TimedOut):
        call(cast, carrier, timeout=0.05)


def test_a_stranger_learns_nothing_but_the_end(cast):
    ours, theirs = memory_pair()
    with (
        beside(echo(cast, theirs, known=[])) as raised,
        pytest.raises(Dropped, match="ended the handshake"),
    ):
        call(cast, ours)
    (error,) = raised
    assert isinstance(error, UnknownPartner)


def test_nobody_answers(cast):
    ours, _ = memory_pair()
    with pytest.raises(TimedOut):
        call(cast, ours, timeout=0.01)
    with pytest.raises(TimedOut):
        echo(cast, memory_pair()[0], timeout=0)()


def test_an_end_without_close_is_noticed(cast):
    ours, theirs = memory_pair()
    with beside(echo(cast, theirs)) as raised:
        session = call(cast, ours)
        session.send(b"x")
        assert session.receive(timeout=20) == b"x"
        ours.close()  # not the session: the line was cut
    assert isinstance(raised[0], Dropped)
    with pytest.raises(Dropped):  # and our own side is not told a proper end either
        session.receive(timeout=20)


def test_an_error_in_the_block_does_not_look_like_an_end(cast):
    ours, theirs = memory_pair()
    with beside(echo(cast, theirs)) as raised, pytest.raises(KeyError), call(cast, ours):
        raise KeyError
    assert isinstance(raised[0], Dropped)


def test_a_changed_frame_ends_the_session(cast):
    ours, theirs = memory_pair()
    with beside(echo(cast, theirs)) as raised:
        session = call(cast, ours)
        ours.send(b"x" * 100)
    assert isinstance(raised[0], BadCiphertext)
    with pytest.raises(Dropped):
        session.receive(timeout=20)


def test_closing_after_an_error_or_to_nobody_is_quiet(cast):
    left, right = socket.socketpair()
    with beside(echo(cast, SocketCarrier(right))) as raised:
        session = call(cast, SocketCarrier(left))
        session._carrier.send(b"x" * 100)
    assert isinstance(raised[0], BadCiphertext)
    session.close()  # clinic's socket is gone
    ours, theirs = memory_pair()
    with beside(echo(cast, theirs)) as raised:
        session = call(cast, ours)
        theirs.send(b"x" * 100)
        with pytest.raises(BadCiphertext):
            session.receive(timeout=20)
        session.close()
    assert isinstance(raised[0], Dropped)


def test_the_clock_is_the_real_one_unless_told():
    lab, clinic = (Identity.create(name) for name in ("lab", "clinic"))
    ours, theirs = memory_pair()

    def serve():
        more = {"us": clinic, "partners": book_of([lab]), "sessions": SessionBook()}
        with accept(theirs, purpose="echo", **more) as session:
            assert session.receive(timeout=20) is None
            assert session.receive(timeout=20) is None

    with beside(serve) as raised, connect(ours, us=lab, to=clinic.history, purpose="echo"):
        pass
    assert raised == []


def test_a_session_ends_in_time(cast):
    times = [AT]
    ours, theirs = memory_pair()
    with beside(echo(cast, theirs)):
        session = call(cast, ours, clock=lambda: times[-1])
        times.append(AT + timedelta(days=2))
        with pytest.raises(SessionExpired):
            session.send(b"x")
        ours.close()


class TestSocketCarrier:
    @pytest.fixture
    def sockets(self):
        left, right = socket.socketpair()
        yield left, SocketCarrier(right)
        left.close()
        right.close()

    def test_an_announcement_above_the_limit(self, sockets):
        left, carrier = sockets
        left.sendall((FRAME_BYTES + 1).to_bytes(4, "big"))
        with pytest.raises(Aborted):
            carrier.receive(1)
        assert len(carrier._buffer) == 4
        with pytest.raises(Dropped):
            carrier.receive(1)

    def test_a_stranger_gets_less(self, sockets):
        left, carrier = sockets
        left.sendall((5000).to_bytes(4, "big"))
        with pytest.raises(Aborted):
            carrier.receive(1, most=4999)

    @pytest.mark.parametrize("data", [b"\0\0", b"\0\0\0\5", b"\0\0\0\5hell"])
    def test_an_end_in_the_middle(self, sockets, data):
        left, carrier = sockets
        left.sendall(data)
        left.shutdown(socket.SHUT_WR)
        with pytest.raises(Dropped):
            carrier.receive(1)

    def test_an_end_between(self, sockets):
        left, carrier = sockets
        left.sendall(b"\0\0\0\2hi")
        left.shutdown(socket.SHUT_WR)
        assert bytes(carrier.receive(1)) == b"hi"
        assert carrier.receive(1) is None

    def test_too_late(self, sockets):
        left, carrier = sockets
        with pytest.raises(TimedOut):
            carrier.receive(0.01)
        left.sendall(b"\0\0\0\2h")
        with pytest.raises(TimedOut):
            carrier.receive(0.01)
        left.sendall(b"i")
        with pytest.raises(Dropped):  # nobody knows where the next message begins
            carrier.receive(0.01)

    def test_a_connection_that_was_reset(self, sockets):
        _, carrier = sockets
        carrier._socket.close()
        with pytest.raises(Dropped):
            carrier.receive(1)

    def test_nobody_reads(self, sockets):
        _, carrier = sockets
        carrier._patience = 0.01
        with pytest.raises(TimedOut):
            carrier.send(bytes(FRAME_BYTES))
        with pytest.raises(Dropped):
            carrier.send(b"x")

    def test_nobody_is_there(self, sockets):
        left, carrier = sockets
        left.close()
        with pytest.raises(Dropped):
            carrier.send(bytes(FRAME_BYTES))
