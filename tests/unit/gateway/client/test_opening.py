"""How a partner opens a session: whose gateway is it, and what may be asked of it.

The line is replaced: what a gateway may say here is what a hostile one could. Honest ones, and
forged statements over real TLS, are in tests/attacks/test_gateway_line.py.
"""

from types import SimpleNamespace

import msgspec
import pytest
from charters import a_charter
from workshop import AT

from counterseal.crypto.tls_authority import Authority
from counterseal.errors import (
    BadSignature,
    CharterDenied,
    FormatError,
    PeerMisbehaved,
)
from counterseal.gateway import session as tokens
from counterseal.gateway.client import opening
from counterseal.gateway.client.line import Reply
from counterseal.gateway.client.opening import Where, open_session
from counterseal.gateway.refusals import refusal
from counterseal.gateway.session import SessionGrant
from counterseal.wire import canonical


@pytest.fixture(scope="module")
def authority():
    return Authority.create(at=AT)


GRANT = canonical.encode(
    SessionGrant(
        kind="session-grant", format=1, session="5e" * 16, token="cs1.secret",
        certificate="-----BEGIN", until=AT, idle_seconds=900,
    )
)  # fmt: skip


@pytest.fixture
def gateway(cast, authority, monkeypatch):
    """One that says these things, in their order: its statement, then its answer."""
    told = SimpleNamespace(
        statement=Reply(200, {}, tokens.state(authority.certificate, by=cast.lab, at=AT)),
        answer=Reply(200, {}, GRANT),
        asked=[],
        closed=0,
    )

    class Line:
        def __init__(self, host, port, context, *, seconds):
            self.context = context

        def ask(self, method, path, *, body=None, most):
            told.asked.append((method, path, body, self.context.verify_mode))
            return told.statement if method == "GET" else told.answer

        def close(self):
            told.closed += 1

    monkeypatch.setattr(opening, "Line", Line)
    return told


def opened(cast, **changes):
    fields = {
        "by": cast.clinic,
        "to": cast.lab.history,
        "charter": a_charter(),
        "role": "analyst",
        "purpose": "diagnosis",
        "at": AT,
        **changes,
    }
    return open_session(Where("lab.example", 8443), **fields)


def test_a_session_is_asked_for_under_the_version_that_we_hold(cast, gateway, authority):
    found = opened(cast)
    assert found.grant.token == "cs1.secret"
    assert found.authority == authority.certificate
    request = tokens.read_request(
        gateway.asked[-1][2],
        us=cast.lab.history.identity,
        authority=authority.certificate,
        known=cast.clinic.history,
        at=AT,
    )
    assert (request.charter, request.version) == (a_charter().id, a_charter().digest)
    assert (request.role, request.purpose) == ("analyst", "diagnosis")
    assert gateway.closed == 2


def test_nothing_is_asked_before_the_statement_is_good(cast, gateway, authority):
    for statement in (
        tokens.state(authority.certificate, by=cast.rival, at=AT),
        b"{}",
        b"",
        b"x" * 10,
    ):
        gateway.statement = Reply(200, {}, statement)
        with pytest.raises((BadSignature, FormatError)):
            opened(cast)
    assert [method for method, *_ in gateway.asked] == ["GET"] * 4


def test_the_request_goes_over_tls_of_the_stated_authority_only(cast, gateway):
    opened(cast)
    first, second = (mode for *_, mode in gateway.asked)
    assert first.name == "CERT_NONE"
    assert second.name == "CERT_REQUIRED"


def test_what_is_no_gateway_is_said_so(cast, gateway):
    gateway.statement = Reply(404, {}, b"")
    with pytest.raises(PeerMisbehaved, match="no counterseal gateway"):
        opened(cast)


def test_a_refusal_is_raised_as_what_it_is(cast, gateway):
    said = refusal(CharterDenied("no such role", hint="come as analyst"))
    gateway.answer = Reply(said.status, {}, said.body(None))
    with pytest.raises(CharterDenied, match="no such role"):
        opened(cast)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", GRANT[:-5], GRANT.replace(b"5e5e", b"zzzz")])
def test_a_grant_that_is_none_is_refused(cast, gateway, data):
    gateway.answer = Reply(200, {}, data)
    with pytest.raises(FormatError):
        opened(cast)


def test_every_session_has_a_key_and_a_nonce_of_its_own(cast, gateway):
    one, other = opened(cast), opened(cast)
    assert one.key != other.key
    assert gateway.asked[1][2] != gateway.asked[3][2]
    assert msgspec.json.encode(one) != msgspec.json.encode(other)


def test_the_owners_own_session_is_under_no_charter(cast, gateway):
    found = opened(cast, by=cast.lab, charter=None, role="owner", purpose=None)
    assert (found.charter, found.purpose) == (None, None)
