"""Attacks on a gateway over its line: real processes, real TLS, and bytes that no client sends.

One gateway for all of it: whatever was sent, the next honest call has to be answered.
"""

import contextlib
import json
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from gateway import PATIENCE, PURPOSE, Town, body_of, onnx_model
from gateway_race import prepare_race, racer
from workshop import PASSPHRASE

from counterseal.charter.document import Quota
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.crypto.tls_authority import Authority, TlsKey
from counterseal.errors import BadSignature, CountersealError, PeerMisbehaved, TrustError
from counterseal.gateway.client.calling import Session
from counterseal.gateway.client.line import Line, Reply, context_of, first_context
from counterseal.gateway.client.opening import Where, open_session
from counterseal.jobs import witness
from counterseal.jobs.session import CallBook

pytest.importorskip("skl2onnx")
pytest.importorskip("uvicorn")

INFER = "/v2/models/scan/infer"


class Street:
    """The town, its gateway in a process, and clinic's session there."""

    def __init__(self, town):
        self.town = town
        town.agree(audit={"readers": ("analyst", "auditor")}, limits={"bytes_per_request": 100_000})
        self.process = town.serve()
        self.where = Where("localhost", self.process.port)
        self.opened = self.open()
        self.secrets = [self.opened.grant.token.encode(), *self.opened.key.splitlines()[1:-1]]

    def open(self, by=None, to=None, **changes):
        fields = {
            "charter": self.town.chain.charter,
            "role": "analyst",
            "purpose": PURPOSE,
            "at": datetime.now(UTC),
            **changes,
        }
        to = to or self.town.lab.history
        return open_session(self.where, by=by or self.town.clinic, to=to, **fields)

    def session(self):
        us = self.town.clinic.history.identity
        book = CallBook(self.town.store("clinic"), us, self.town.chain.charter.id)
        return Session(self.opened, memory=book)

    def context(self, pem=None):
        return context_of(self.opened.authority, self.opened.pem if pem is None else pem)

    def connect(self, context=None):
        """One TLS connection; without a certificate if `context` has none."""
        plain = socket.create_connection(("127.0.0.1", self.where.port), timeout=PATIENCE)
        context = context or self.context()
        return context.wrap_socket(plain, server_hostname="localhost")

    def say(self, *parts, context=None):
        """Send these bytes; all that comes back until the gateway closes, or has answered."""
        with self.connect(context) as line:
            with contextlib.suppress(OSError):  # it may have closed already
                for part in parts:
                    line.sendall(part)
            return answer_of(line)

    def head(self, method="POST", path=INFER, *headers, token=True):
        lines = [f"{method} {path} HTTP/1.1", "host: localhost"]
        if token:
            lines.append(f"authorization: Bearer {self.opened.grant.token}")
        return "\r\n".join([*lines, *headers, "", ""]).encode()

    def ask(self, body=None, *headers, **more):
        body = body_of() if body is None else body
        length = f"content-length: {len(body)}"
        named = any(header.startswith("counterseal-purpose") for header in headers)
        purpose = [] if named else [f"counterseal-purpose: {PURPOSE}"]
        return self.say(self.head("POST", INFER, length, *purpose, *headers, **more), body)

    def is_well(self):
        return status_of(self.ask()) == 200


def answer_of(line):
    found = b""
    with contextlib.suppress(OSError):
        while part := line.recv(65536):
            found += part
            head, end, body = found.partition(b"\r\n\r\n")
            if end:
                lengths = [
                    int(one.partition(b":")[2])
                    for one in head.lower().split(b"\r\n")
                    if one.startswith(b"content-length:")
                ]
                if lengths and len(body) >= lengths[0]:
                    break
    return found


def status_of(answer):
    """0: the connection was closed without a word."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    with Town(tmp_path_factory.mktemp("street")) as town:
        yield Street(town)


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


LONG = 120_000
CHUNKED = "transfer-encoding: chunked"
BYTES = {
    "an honest request is answered": (lambda s: s.ask(), {200}),
    "65 headers are too many": (
        lambda s: s.say(s.head("POST", INFER, *(f"x-{n}: a" for n in range(65)))),
        {431},
    ),
    "17 KiB of headers are too many": (
        lambda s: s.say(s.head("POST", INFER, *(f"x-{n}: {'a' * 2000}" for n in range(9)))),
        {431},
    ),
    "one header of 17 KiB is too long": (
        lambda s: s.say(s.head("POST", INFER, f"x-a: {'a' * 17_000}")),
        {431},
    ),
    "an address of 17 KiB is too long": (
        lambda s: s.say(s.head("GET", "/v2/models/" + "a" * 17_000)),
        {431},
    ),
    "a body that says it is too long is not read": (
        lambda s: s.say(s.head("POST", INFER, f"content-length: {1 << 40}")),
        {413},
    ),
    "chunks that come to too much are not read on": (
        lambda s: s.say(s.head("POST", INFER, CHUNKED), *[chunk(b" " * 30_000)] * 5),
        {413},
    ),
    "a body is not compressed": (lambda s: s.ask(b"x", "content-encoding: gzip"), {400}),
    "a length that is no number is refused": (
        lambda s: s.say(s.head("POST", INFER, "content-length: many")),
        {400},
    ),
    "two lengths are refused": (
        lambda s: s.say(s.head("POST", INFER, "content-length: 1", "content-length: 2"), b"{}"),
        {400},
    ),
    "a length and chunks are refused": (
        lambda s: s.say(s.head("POST", INFER, "content-length: 1", CHUNKED), chunk(b"{}")),
        {400},
    ),
    "a length of the JSON that is no number is refused": (
        lambda s: s.ask(None, "inference-header-content-length: -1"),
        {400},
    ),
    "a length of the JSON beyond the body is refused": (
        lambda s: s.ask(None, "inference-header-content-length: 999999"),
        {400},
    ),
    "two purposes in two headers are refused": (
        lambda s: s.ask(
            None, f"counterseal-purpose: {PURPOSE}", "counterseal-purpose: advertising"
        ),
        {400},
    ),
    "two tokens are refused": (lambda s: s.ask(None, "authorization: Bearer x"), {400}),
    "a record id that is none is refused": (
        lambda s: s.ask(None, "counterseal-record: ../../x"),
        {400},
    ),
    "nonsense is refused": (lambda s: s.ask(b"\xff\x00{"), {400}),
    "nonsense instead of HTTP is refused": (lambda s: s.say(b"\x16\x03\x01\x00" * 100), {400, 0}),
    "no other protocol is switched to": (
        lambda s: s.say(
            s.head("GET", "/v2", "connection: upgrade", "upgrade: websocket",
                   "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-version: 13")
        ),
        {200, 400, 426},
    ),
    "a stranger's deed is not even read": (
        lambda s: s.say(
            s.head("POST", "/counterseal/v1/revocations", f"content-length: {LONG}", token=False),
            context=context_of(s.opened.authority),
        ),
        {401},
    ),
    "a stranger's request for a session is bounded": (
        lambda s: s.say(
            s.head("POST", "/counterseal/v1/sessions", f"content-length: {1 << 30}", token=False),
            context=context_of(s.opened.authority),
        ),
        {413},
    ),
    "a partner's deed is refused": (
        lambda s: s.say(
            s.head("POST", "/counterseal/v1/revocations", "content-length: 36"),
            b'{"grain": "model", "subject":"scan"}',
        ),
        {403},
    ),
    "a partner reads no metrics": (
        lambda s: s.say(s.head("GET", "/counterseal/v1/metrics")),
        {403},
    ),
    "a token without a certificate is none": (
        lambda s: s.say(s.head("GET", "/usage"), context=context_of(s.opened.authority)),
        {401},
    ),
    "a certificate without a token is none": (
        lambda s: s.say(s.head("GET", "/usage", token=False)),
        {401},
    ),
    "another token is none": (
        lambda s: s.say(
            s.head("GET", "/usage", f"authorization: Bearer {'x' * 90}", token=False)
        ),
        {401},
    ),
    "a path leads nowhere else": (
        lambda s: s.say(
            s.head("GET", f"/counterseal/v1/ledgers/{s.town.chain.charter.id}/../../lab.db")
        ),
        {404},
    ),
    "nor does one that is written otherwise": (
        lambda s: s.say(
            s.head(
                "GET",
                f"/counterseal/v1/ledgers/{s.town.chain.charter.id}/%2e%2e%2f%2e%2e%2fstate.db",
            )
        ),
        {404},
    ),
    "what only its owner has is not served": (
        lambda s: s.say(
            s.head("GET", f"/counterseal/v1/ledgers/{s.town.chain.charter.id}/private/keys")
        ),
        {404},
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", BYTES)
def test_bytes(sentence, street):
    send, wanted = BYTES[sentence]
    answer = send(street)
    assert status_of(answer) in wanted, answer[:300]
    assert b"Traceback" not in answer
    assert b"101 Switching" not in answer
    assert street.is_well()


def test_a_model_outside_of_the_charter_and_one_that_is_not_there_look_alike(street):
    def shown(path):
        answer = street.say(street.head("GET", path))
        return answer.replace(path.rpartition("/")[2].encode(), b"?").partition(b"\r\n\r\n")[2]

    assert shown("/v2/models/other") == shown("/v2/models/triage")
    assert b"NotServedError" in shown("/v2/models/other")


def test_another_authoritys_certificate_is_not_taken(street):
    """A certificate with the session's name, by an authority of the thief's own."""
    at = datetime.now(UTC)
    authority, key = Authority.create(at=at), TlsKey.create()
    pem, _ = authority.issue_client(
        key.public, subject=f"session {street.opened.grant.session}", at=at,
        until=at + timedelta(days=1),
    )  # fmt: skip
    answer = b""
    with contextlib.suppress(OSError):  # TLS 1.3: the client learns of it when it reads
        answer = street.say(street.head("GET", "/usage"), context=street.context(key.pem + pem))
    assert answer == b""
    assert street.is_well()


def test_older_tls_is_not_spoken(street):
    context = first_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        street.connect(context)


def test_nothing_is_said_without_tls(street):
    with socket.create_connection(("127.0.0.1", street.where.port), timeout=PATIENCE) as line:
        line.sendall(b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" not in answer_of(line)


def test_a_gateway_that_is_not_its_owners_is_noticed(street):
    """clinic expects rival's gateway at this address."""
    with pytest.raises(BadSignature):
        street.open(to=street.town.rival.history)


def test_a_server_of_another_authority_is_noticed(street):
    """The statement is the owner's, and the server behind it is not."""
    other = Authority.create(at=datetime.now(UTC)).certificate
    line = Line("localhost", street.where.port, context_of(other), seconds=PATIENCE)
    with pytest.raises(TrustError, match="authority"):
        line.ask("GET", "/v2")
    line.close()


def lying(session, change):
    """The session, at a gateway that changes what it says."""
    honest = session._line.ask

    def ask(method, path, **more):
        reply = honest(method, path, **more)
        if method != "POST":
            return reply
        headers = change({**reply.headers})
        return Reply(reply.status, headers, reply.body)

    session._line.ask = ask
    return session


FORGED = {
    "a receipt for another call": lambda h: {**h, "counterseal-record": "ab" * 16},
    "no receipt": lambda h: {k: v for k, v in h.items() if "record" not in k},
    "a key that is too short": lambda h: {**h, "counterseal-record-key": "ab"},
    "a key that is none": lambda h: {**h, "counterseal-record-key": "zz" * 32},
}


@pytest.mark.parametrize("sentence", FORGED)
def test_an_answer_without_its_receipt_is_refused(sentence, street):
    with lying(street.session(), FORGED[sentence]) as session, pytest.raises(PeerMisbehaved):
        session.model("scan").predict(onnx_model()[1])


def test_the_sdk_calls_and_verifies(street):
    with street.session() as session:
        rows = onnx_model()[1][:3]
        answer = session.model("scan").ask(rows)
        assert answer.outputs["label"].shape == (3,)
        before = session.usage.remaining["requests", "day"]
        session.model("scan").predict(rows)
        assert session.usage.remaining["requests", "day"] == before - 1
        us, charter = street.town.clinic.history.identity, street.town.chain.charter.id
        known = json.loads(session.get("/counterseal/v1/sessions").body)
        assert street.opened.grant.session in {one["id"] for one in known}
        name = sha256(bind("session", bytes.fromhex(street.opened.grant.session))).hex()
        witness.hand_out(street.town.store("clinic"), us, charter, name)  # to `Street.say`
        found = witness.verify(session, by=street.town.clinic, owner=street.town.lab.history)
        assert found.cosigned
        assert found.settled + found.waiting >= 2


def test_no_secret_is_said(street):
    """By the process in all of this, which was told to say much; nor by the client's objects."""
    street.ask()
    said = street.process.said.encode()
    session = street.session()
    shown = [repr(street.opened), repr(session), repr(street.opened.grant)]
    with session, pytest.raises(CountersealError) as caught:
        session.model("nothing").predict(onnx_model()[1])
    shown += [str(caught.value), repr(caught.value)]
    for secret in (PASSPHRASE, *street.secrets):
        assert secret not in said
        assert secret.decode() not in "".join(shown)
    assert b"BEGIN" not in said
    assert "Traceback" not in street.process.said


# --- several processes and one quota --------------------------------------------------------


def test_four_processes_share_one_quota_exactly(tmp_path):
    """Each asks for more than its part; together they get all of it, and nothing more."""
    with Town(tmp_path) as town:
        town.agree(limits={"quotas": (Quota(unit="requests", count=60, period="term"),)})
        gate = town.open()
        prepare_race(town, gate.session())
        gate.close()
        racers = [racer(town, number, 60) for number in range(4)]
        granted = [one.finish().count("+") for one in racers]
        assert sum(granted) == 60, granted
        gate = town.open()
        assert gate.used() == 60
        assert gate.events().count("call") == 60


def test_a_process_that_is_killed_gives_nothing_twice(tmp_path):
    with Town(tmp_path) as town:
        town.agree(limits={"quotas": (Quota(unit="requests", count=60, period="term"),)})
        gate = town.open()
        ticket = gate.session()
        prepare_race(town, ticket)
        gate.close()
        killed = racer(town, 0, 1000).until("+\n+\n+\n")
        killed.kill()
        before = killed.said.count("+")
        after = racer(town, 0, 100).finish().count("+")
        assert before + after <= 60
        gate = town.open()
        assert gate.used() <= 60
        assert gate.answer(ticket).status != 200


def test_a_worker_is_not_started_twice(tmp_path):
    with Town(tmp_path) as town:
        town.open()
        with pytest.raises(CountersealError, match="running already"):
            town.another(0)
