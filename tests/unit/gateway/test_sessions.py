"""Sessions in the state: found again by every worker, for as long as they count."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from workshop import AT

from counterseal.errors import SessionExpired
from counterseal.gateway.sessions import Sessions
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault

CHARTER = "c0" * 16
CERTIFICATE = bytes(range(32))
SECOND = timedelta(seconds=1)


@pytest.fixture
def vault():
    return Vault(MemoryState(), protect=lambda s, label: s, unprotect=lambda h, label: h)


def request_of(charter=CHARTER):
    return SimpleNamespace(
        charter=charter, version="d0" * 32, identity="22" * 32, card="33" * 32,
        role="analyst", purpose="diagnosis",
    )  # fmt: skip


def opened(sessions, *, charter=CHARTER, at=AT, most=3600, idle=600):
    return sessions.open(
        request_of(charter),
        side="partner",
        max_seconds=most,
        idle_seconds=idle,
        certificate=lambda _session, _until: CERTIFICATE,
        at=at,
    )


def find(sessions, token, at=AT):
    return sessions.find(token, CERTIFICATE.hex(), at=at)


def test_another_worker_finds_a_session(vault):
    record, token = opened(Sessions(vault))
    found = find(Sessions(vault), token)
    assert found.record == record
    assert found.digest == record.digest != record.id


def test_a_session_of_another_gateway_is_none(vault):
    _, token = opened(Sessions(vault))
    other = Vault(MemoryState(), protect=lambda s, label: s, unprotect=lambda h, label: h)
    with pytest.raises(SessionExpired):
        find(Sessions(other), token)


@pytest.mark.parametrize(("token", "certificate"), [(None, "ab" * 32), ("x", None)])
def test_both_the_token_and_the_certificate_are_needed(vault, token, certificate):
    with pytest.raises(SessionExpired):
        Sessions(vault).find(token, certificate, at=AT)


def test_a_session_ends_by_its_time_however_busy_it_is(vault):
    sessions = Sessions(vault)
    _, token = opened(sessions, most=100)
    for second in range(0, 100, 10):
        assert find(sessions, token, AT + second * SECOND)
    with pytest.raises(SessionExpired, match="ended at"):
        find(sessions, token, AT + 100 * SECOND)


def test_a_session_that_is_busy_elsewhere_is_not_idle(vault):
    one, other = Sessions(vault), Sessions(vault)
    _, token = opened(one, idle=100)
    find(one, token)
    for second in range(30, 301, 30):
        find(other, token, AT + second * SECOND)
    assert find(one, token, AT + 350 * SECOND)


def test_a_session_that_nobody_used_is_over(vault):
    one, other = Sessions(vault), Sessions(vault)
    _, token = opened(one, idle=100)
    find(other, token)
    assert find(one, token, AT + 100 * SECOND)
    with pytest.raises(SessionExpired, match="idle"):
        find(other, token, AT + 201 * SECOND)


def test_that_a_session_ended_is_seen_when_everything_is_forgotten(vault):
    one, other = Sessions(vault), Sessions(vault)
    record, token = opened(one)
    find(other, token)
    assert one.end(record.id, CHARTER, why="a test")
    assert not one.end(record.id, CHARTER, why="again")
    assert not one.end("00" * 16, CHARTER, why="there is none")
    other.forget()
    with pytest.raises(SessionExpired, match="a test"):
        find(other, token)


def test_the_reason_is_told_to_the_sessions_own_client_alone(vault):
    sessions = Sessions(vault)
    record, token = opened(sessions)
    sessions.end(record.id, CHARTER, why="a test")
    sessions.forget()
    with pytest.raises(SessionExpired, match="no such session"):
        sessions.find(token, "ab" * 32, at=AT)
    with pytest.raises(SessionExpired, match="no such session"):
        find(sessions, token[:-1] + ("A" if token[-1] != "A" else "B"))


def test_records_of_long_ago_are_dropped(vault):
    sessions = Sessions(vault)
    old, _ = opened(sessions, most=10)
    new, _ = opened(sessions, most=1000, at=AT + SECOND)
    assert sessions.list(CHARTER) == [old, new]
    assert sessions.sweep(CHARTER, before=AT + 100 * SECOND) == 1
    assert sessions.list(CHARTER) == [new]


def test_sessions_are_of_their_charter_and_the_owners_of_none(vault):
    sessions = Sessions(vault)
    opened(sessions)
    owners, token = opened(sessions, charter=None)
    assert sessions.list(None) == [owners]
    assert find(sessions, token).record.charter is None
    assert len(sessions.list(CHARTER)) == 1
    assert sessions.list("c1" * 16) == []
