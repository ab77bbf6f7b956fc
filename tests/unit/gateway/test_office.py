"""The control plane without HTTP: sessions, what there is to see, what the owner does."""

import asyncio

import msgspec
import pytest
from gateway import Town
from gateway_attack import outcome

from counterseal.crypto.tls_authority import TlsKey
from counterseal.errors import CharterDenied, FormatError
from counterseal.gateway import office as offices
from counterseal.gateway import session as tokens
from counterseal.gateway.refusals import NotServedError
from counterseal.gateway.sessions import OWNERS_IDLE, OWNERS_SECONDS

pytest.importorskip("skl2onnx")


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path) as made:
        yield made


def run(coroutine):
    return asyncio.run(coroutine)


def test_the_statement_is_of_the_authority_that_signs_sessions(town):
    gate = town.open()
    stated = tokens.authority_of(gate.office.statement, of=town.lab.history)
    assert stated == gate.authority.certificate


def test_all_workers_and_all_starts_have_one_authority(town):
    gate = town.open()
    stated = gate.authority.certificate
    assert town.another(1).authority.certificate == stated
    assert town.restart().authority.certificate == stated


def test_a_session_lasts_as_long_as_the_charter_says(town):
    gate = town.open(session={"max_seconds": 1234, "idle_seconds": 77})
    grant = msgspec.json.decode(gate.office.open_session(gate.ask()), type=tokens.SessionGrant)
    assert grant.idle_seconds == 77
    assert 1230 < (grant.until - gate.now()).total_seconds() <= 1235


def test_an_owners_session_is_short(town):
    gate = town.open()
    request = gate.ask("lab", charter=None, purpose=None, role="owner")
    grant = msgspec.json.decode(gate.office.open_session(request), type=tokens.SessionGrant)
    assert grant.idle_seconds == OWNERS_IDLE
    assert (grant.until - gate.now()).total_seconds() <= OWNERS_SECONDS + 1


@pytest.mark.parametrize("role", ["analyst", "auditor"])
def test_the_owner_comes_as_owner_or_steward(town, role):
    gate = town.open()
    assert gate.owner(role="steward")
    with pytest.raises(CharterDenied, match="owner or steward"):
        gate.owner(role=role)


def test_the_owner_calls_no_model_by_the_owners_session(town):
    gate = town.open()
    assert outcome(lambda: gate.call(gate.owner())) == "CharterDenied"


def test_a_sessions_key_is_a_p256_key(town):
    gate = town.open()
    for public in (b"", bytes(91), TlsKey.create().public + b"\x00"):
        with pytest.raises(FormatError, match="P-256"):
            gate.session(public=public)


def test_so_many_sessions_are_open_under_one_charter(town, monkeypatch):
    monkeypatch.setattr(offices, "MOST_SESSIONS", 3)
    gate = town.open()
    tickets = [gate.session() for _ in range(3)]
    with pytest.raises(CharterDenied, match="3 sessions"):
        gate.session()
    run(gate.office.end_session(gate.visitor(tickets[0]), tickets[1].id))
    assert gate.session()


def test_opening_and_ending_a_session_stand_in_the_ledger(town):
    gate = town.open()
    ticket = gate.session()
    assert run(gate.office.end_session(gate.visitor(ticket), ticket.id))
    opened, ended = gate.entries()
    assert [(one.event, one.action) for one in (opened, ended)] == [
        ("session", "open"),
        ("session", "end"),
    ]
    assert opened.session == ended.session
    assert ticket.id not in (opened.session, ended.session)


def test_nobody_ends_a_session_of_another_partner(town):
    town.agree_with_rival()
    gate = town.open()
    ticket, theirs = gate.session(), gate.session("rival")
    assert not run(gate.office.end_session(gate.visitor(ticket), theirs.id))
    assert not run(gate.office.end_session(gate.visitor(ticket), "00" * 16))
    assert gate.call(theirs)
    assert run(gate.office.end_session(gate.visitor(gate.owner()), theirs.id))
    assert outcome(lambda: gate.call(theirs)) == "SessionExpired"


def test_a_partner_of_a_suspended_charter_can_still_look(town):
    gate = town.open()
    ticket = gate.session(role="auditor")
    town.suspend()
    gate.desk.poll()
    visitor = gate.visitor(ticket)
    charter = town.chain.charter.id
    assert gate.office.usage(visitor, None)
    assert run(gate.office.ledger_file(visitor, charter, "checkpoint"))
    assert gate.office.chain(visitor, charter) == town.chain.document.encode()


def test_a_ledger_has_its_own_resources_and_nothing_else(town):
    gate = town.open()
    visitor = gate.visitor(gate.session(role="auditor"))
    charter = town.chain.charter.id
    assert run(gate.office.ledger_file(visitor, charter, "key.json"))
    for path in ("", "private/keys", "../state.db", "tile/../key.json", "/etc/passwd", "tile/x"):
        with pytest.raises(FileNotFoundError):
            run(gate.office.ledger_file(visitor, charter, path))


def test_the_owner_sees_every_model_and_what_is_tried_out(town):
    town.models["scan@1.0.1"] = town.models["other@1.0.0"] = town.models["scan@1.0.0"]
    gate = town.open()
    owner = gate.visitor(gate.owner())
    run(gate.office.try_out(owner, "scan", "1.0.1", permille=100, shadow=False))
    run(gate.office.point(owner, "scan", "stable", "1.0.0"))
    gate.desk.sync()
    other, scan = gate.office.models(owner)
    assert other["name"] == "other"
    assert scan["canary"] == {"version": "1.0.1", "permille": 100, "shadow": False}
    assert scan["aliases"] == {"stable": "1.0.0"}
    (seen,) = gate.office.models(gate.visitor(gate.session()))
    assert seen["canary"] is None
    assert [*seen["versions"]] == ["1.0.0", "1.0.1"]


def test_what_is_given_back_is_allowed_again(town):
    gate = town.open()
    ticket, owner = gate.session(), gate.visitor(gate.owner())
    run(gate.office.revoke(owner, "model", "scan", reason=None, lift=False))
    assert outcome(lambda: gate.call(ticket)) == "CharterDenied"
    assert run(gate.office.revoke(owner, "model", "scan", reason=None, lift=True))
    assert gate.call(ticket)


def test_there_is_no_such_charter_for_the_owner_either(town):
    gate = town.open()
    with pytest.raises(NotServedError):
        gate.office.usage(gate.visitor(gate.owner()), "ab" * 16)
