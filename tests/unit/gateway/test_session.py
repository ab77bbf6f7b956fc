"""Statements of gateways, requests for sessions and tokens, as values."""

from datetime import timedelta

import pytest
from workshop import AT

from counterseal.crypto.digest import sha256
from counterseal.crypto.tls_authority import Authority, TlsKey
from counterseal.errors import BadSignature, FormatError, RevokedKey, SessionExpired, TrustError
from counterseal.gateway import session as tokens

CHARTER, VERSION = "c0" * 16, "d0" * 32
KEY, SESSION, CERTIFICATE = bytes(32), bytes(16), bytes(range(32))


@pytest.fixture(scope="module")
def authority():
    return Authority.create(at=AT)


@pytest.fixture
def asked(cast, authority):
    def ask(by=None, **changes):
        fields = {
            "gateway": cast.lab.history.identity,
            "authority": authority.certificate,
            "charter": (CHARTER, VERSION),
            "role": "analyst",
            "purpose": "diagnosis",
            "public": TlsKey.create().public,
            "nonce": bytes(16),
            "at": AT,
            **changes,
        }
        return tokens.ask(by=by or cast.clinic, **fields)

    return ask


def read(cast, authority, data, **changes):
    fields = {
        "us": cast.lab.history.identity,
        "authority": authority.certificate,
        "known": cast.clinic.history,
        "at": AT,
        **changes,
    }
    return tokens.read_request(data, **fields)


def test_a_statement_says_which_authority_is_the_owners(cast, authority):
    statement = tokens.state(authority.certificate, by=cast.lab, at=AT)
    assert tokens.authority_of(statement, of=cast.lab.history) == authority.certificate


def test_a_statement_of_another_owner_is_not_the_owners(cast, authority):
    statement = tokens.state(authority.certificate, by=cast.rival, at=AT)
    with pytest.raises(BadSignature):
        tokens.authority_of(statement, of=cast.lab.history)


def test_a_statement_outlives_a_rotation_and_no_revocation(cast, authority):
    statement = tokens.state(authority.certificate, by=cast.lab, at=AT)
    card = cast.lab.key_id
    cast.lab.rotate(at=AT)
    assert tokens.authority_of(statement, of=cast.lab.history) == authority.certificate
    cast.lab.revoke(which=card, reason="compromised", at=AT)
    with pytest.raises(RevokedKey):
        tokens.authority_of(statement, of=cast.lab.history)


def test_a_request_says_everything_that_a_session_is(cast, authority, asked):
    request = read(cast, authority, asked())
    assert request.charter == CHARTER
    assert request.version == VERSION
    assert (request.role, request.purpose) == ("analyst", "diagnosis")
    assert request.authority == sha256(authority.certificate).hex()
    assert request.identity == cast.clinic.history.identity == tokens.claimed(asked())


@pytest.mark.parametrize("seconds", [-150, 0, 150])
def test_a_request_is_of_now(cast, authority, asked, seconds):
    assert read(cast, authority, asked(at=AT + timedelta(seconds=seconds)))


@pytest.mark.parametrize("seconds", [-151, 151])
def test_a_request_that_is_not_of_now_is_refused(cast, authority, asked, seconds):
    with pytest.raises(TrustError, match="not of now"):
        read(cast, authority, asked(at=AT + timedelta(seconds=seconds)))


def test_a_charter_without_its_version_is_refused(cast, authority, asked):
    with pytest.raises(FormatError):
        read(cast, authority, asked(charter=(CHARTER, None)))


def test_what_is_no_request_is_refused(cast, authority):
    for data in (b"", b"{}", b"[" * 100_000, b"\xff" * 10, bytes(200_000)):
        with pytest.raises(FormatError):
            read(cast, authority, data)


@pytest.mark.parametrize("charter", [CHARTER, None])
def test_a_token_says_where_its_session_is_kept(charter):
    token = tokens.token_of(KEY, SESSION, charter, CERTIFICATE)
    assert tokens.session_of(token) == (SESSION, charter)
    assert tokens.same_token(token, token)


def test_a_token_is_of_one_session_one_charter_and_one_certificate():
    made = {
        tokens.token_of(key, session, charter, certificate).rpartition(".")[2]
        for key in (KEY, bytes(31) + b"\x01")
        for session in (SESSION, bytes(15) + b"\x01")
        for charter in (CHARTER, None)
        for certificate in (CERTIFICATE, bytes(32))
    }
    assert len(made) == 16


@pytest.mark.parametrize(
    "token",
    ["", "cs1.", "cs1...", "cs1.AA.AA.AA", "cs2.x.y.z", "cs1.a.b.c.d", "cs1.é.b.c", "c" * 129],
)
def test_what_is_no_token_is_no_session(token):
    with pytest.raises(SessionExpired, match="no such session"):
        tokens.session_of(token)


def test_a_grant_does_not_show_its_token():
    grant = tokens.SessionGrant(
        kind="session-grant", format=1, session="00" * 16, token="cs1.secret", certificate="c",
        until=AT, idle_seconds=1,
    )  # fmt: skip
    assert "secret" not in repr(grant)
