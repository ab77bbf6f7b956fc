"""HTTPS to one gateway, against a real server over real TLS that says what it is told to."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest

from counterseal.crypto.tls_authority import Authority
from counterseal.errors import Dropped, PeerMisbehaved, TimedOut, TrustError
from counterseal.gateway.client.line import Line, context_of, first_context
from counterseal.gateway.http.tls import server_context

SECONDS = 20
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Name: Value\r\n\r\nhi"


class Server:
    """Answers each request of each connection with the next of its answers; `None`: hangs up."""

    def __init__(self, authority, answers, hosts=("localhost",)):
        self.answers, self.asked, self.connections = list(answers), [], 0
        self._tls = server_context(authority, hosts, at=datetime.now(UTC))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._ended.is_set():
            try:
                plain, _ = self._socket.accept()
                plain.settimeout(SECONDS)
                line = self._tls.wrap_socket(plain, server_side=True)
            except OSError:
                continue
            self.connections += 1
            with line:
                while self.answers and (request := self._read(line)):
                    self.asked.append(request)
                    answer = self.answers.pop(0)
                    if answer is None:
                        break
                    if answer == "wait":
                        self._ended.wait(SECONDS)
                        break
                    line.sendall(answer)
                    if b"connection: close" in answer:
                        break

    def _read(self, line):
        found = b""
        try:
            while b"\r\n\r\n" not in found:
                part = line.recv(65536)
                if not part:
                    return b""
                found += part
        except OSError:
            return b""
        return found

    def close(self):
        self._ended.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(SECONDS)


@pytest.fixture(scope="module")
def authority():
    return Authority.create(at=datetime.now(UTC) - timedelta(hours=1))


@pytest.fixture
def served(authority):
    made = []

    def serve(*answers, trust=None, host="localhost", seconds=SECONDS, **more):
        server = Server(authority, answers, **more)
        context = context_of((trust or authority).certificate)
        line = Line(host, server.port, context, seconds=seconds)
        made.append((server, line))
        return server, line

    yield serve
    for server, line in made:
        line.close()
        server.close()


def test_an_answer_is_read_and_its_connection_kept(served):
    server, line = served(OK, OK)
    for _ in range(2):
        reply = line.ask("GET", "/v2")
        assert (reply.status, reply.body, reply.headers["x-name"]) == (200, b"hi", "Value")
    assert server.connections == 1


def test_a_kept_connection_that_was_closed_is_made_anew_once(served):
    server, line = served(OK, None, OK)
    line.ask("GET", "/v2")
    assert line.ask("GET", "/v2").body == b"hi"
    assert server.connections == 2


def test_a_new_connection_that_is_closed_is_not_tried_again(served):
    server, line = served(None, OK)
    with pytest.raises(Dropped, match="closed"):
        line.ask("POST", "/v2/models/scan/infer", body=b"x")
    assert len(server.asked) == 1


def test_any_status_is_an_answer(served):
    _, line = served(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
    assert line.ask("GET", "/").status == 503


def test_an_answer_is_bounded(served):
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n" + bytes(4000)
    _, line = served(long)
    with pytest.raises(PeerMisbehaved, match="longer than 100"):
        line.ask("GET", "/", most=100)


def test_what_is_no_http_is_a_lost_connection(served):
    _, line = served(b"nonsense\r\n\r\n")
    with pytest.raises(Dropped):
        line.ask("GET", "/")


def test_a_gateway_that_is_silent_is_given_up(served):
    _, line = served("wait", seconds=0.2)
    with pytest.raises(TimedOut):
        line.ask("GET", "/")


def test_a_certificate_of_another_authority_is_refused(served):
    _, line = served(OK, trust=Authority.create(at=datetime.now(UTC)))
    with pytest.raises(TrustError, match="authority"):
        line.ask("GET", "/")


def test_a_name_that_the_gateway_does_not_serve_is_refused(served):
    _, line = served(OK, hosts=("elsewhere.example",))
    with pytest.raises(TrustError) as caught:
        line.ask("GET", "/")
    assert "--host" in caught.value.hint


def test_where_nobody_listens_is_said_so():
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    line = Line("localhost", port, first_context(), seconds=SECONDS)
    with pytest.raises(Dropped, match="cannot reach"):
        line.ask("GET", "/")
    line.close()


def test_only_tls_13_is_spoken(authority):
    for context in (first_context(), context_of(authority.certificate)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context_of(authority.certificate).check_hostname


def test_every_thread_has_its_own_connection(served):
    server, line = served(OK, OK)
    line.ask("GET", "/")
    server.answers.clear()
    line.close()
    server.answers.append(OK)
    found = []
    thread = threading.Thread(target=lambda: found.append(line.ask("GET", "/").status))
    thread.start()
    thread.join(SECONDS)
    assert found == [200]
    assert server.connections == 2
