"""Attacks on a gateway, by partners, strangers, thieves, and by whoever has its home or its clock.

lab serves `scan` to clinic. What the attacker wants: an answer, a session or a look that the
charter does not give him. Each row is prepared in a town of its own and must be refused for the
reason that is named; without the check that is said to stop it, it has to work.
"""

import os
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from charters import amended
from gateway import Refused, Town, body_of, keys_of
from gateway_attack import Attack, attack, cut, outcome
from workshop import undefended

from counterseal.charter.document import Asset, Quota, Rate
from counterseal.crypto.tls_authority import Authority
from counterseal.errors import CountersealError
from counterseal.gateway import session as tokens
from counterseal.gateway.clock import SteadyClock
from counterseal.gateway.session import REQUEST_TYPE, SessionRequest
from counterseal.wire import canonical
from counterseal.wire.dsse import Envelope

pytest.importorskip("skl2onnx")

FIND = "gateway.sessions:Sessions.find"
READ = "gateway.session:read_request"
CHECK = "gateway.office:Office._check"
AGE = "gateway.sessions:Sessions._check_age"
ADMIT = "gateway.pipeline:Pipeline._admit"
REVOKED = "gateway.revocations:Revoked."

ANY_CERTIFICATE = cut(FIND, "held.record.certificate != certificate", "False")
ANY_TOKEN = cut(FIND, "not same_token(held.token, token)", "False")
NEVER_ENDED = cut(FIND, "held.record.ended is not None", "False")
NEVER_OVER = cut(AGE, "at >= held.record.until", "False")
NEVER_IDLE = cut(AGE, "> idle:\n        raise", "> idle and False:\n        raise")
ANY_GATEWAY = cut(
    READ, "request.gateway != us or request.authority != sha256(authority).hex()", "False"
)
ANY_TIME = cut(READ, "abs(request.at - at) > FRESH", "False")
ANY_SIGNATURE = cut(READ, "signed.verify(envelope, REQUEST_TYPE, by=card.signing.key())")
ANY_CARD = cut(READ, "request.card != known.current(at=at).key_id", "False")
ANY_NONCE = cut(
    "gateway.office:Office.open_session",
    "not desk.shared.first_time(nonce, now=int(desk.clock.seconds() * 1e9))",
    "False",
)
ANY_PARTNER = cut(
    "gateway.office:Office.open_session",
    "served is None or request.identity != served.charter.partner.identity",
    "served is None",
)
ANYBODY_OWNS = cut("gateway.office:Office._read", "(request.charter is None) != ours", "False")
ANYBODY_VISITS = cut(
    "gateway.office:Office.visitor", "held.record.identity != self._us.identity", "False"
)
ANY_VERSION = cut(CHECK, "request.version != charter.digest", "False")
ANY_ROLE = cut(CHECK, "request.role not in charter.partner.roles", "False")
ANY_PURPOSE = cut(CHECK, "request.purpose not in charter.purpose.allowed", "False")
ANY_STATE = cut(CHECK, "served.check_active(at)")
ANY_PINNED = cut("gateway.desk:Desk.check", "self.check_pinned(held)")
ANY_RECORD = cut(
    ADMIT, "case.arrival.record is not None and not desk.first_time(served, case.id)", "False"
)
ANY_RATE = cut(ADMIT, "if wait:", "if False:")
ANY_NUMBER = cut(ADMIT, "running > most", "False")
ENTERED = cut("gateway.shared:Shared.enter", "running < limit", "True")
NO_DECISION = cut("gateway.pipeline:Pipeline._decide", "not decision.allowed", "False")
NO_QUOTA = cut("gateway.pipeline:Pipeline._decide", "not reservation.granted", "False")
TWO_PURPOSES = cut(
    "gateway.pipeline:Pipeline._answer",
    "one_purpose(arrival.purpose, draft.purpose)",
    "arrival.purpose or draft.purpose",
)
CLOCK_GOES_BACK = cut(
    "gateway.clock:SteadyClock.seconds",
    "max(self._offset, self._wall() - steady)",
    "self._wall() - steady",
)
PERIODS_GO_BACK = cut("gateway.quota:Quotas._enter", "start > held.start", "start != held.start")
COUNTERS_GO_BACK = cut(
    "gateway.quota:Quotas._current", "counter.start < held.start", "counter.start != held.start"
)
PERIODS_ARE_LOOKED_UP = cut("gateway.quota:Quotas.reserve", "at >= self._until", "True")
ANY_START = cut(
    "gateway.clock:SteadyClock.__init__",
    "seen is not None and now < int(seen) - AHEAD.total_seconds()",
    "False",
)
NO_EPOCH = cut("gateway.desk:Desk.sync", "epoch != self._epoch", "self._epoch == -1")
NO_WATCH = cut("gateway.desk:Desk.sync", "not self.watch.alive(time.monotonic())", "False")
NO_OTHER_NODE = cut(
    "jobs.agreements:HomeAgreements._at_home", "mine.newer(other)", 'raise RolledBack("older")'
)
NO_MARK = cut("gateway.served:_check_mark", "if before is not None and (", "if False and (")
ANY_MODEL = cut("gateway.desk:Desk.choose", "served.charter.asset(model) is None", "False")
ANY_OFFER = cut(
    "gateway.registry:Registry._choose", "self.covered(model, charter)", "self.offers[model]"
)
ALL_SEEN = cut(
    "gateway.office:Office._seen",
    "found = [visitor.served]",
    "found = [one for key, one in self.desk.served.items() if charter in (None, key)]",
)
ALL_READ = cut(
    "gateway.office:Office._readable",
    'record.side == "partner" and record.role not in served.charter.audit.readers',
    "False",
)
EVERYBODY_OWNS = cut("gateway.office:Office._owner", "visitor.served is not None", "False")


@pytest.fixture
def town(tmp_path, monkeypatch):  # in this order: it is closed as it was opened
    with Town(tmp_path) as made:
        yield made


def running(coroutine):
    import asyncio

    return asyncio.run(coroutine)


# --- whose session it is --------------------------------------------------------------------


@attack("SessionExpired", ANY_CERTIFICATE)
def stolen_token(town):
    gate = town.open()
    stolen = gate.session()
    thief = gate.session()
    return lambda: gate.call(replace(stolen, certificate=thief.certificate))


@attack("SessionExpired", ANY_TOKEN)
def made_up_token(town):
    gate = town.open()
    ticket = gate.session()
    forged = tokens.token_of(
        bytes(32),
        bytes.fromhex(ticket.id),
        town.chain.charter.id,
        bytes.fromhex(ticket.certificate),
    )
    gate.call(ticket)  # the worker has met this session
    return lambda: gate.call(replace(ticket, token=forged))


@attack("SessionExpired")
def no_certificate(town):
    gate = town.open()
    ticket = gate.session()
    return lambda: gate.call(replace(ticket, certificate=None))


@attack("SessionExpired", NEVER_ENDED)
def ended_session(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    running(gate.office.end_session(gate.visitor(ticket), ticket.id))
    return lambda: gate.call(ticket)


@attack("SessionExpired", NEVER_OVER)
def old_session(town):
    gate = town.open(session={"max_seconds": 600})
    ticket = gate.session()
    town.clock.wait(seconds=601)
    return lambda: gate.call(ticket)


@attack("SessionExpired", NEVER_IDLE)
def idle_session(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    town.clock.wait(seconds=901)
    return lambda: gate.call(ticket)


@attack("SessionExpired", CLOCK_GOES_BACK)
def session_kept_alive_by_the_clock(town):
    gate = town.open(session={"max_seconds": 600})
    ticket = gate.session()
    town.clock.wait(seconds=500)
    gate.call(ticket)
    town.clock.set_back(seconds=400)
    town.clock.wait(seconds=200)
    return lambda: gate.call(ticket)


# --- how a session begins -------------------------------------------------------------------


def opens(gate, request):
    return lambda: bool(gate.open(request).token)


@attack("TrustError", ANY_GATEWAY)
def request_for_another_authority(town):
    gate = town.open()
    other = Authority.create(at=gate.now()).certificate
    return opens(gate, gate.ask(authority=other))


@attack("TrustError", ANY_GATEWAY)
def request_for_another_owner(town):
    gate = town.open()
    return opens(gate, gate.ask(gateway=town.rival.history.identity))


@attack("ReplayedMessage", ANY_NONCE)
def request_twice(town):
    gate = town.open()
    return opens(gate, gate.session().request)


@attack("ReplayedMessage", ANY_NONCE)
def request_twice_at_another_worker(town):
    request = town.open().session().request
    return opens(town.another(1), request)


@attack("ReplayedMessage", ANY_NONCE)
def request_twice_as_late_as_can_be(town):
    """It comes as early as a clock may be ahead, when old ids are about to be forgotten."""
    gate = town.open()
    gate.session()
    town.clock.wait(seconds=299)
    request = gate.session(at=gate.now() + timedelta(seconds=149)).request
    town.clock.wait(seconds=2)
    gate.session()  # the ids so far are now the older ones
    town.clock.wait(seconds=295)
    return opens(gate, request)


@attack("TrustError", ANY_TIME)
def request_of_yesterday(town):
    gate = town.open()
    return opens(gate, gate.ask(at=gate.now() - timedelta(hours=20)))


@attack("TrustError", ANY_TIME)
def request_of_tomorrow(town):
    gate = town.open()
    return opens(gate, gate.ask(at=gate.now() + timedelta(hours=1)))


@attack("TrustError")
def request_of_a_stranger(town):
    gate = town.open()
    return opens(gate, gate.ask(keys_of("stranger")))


def in_the_name_of(town, gate, name, *, signed_by):
    """Somebody's request, signed by somebody else."""
    envelope = canonical.decode(gate.ask(name), Envelope, limit=100_000, what="it")
    asked = canonical.decode(envelope.payload, SessionRequest, limit=100_000, what="it")
    return canonical.encode(town.identity(signed_by).sign(asked, REQUEST_TYPE, at=gate.now()))


@attack("TrustError", ANY_SIGNATURE)
def request_in_anothers_name(town):
    gate = town.open()
    return opens(gate, in_the_name_of(town, gate, "clinic", signed_by="rival"))


@attack("CharterDenied", ANY_PARTNER)
def session_under_anothers_charter(town):
    gate = town.open()
    return opens(gate, gate.ask("rival"))


def rotated(town, gate, *, revoke=False):
    """clinic has a new card, which lab knows. Returns clinic as a thief of the old keys is."""
    old = town.clinic
    thief = type(old)(old.history, old._ring, store=old.store)
    old.rotate(at=gate.now())
    if revoke:
        old.revoke(which=thief.key_id, reason="compromised", at=gate.now())
    tell(town, gate)
    return thief


def tell(town, gate):
    """lab takes clinic's newest card."""
    town.partners("lab").refresh("clinic", town.clinic.card())
    gate.desk.poll()


@attack("TrustError", ANY_CARD)
def request_with_a_replaced_key(town):
    gate = town.open()
    return opens(gate, gate.ask(rotated(town, gate)))


@attack("RevokedKey", ANY_CARD)
def request_with_a_revoked_key(town):
    gate = town.open()
    rotated(town, gate)  # the charter was signed with the key before: it stays in force
    request = gate.ask()
    town.clinic.revoke(reason="compromised", at=gate.now())
    tell(town, gate)
    return opens(gate, request)


@attack("TrustError", ANY_PINNED)
def session_of_a_revoked_key(town):
    """The thief opened it before anybody noticed."""
    gate = town.open()
    rotated(town, gate)
    ticket = gate.session()
    gate.call(ticket)
    rotated(town, gate, revoke=True)
    return lambda: gate.call(ticket)


@attack("RolledBack", ANY_VERSION)
def older_version_of_the_charter(town):
    gate = town.open()
    old = town.chain.charter
    town.amend(limits={"rows_per_request": 10})
    gate.desk.poll()
    return opens(gate, gate.ask(charter=(old.id, old.digest)))


@attack("RolledBack", ANY_VERSION)
def charter_that_nobody_signed(town):
    gate = town.open()
    wide = amended(town.chain.charter, limits={"rows_per_request": 4096})
    return opens(gate, gate.ask(charter=(wide.id, wide.digest)))


@attack("CharterDenied", ANY_ROLE)
def role_that_the_charter_does_not_give(town):
    gate = town.open()
    return opens(gate, gate.ask(role="steward"))


@attack("PurposeMismatch", ANY_PURPOSE)
def prohibited_purpose(town):
    gate = town.open()
    return opens(gate, gate.ask(purpose="advertising"))


@attack("CharterDenied", ANY_STATE)
def session_under_a_suspended_charter(town):
    gate = town.open()
    town.suspend()
    gate.desk.poll()
    return opens(gate, gate.ask())


@attack("CharterDenied", ANYBODY_OWNS, ANYBODY_VISITS)
def session_as_the_owner(town):
    gate = town.open()
    request = gate.ask(charter=None, purpose=None, role="owner")
    return lambda: bool(gate.office.metrics(gate.visitor(gate.open(request))))


# --- what is called -------------------------------------------------------------------------


@attack("ReplayedMessage", ANY_RECORD)
def record_twice(town):
    gate = town.open()
    ticket, record = gate.session(), os.urandom(16).hex()
    gate.call(ticket, record=record)
    return lambda: gate.call(ticket, record=record)


@attack("ReplayedMessage", ANY_RECORD)
def record_twice_at_another_worker(town):
    gate = town.open()
    ticket, record = gate.session(), os.urandom(16).hex()
    gate.call(ticket, record=record)
    second = town.another(1)
    return lambda: second.call(ticket, record=record)


@attack("ReplayedMessage", ANY_RECORD)
def record_twice_after_a_restart(town):
    gate = town.open()
    ticket, record = gate.session(), os.urandom(16).hex()
    gate.call(ticket, record=record)
    gate = town.restart()
    return lambda: gate.call(ticket, record=record)


@attack("CharterDenied", NO_DECISION)
def role_that_does_not_predict(town):
    gate = town.open()
    ticket = gate.session(role="auditor")
    return lambda: gate.call(ticket)


@attack("PurposeMismatch", NO_DECISION)
def no_purpose(town):
    gate = town.open()
    ticket = gate.session()
    return lambda: gate.call(ticket, purpose=None)


@attack("PurposeMismatch", NO_DECISION)
def another_purpose_than_the_sessions(town):
    gate = town.open()
    ticket = gate.session()
    return lambda: gate.call(ticket, purpose="research")


@attack("PurposeMismatch", TWO_PURPOSES)
def two_purposes(town):
    gate = town.open()
    ticket = gate.session()
    return lambda: gate.call(ticket, body_of(purpose="advertising"))


@attack("CharterDenied", NO_DECISION)
def too_many_rows(town):
    gate = town.open(limits={"rows_per_request": 2})
    ticket = gate.session()
    return lambda: gate.call(ticket, body_of(3))


@attack("CharterDenied", NO_DECISION)
def too_many_bytes(town):
    gate = town.open(limits={"bytes_per_request": 400})
    ticket = gate.session()
    return lambda: gate.call(ticket, body_of(2))


@attack("CharterDenied", NO_DECISION)
def from_another_network(town):
    gate = town.open(limits={"networks": ("192.0.2.0/24",)})
    ticket = gate.session()
    return lambda: gate.call(ticket, address="198.51.100.7")


@attack("NotServedError", ANY_MODEL, ANY_OFFER, NO_DECISION)
def model_of_another_charter(town):
    town.models["other@1.0.0"] = town.models["scan@1.0.0"]
    gate = town.open()
    ticket = gate.session()
    return lambda: gate.call(ticket, model="other")


@attack("NotServedError", ANY_OFFER, NO_DECISION)
def version_of_another_charter(town):
    town.models["scan@2.0.0"] = town.models["scan@1.0.0"]
    gate = town.open()
    ticket = gate.session()
    return lambda: gate.call(ticket, version="2.0.0")


@attack("NotServedError", ANY_OFFER, NO_DECISION)
def model_with_another_digest(town):
    gate = town.open(assets=(Asset(name="scan", versions="~1.0", digests=("d1" * 32,)),))
    ticket = gate.session()
    return lambda: gate.call(ticket)


# --- how much -------------------------------------------------------------------------------


@attack("QuotaExceeded", NO_DECISION, NO_QUOTA)
def one_more_than_the_quota(town):
    gate = town.open(limits={"quotas": (Quota(unit="requests", count=3, period="day"),)})
    ticket = gate.session()
    for _ in range(3):
        gate.call(ticket)
    return lambda: gate.call(ticket)


@attack("QuotaExceeded", NO_DECISION, NO_QUOTA)
def one_more_than_the_quota_after_a_restart(town):
    gate = town.open(limits={"quotas": (Quota(unit="requests", count=3, period="day"),)})
    ticket = gate.session()
    for _ in range(3):
        gate.call(ticket)
    gate = town.restart()
    return lambda: gate.call(ticket)


@attack("QuotaExceeded", CLOCK_GOES_BACK, PERIODS_ARE_LOOKED_UP, PERIODS_GO_BACK, COUNTERS_GO_BACK)
def quota_of_an_hour_that_is_over(town):
    """The clock is set back into an hour of which little was used."""
    gate = town.open(limits={"quotas": (Quota(unit="requests", count=2, period="hour"),)})
    town.clock.wait(hours=1)
    ticket = gate.session()
    gate.call(ticket)
    gate.call(ticket)
    town.clock.set_back(hours=1)
    return lambda: gate.call(replace(ticket))


@attack("QuotaExceeded", ANY_RATE)
def faster_than_the_rate(town):
    gate = town.open(limits={"rate": Rate(count=1, seconds=60, burst=1)})
    ticket = gate.session()
    gate.call(ticket)
    return lambda: gate.call(ticket)


@attack("QuotaExceeded", ANY_NUMBER, ENTERED, NO_DECISION)
def more_at_a_time(town):
    gate = town.open(limits={"concurrency": 1})
    ticket = gate.session()

    def victim():
        answers = gate.together(3, ticket)
        refused = [one.refused for one in answers if one.refused is not None]
        if refused:
            raise Refused(refused[0])
        return True

    return victim


# --- what was taken back --------------------------------------------------------------------


def taken_back(town, grain, subject):
    """Both workers have answered; then the owner takes something back at the first one."""
    gate, second = town.open(), town.another(1)
    ticket = gate.session()
    gate.call(ticket)
    second.call(ticket)
    owner = gate.visitor(gate.owner())
    found = subject(town, ticket)
    running(gate.office.revoke(owner, grain, found, reason="a test", lift=False))
    return lambda: second.call(ticket)


@attack("SessionExpired", NEVER_ENDED, cut(REVOKED + "check", 'self._check("session", session)'))
def revoked_session(town):
    return taken_back(town, "session", lambda _, ticket: ticket.id)


@attack("CharterDenied", cut(REVOKED + "check", 'self._check("charter", charter)'))
def revoked_charter(town):
    return taken_back(town, "charter", lambda town, _: town.chain.charter.id)


@attack("CharterDenied", cut(REVOKED + "check", 'self._check("partner", partner)'))
def revoked_partner(town):
    return taken_back(town, "partner", lambda town, _: town.clinic.history.identity)


@attack("CharterDenied", cut(REVOKED + "check_model", 'self._check("model", offer.model)'))
def revoked_model(town):
    return taken_back(town, "model", lambda *_: "scan")


@attack(
    "CharterDenied",
    cut(REVOKED + "check_model", 'self._check("version", f"{offer.model}@{offer.number}")'),
)
def revoked_version(town):
    return taken_back(town, "version", lambda *_: "scan@1.0")


@attack("CharterDenied", NO_EPOCH)
def revoked_elsewhere(town):
    return taken_back(town, "charter", lambda town, _: town.chain.charter.id)


@attack("CharterDenied", cut("gateway.desk:Desk.check", "served.check_active(at)"), NO_DECISION)
def suspended_in_the_home(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    town.suspend()
    gate.desk.poll()
    return lambda: gate.call(ticket)


@attack("SessionExpired", NEVER_ENDED)
def owners_session_that_was_revoked(town):
    gate = town.open()
    stolen = gate.owner()
    owner = gate.visitor(gate.owner())
    running(gate.office.revoke(owner, "session", stolen.id, reason="stolen", lift=False))
    return lambda: bool(gate.office.metrics(gate.visitor(stolen)))


class NobodyTells:
    """The watch of a node that lost its state."""

    def alive(self, now):
        return False

    def close(self):
        pass


def cut_off(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    gate.desk.watch.close()
    gate.desk.watch = NobodyTells()
    return gate, ticket


@attack("CutOffError", NO_WATCH)
def call_at_a_node_that_is_cut_off(town):
    gate, ticket = cut_off(town)
    return lambda: gate.call(ticket)


@attack("CutOffError", NO_WATCH)
def session_at_a_node_that_is_cut_off(town):
    gate, _ = cut_off(town)
    return opens(gate, gate.ask())


@attack("CutOffError", NO_WATCH)
def look_at_a_node_that_is_cut_off(town):
    gate, ticket = cut_off(town)
    return lambda: bool(gate.office.usage(gate.visitor(ticket), None))


# --- the home, the state, the clock ---------------------------------------------------------


def with_the_older_charter(town):
    """The owner's home is put back to before the suspension."""
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    older = town.chain.document.encode()
    town.suspend()
    gate.desk.poll()
    assert outcome(lambda: gate.call(ticket)) == "CharterDenied"
    place = f"{town.lab.history.identity}/{town.chain.charter.id}"
    town.store("lab").put("charter", place, older)
    return gate, ticket


@attack("CharterDenied", NO_OTHER_NODE, NO_MARK)
def older_charter_in_the_home(town):
    gate, ticket = with_the_older_charter(town)
    gate.desk.poll()
    return lambda: gate.call(ticket)


@attack("CutOffError", NO_MARK)
def older_charter_in_the_home_and_none_in_the_state(town):
    gate, ticket = with_the_older_charter(town)
    gate.desk.vault.change(town.chain.charter.id, "chain-file", lambda _: (None, None))
    gate.desk.poll()
    return lambda: gate.call(ticket)


@attack("CountersealError", ANY_START)
def started_on_an_older_clock(town):
    gate = town.open()
    gate.desk.clock.keep()
    town.clock.set_back(minutes=5)
    clock = town.clock
    return lambda: bool(SteadyClock(gate.desk.vault, wall=clock.wall, steady=clock.steady))


@attack("BadCiphertext")
def session_cell_of_another_charter(town):
    """Whoever can write the state puts rival's session into clinic's charter."""
    other = town.agree_with_rival()
    gate = town.open()
    ticket, theirs = gate.session(), gate.session("rival")
    state, here = gate.desk.vault.state, town.chain.charter.id
    cell = state.get(other.charter.id, f"cell/session/{theirs.id}")
    state.change(here, f"cell/session/{ticket.id}", lambda _: (cell, None))
    gate.desk.sessions.forget()
    return lambda: gate.call(ticket)


@attack("CutOffError", cut("gateway.vault:_seal", "name.encode()", 'b""'),
        cut("gateway.vault:_open", "name.encode()", 'b""'))  # fmt: skip
def cell_of_another_name(town):
    """The alias of another model takes the place of this one's."""
    town.models["other@1.0.0"] = town.models["scan@1.0.0"]
    town.models["scan@1.0.1"] = town.models["scan@1.0.0"]
    gate = town.open()
    ticket = gate.session()
    owner = gate.visitor(gate.owner())
    running(gate.office.point(owner, "other", "default", "1.0.0"))
    running(gate.office.point(owner, "scan", "default", "1.0.1"))
    state = gate.desk.vault.state
    cell = state.get("", "cell/alias/other/default")
    state.change("", "cell/alias/scan/default", lambda _: (cell, None))
    gate.desk.shared.bump()
    return lambda: gate.call(ticket)


@attack("SessionExpired")
def shredded_charter(town):
    gate = town.open()
    ticket = gate.session()
    gate.call(ticket)
    gate.desk.vault.shred(town.chain.charter.id)
    gate.desk.shared.bump()
    return lambda: gate.call(ticket)


# --- looking around -------------------------------------------------------------------------


@attack("NotServedError", ALL_SEEN)
def ledger_of_another_partner(town):
    readers = {"readers": ("analyst", "auditor")}
    other = town.agree_with_rival(audit=readers)
    gate = town.open(audit=readers)
    visitor = gate.visitor(gate.session())
    return lambda: bool(running(gate.office.ledger_file(visitor, other.charter.id, "checkpoint")))


@attack("NotServedError", ALL_SEEN)
def usage_of_another_partner(town):
    other = town.agree_with_rival()
    gate = town.open()
    visitor = gate.visitor(gate.session())
    return lambda: bool(gate.office.usage(visitor, other.charter.id))


@attack("NotServedError", ALL_SEEN)
def charter_of_another_partner(town):
    other = town.agree_with_rival()
    gate = town.open()
    visitor = gate.visitor(gate.session())
    return lambda: bool(gate.office.chain(visitor, other.charter.id))


@attack("NotServedError", ALL_SEEN)
def sessions_of_another_partner(town):
    other = town.agree_with_rival()
    gate = town.open()
    gate.session("rival")
    visitor = gate.visitor(gate.session())
    return lambda: bool(gate.office.sessions(visitor, other.charter.id))


@attack("CharterDenied", ALL_READ)
def ledger_for_a_role_that_does_not_read_it(town):
    gate = town.open(audit={"readers": ("auditor",)})
    visitor = gate.visitor(gate.session(role="analyst"))
    return lambda: bool(
        running(gate.office.ledger_file(visitor, town.chain.charter.id, "checkpoint"))
    )


def as_the_owner(deed):
    def make(town):
        town.models["scan@1.0.1"] = town.models["scan@1.0.0"]
        gate = town.open()
        visitor = gate.visitor(gate.session())
        return lambda: deed(gate.office, visitor) or True

    return make


@attack("CharterDenied", EVERYBODY_OWNS)
def partner_revokes(town):
    return as_the_owner(
        lambda o, v: running(o.revoke(v, "model", "scan", reason=None, lift=False))
    )(town)


@attack("CharterDenied", EVERYBODY_OWNS)
def partner_lifts(town):
    return as_the_owner(lambda o, v: running(o.revoke(v, "model", "scan", reason=None, lift=True)))(
        town
    )


@attack("CharterDenied", EVERYBODY_OWNS)
def partner_moves_an_alias(town):
    return as_the_owner(lambda o, v: running(o.point(v, "scan", "default", "1.0.1")) and None)(town)


@attack("CharterDenied", EVERYBODY_OWNS)
def partner_begins_a_canary(town):
    return as_the_owner(
        lambda o, v: running(o.try_out(v, "scan", "1.0.1", permille=1000, shadow=False))
    )(town)


@attack("CharterDenied", EVERYBODY_OWNS)
def partner_reads_the_metrics(town):
    return as_the_owner(lambda o, v: o.metrics(v) and None)(town)


ATTACKS = {
    "a stolen token opens nothing with another certificate": stolen_token,
    "a token is not made up": made_up_token,
    "a token without a certificate is none": no_certificate,
    "a session that was ended is over": ended_session,
    "a session ends by its time": old_session,
    "a session that was idle for too long is over": idle_session,
    "a clock that is set back lengthens no session": session_kept_alive_by_the_clock,
    "a request is not taken to another gateway": request_for_another_authority,
    "nor to another owner's": request_for_another_owner,
    "a request opens one session": request_twice,
    "also at another worker": request_twice_at_another_worker,
    "also as late as it could still be of now": request_twice_as_late_as_can_be,
    "an old request opens none": request_of_yesterday,
    "nor one that was prepared": request_of_tomorrow,
    "nor one of a stranger": request_of_a_stranger,
    "nobody asks in another's name": request_in_anothers_name,
    "nobody comes under another's charter": session_under_anothers_charter,
    "a replaced key opens no session": request_with_a_replaced_key,
    "a revoked key opens no session": request_with_a_revoked_key,
    "the sessions of a revoked key are over": session_of_a_revoked_key,
    "a charter is not taken back to an older version": older_version_of_the_charter,
    "nor on to one that nobody signed": charter_that_nobody_signed,
    "a partner comes as what the charter says": role_that_the_charter_does_not_give,
    "a session is for a purpose of the charter": prohibited_purpose,
    "a suspended charter opens no session": session_under_a_suspended_charter,
    "a partner does not come as the owner": session_as_the_owner,
    "a record id is used once": record_twice,
    "also at another worker of the node": record_twice_at_another_worker,
    "also after a restart": record_twice_after_a_restart,
    "a role calls what it may": role_that_does_not_predict,
    "a call declares its purpose": no_purpose,
    "a call is for the session's purpose": another_purpose_than_the_sessions,
    "a call has one purpose": two_purposes,
    "a request has as many rows as agreed": too_many_rows,
    "a request has as many bytes as agreed": too_many_bytes,
    "a request comes from an agreed network": from_another_network,
    "a model outside of the charter is not called": model_of_another_charter,
    "nor a version outside of it": version_of_another_charter,
    "nor other files under its name": model_with_another_digest,
    "a quota is not exceeded": one_more_than_the_quota,
    "nor by a restart": one_more_than_the_quota_after_a_restart,
    "nor by a clock that is set back": quota_of_an_hour_that_is_over,
    "a rate is not exceeded": faster_than_the_rate,
    "nor how many run at a time": more_at_a_time,
    "a revoked session is over": revoked_session,
    "a revoked charter allows nothing": revoked_charter,
    "a revoked partner gets nothing": revoked_partner,
    "a revoked model answers nobody": revoked_model,
    "a revoked version answers nobody": revoked_version,
    "what is revoked at one worker is revoked at all": revoked_elsewhere,
    "a charter that was suspended in the home allows nothing": suspended_in_the_home,
    "an owner's session can be revoked": owners_session_that_was_revoked,
    "a node that is cut off answers nothing": call_at_a_node_that_is_cut_off,
    "and opens no session": session_at_a_node_that_is_cut_off,
    "and shows nothing": look_at_a_node_that_is_cut_off,
    "an older charter in the home is made up for": older_charter_in_the_home,
    "and refused where it cannot be": older_charter_in_the_home_and_none_in_the_state,
    "a gateway does not start on an older clock": started_on_an_older_clock,
    "a cell is of its charter": session_cell_of_another_charter,
    "a cell is of its name": cell_of_another_name,
    "nothing is served under a shredded charter": shredded_charter,
    "a partner does not read another's ledger": ledger_of_another_partner,
    "nor another's usage": usage_of_another_partner,
    "nor another's charter": charter_of_another_partner,
    "nor another's sessions": sessions_of_another_partner,
    "a ledger is for the roles that read it": ledger_for_a_role_that_does_not_read_it,
    "a partner revokes nothing": partner_revokes,
    "a partner lifts nothing": partner_lifts,
    "a partner moves no alias": partner_moves_an_alias,
    "a partner begins no canary": partner_begins_a_canary,
    "a partner reads no metrics": partner_reads_the_metrics,
}


def test_every_attack_is_in_the_table():
    named = [value for value in globals().values() if isinstance(value, Attack)]
    assert len(named) == len(ATTACKS)


@pytest.mark.parametrize("sentence", ATTACKS)
def test_is_refused(sentence, town):
    ATTACKS[sentence].is_refused(town)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_works_without_its_defense(sentence, town, monkeypatch):
    ATTACKS[sentence].works_undefended(town, monkeypatch)


# --- what a refusal tells -------------------------------------------------------------------


def said(victim):
    """All of a refusal that leaves."""
    from counterseal.gateway.refusals import refusal

    with pytest.raises(CountersealError) as caught:
        victim()
    found = caught.value.said if isinstance(caught.value, Refused) else refusal(caught.value)
    return found.status, found.body(None), found.all_headers()


def test_a_stranger_does_not_learn_who_is_pinned(town):
    """Nor how their cards stand: whoever cannot sign for clinic sees what anybody sees."""
    gate = town.open()
    nobody = said(opens(gate, gate.ask(keys_of("stranger"))))
    assert said(opens(gate, in_the_name_of(town, gate, "clinic", signed_by="rival"))) == nobody
    assert said(opens(gate, in_the_name_of(town, gate, "lab", signed_by="rival"))) == nobody
    envelope = canonical.decode(gate.ask(), Envelope, limit=100_000, what="it")
    asked = canonical.decode(envelope.payload, SessionRequest, limit=100_000, what="it")
    wrong_card = msgspec.structs.replace(asked, card="ab" * 32)
    forged = canonical.encode(town.rival.sign(wrong_card, REQUEST_TYPE, at=gate.now()))
    assert said(opens(gate, forged)) == nobody
    rotated(town, gate)
    assert said(opens(gate, forged)) == nobody
    town.clinic.revoke(reason="compromised", at=gate.now())
    tell(town, gate)
    forged = canonical.encode(town.rival.sign(asked, REQUEST_TYPE, at=gate.now()))
    assert said(opens(gate, forged)) == nobody


def test_a_stranger_does_not_learn_which_sessions_there_are(town):
    """Unknown, ended, of another certificate or with a wrong code: it looks the same."""
    gate = town.open()
    ticket, ended = gate.session(), gate.session()
    running(gate.office.end_session(gate.visitor(ended), ended.id))
    unknown = tokens.token_of(bytes(32), bytes(16), town.chain.charter.id, bytes(32))
    nobody = said(lambda: gate.call(replace(ticket, token=unknown)))
    flipped = "A" if ticket.token[-5] != "A" else "B"
    assert nobody == said(lambda: gate.call(replace(ticket, certificate="ab" * 32)))
    for one in (ticket, ended):
        wrong = one.token[:-5] + flipped + one.token[-4:]
        assert said(lambda wrong=wrong, one=one: gate.call(replace(one, token=wrong))) == nobody
    for token in ("", "cs1.", "cs1.a.b.c", "cs2" + ticket.token[3:], "x" * 500, "cs1.é.é.é"):
        assert said(lambda token=token: gate.call(replace(ticket, token=token))) == nobody


def test_a_partner_does_not_learn_what_else_is_served(town):
    town.models["other@1.0.0"] = town.models["scan@2.0.0"] = town.models["scan@1.0.0"]
    gate = town.open()
    owner, ticket = gate.visitor(gate.owner()), gate.session()
    running(gate.office.point(owner, "scan", "next", "2.0.0"))

    def refused(model, version):
        answer = gate.answer(ticket, model=model, version=version)
        body = answer.refused.body(None)
        for word in (model, version or ""):
            body = body.replace(word.encode(), b"?") if word else body
        return answer.status, body

    assert refused("other", None) == refused("nothing", None)
    assert refused("scan", "2.0.0") == refused("scan", "9.0.0") == refused("scan", "next")
    found = gate.office.models(gate.visitor(ticket))
    assert [(one["name"], [*one["versions"]], one["aliases"]) for one in found] == [
        ("scan", ["1.0.0"], {})
    ]
    assert [one["name"] for one in gate.office.models(owner)] == ["other", "scan"]


class Broken:
    """A model that fails and says what it should not."""

    platform = "broken"

    def __init__(self, offer):
        self.inputs, self.outputs = offer.backend.inputs, offer.backend.outputs

    def predict(self, inputs):
        raise RuntimeError("layer dense_7: the patient is called Ada")


def test_a_model_that_fails_shows_nothing_of_why(town, capsys):
    gate = town.open()
    offers = gate.desk.registry.offers["scan"]
    offers["1.0.0"] = replace(offers["1.0.0"], backend=Broken(offers["1.0.0"]))
    answer = gate.answer(gate.session())
    assert answer.status == 500
    shown = answer.refused.body(answer.record) + str(answer.headers).encode()
    assert b"Ada" not in shown
    assert b"dense_7" not in shown
    assert "dense_7" in capsys.readouterr().err  # whoever runs it has to know
    assert gate.used() == 0
    assert [(one.event, one.reason) for one in gate.entries()][-1] == (
        "refused",
        "CountersealError",
    )


def test_one_shredded_charter_does_not_end_the_others(town):
    other = town.agree_with_rival()
    gate = town.open()
    ticket, theirs = gate.session(), gate.session("rival")
    gate.desk.vault.shred(other.charter.id)
    gate.desk.shared.bump()
    assert gate.call(ticket)
    assert outcome(lambda: gate.call(theirs)) == "SessionExpired"
    assert outcome(opens(gate, gate.ask("rival"))) == "CharterDenied"


def test_a_revoked_card_ends_its_own_charter_and_no_other(town):
    """What clinic's revoked key signed is void; rival goes on, and nobody else hears why."""
    town.agree_with_rival()
    gate = town.open()
    ticket, theirs = gate.session(), gate.session("rival")
    rotated(town, gate, revoke=True)
    assert gate.call(theirs)
    assert outcome(lambda: gate.call(ticket)) == "CharterDenied"


def test_a_thief_of_the_owners_revoked_key_does_not_come_as_the_owner(tmp_path):
    with Town(tmp_path) as town:
        gate = town.open()
        held = gate.open(gate.ask("lab", charter=None, purpose=None, role="owner"))
        request = gate.ask("lab", charter=None, purpose=None, role="owner")
        card = town.lab.key_id
        town.lab.rotate(at=gate.now())
        town.lab.revoke(which=card, reason="compromised", at=gate.now())
        gate.desk.poll()
        # What the revoked card signed has ended with it: no charter is left to serve.
        assert outcome(lambda: bool(gate.open(request).token)) == "CutOffError"
        visit = lambda: bool(gate.office.visitor(held.token, held.certificate))  # noqa: E731
        assert outcome(visit) == "CutOffError"


def test_a_stranger_does_not_learn_why_a_gateway_stopped(town, capsys):
    gate, ticket = with_the_older_charter(town)
    gate.desk.vault.change(town.chain.charter.id, "chain-file", lambda _: (None, None))
    gate.desk.poll()
    shown = said(lambda: gate.call(replace(ticket, token=None, certificate=None)))
    assert b"steps" not in shown[1]
    assert capsys.readouterr().err.count("steps") == 1


# --- what a body may not be -----------------------------------------------------------------


def one_input(data, shape="[1, 30]", datatype="FP32", name="X", more=""):
    return (
        f'{{"inputs": [{{"name": "{name}", "datatype": "{datatype}", "shape": {shape}, '
        f'"data": {data}}}]{more}}}'
    ).encode()


THIRTY = "[" + ", ".join(["1.5"] * 30) + "]"
BODIES = {
    "nothing": b"",
    "no JSON": b"nonsense",
    "no UTF-8": b"\xff\xfe{}",
    "half of a request": body_of()[:-20],
    "something after it": body_of() + b"x",
    "a list": b"[]",
    "not a number": one_input(THIRTY.replace("1.5", "NaN", 1)),
    "infinity": one_input(THIRTY.replace("1.5", "Infinity", 1)),
    "a number that becomes infinite": one_input(THIRTY.replace("1.5", "1e999", 1)),
    "a number too large for FP32": one_input(THIRTY.replace("1.5", "1e300", 1)),
    "a boolean for a number": one_input(THIRTY.replace("1.5", "true", 1)),
    "a text for a number": one_input(THIRTY.replace("1.5", '"1.5"', 1)),
    "null for a number": one_input(THIRTY.replace("1.5", "null", 1)),
    "another datatype": one_input(THIRTY, datatype="FP64"),
    "integers": one_input(THIRTY.replace("1.5", "1"), datatype="INT64"),
    "no datatype of the protocol": one_input(THIRTY, datatype="OBJECT"),
    "one number too many": one_input(THIRTY[:-1] + ", 1.5]"),
    "one number too few": one_input(THIRTY[:-6] + "]"),
    "another shape": one_input(THIRTY, shape="[30, 1]"),
    "a shape with more than there is": one_input(THIRTY, shape="[1099511627776, 30]"),
    "a shape that overflows": one_input("[]", shape="[4294967296, 4294967296]"),
    "a shape of less than nothing": one_input(THIRTY, shape="[-1, 30]"),
    "no rows": one_input("[]", shape="[0, 30]"),
    "many dimensions": one_input("[]", shape=str([1] * 65)),
    "deep lists": one_input("[" * 5000 + "1" + "]" * 5000),
    "deep everything": b"[" * 100_000,
    "lists of different lengths": one_input("[[1, 2], [3]]", shape="[2, 2]"),
    "another input": one_input(THIRTY, name="Y"),
    "one input twice": one_input(THIRTY).replace(b"]}]", b"]}, ", 1) + one_input(THIRTY)[12:],
    "no input": b'{"inputs": []}',
    "an unknown field": one_input(THIRTY, more=', "weights": true'),
    "an unknown parameter": one_input(THIRTY, more=', "parameters": {"top": 5}'),
    "a field twice": one_input(THIRTY, more=', "id": "a", "id": 7'),
    "an output that is none": one_input(THIRTY, more=', "outputs": [{"name": "weights"}]'),
    "shared memory": one_input(
        THIRTY, more=', "parameters": {"shared_memory_region": "/etc/passwd"}'
    ),
}


@pytest.fixture(scope="module")
def open_gate(tmp_path_factory):
    with Town(tmp_path_factory.mktemp("town")) as made:
        gate = made.open()
        yield gate, gate.session()


@pytest.mark.parametrize("sentence", BODIES)
def test_a_body_that_is_no_request_costs_nothing(sentence, open_gate):
    gate, ticket = open_gate
    before = gate.used()
    answer = gate.answer(ticket, BODIES[sentence])
    assert answer.status == 400, answer.refused
    assert len(answer.refused.message) < 300
    assert gate.used() == before
    assert gate.call(ticket)
