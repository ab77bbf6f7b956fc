"""Attacks on decisions: a partner (clinic) who asks for more than the charter says, and a rival.

What the attacker wants: an Allow. Where one condition is what stops it, the attack has to succeed
once that condition is taken out.
"""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from charters import AT, BEGINS, ENDS, OTHER_DIGEST, RIVAL, a_charter, a_request, a_usage
from workshop import Cut, attack, undefended

from counterseal.charter.decision import Rules
from counterseal.errors import CharterDenied, PurposeMismatch, QuotaExceeded

pytest.importorskip("cedarpy")

CLAUSES = "counterseal.charter.clauses:"
BOX = "counterseal.charter.decision:_Box.covers"
ANYTHING = "All(())"

NO_PARTY = Cut(CLAUSES + "_parties", 'Equal("party", partner.identity)', ANYTHING)
NO_BEGIN = Cut(CLAUSES + "_term", 'AtLeast("now", begins)', ANYTHING)
NO_END = Cut(CLAUSES + "_term", 'AtMost("now", ends - 1)', ANYTHING)
END_INCLUDED = Cut(CLAUSES + "_term", "ends - 1", "ends")
NO_SAME = Cut(CLAUSES + "_purpose", 'Same("purpose", "session_purpose")', ANYTHING)
NO_ALLOWED = Cut(CLAUSES + "_purpose", 'OneOf("purpose", purpose.allowed)', ANYTHING)
NO_PROHIBITED = Cut(CLAUSES + "_purpose", 'Not(OneOf("purpose", purpose.prohibited))', ANYTHING)
NO_PURPOSES = Cut(CLAUSES + "_grant", 'OneOf("purpose", permission.purposes)', ANYTHING)
NO_ACTION = Cut(CLAUSES + "_grant", 'Equal("action", name)', ANYTHING)
NO_ROLES = Cut(CLAUSES + "_grant", 'OneOf("role", permission.roles)', ANYTHING)
NO_ASSETS = Cut(CLAUSES + "_grant", 'OneOf("asset", permission.assets)', ANYTHING)
NO_VERSIONS = Cut(CLAUSES + "_assets", "_versions(asset.versions)", ANYTHING)
NO_DIGESTS = Cut(CLAUSES + "_assets", 'OneOf("digest", asset.digests)', ANYTHING)
NO_AMOUNTS = Cut(CLAUSES + "_amounts", "AtMost(fact, most)", ANYTHING)
NO_QUOTAS = Cut(CLAUSES + "_amounts", "AtMost(fact, quota.count)", ANYTHING)
NO_HOURS = Cut(CLAUSES + "_places", "AnyOf(open_hours)", ANYTHING)
NO_NETWORKS = Cut(CLAUSES + "_places", "AnyOf(tuple(map(_network, limits.networks)))", ANYTHING)
LAST_WORD = Cut(CLAUSES + "_network", "enumerate(WORDS)", "list(enumerate(WORDS))[3:]")
NO_PROOF = Cut(CLAUSES + "_trust", 'Equal("proof", proof)', ANYTHING)
NO_LADDER = Cut(CLAUSES + "_trust", 'AtMost("risk", end - 1)', ANYTHING)
NO_COUNT = Cut("counterseal.charter.decision:facts_of", "get(key, UNCOUNTED)", "get(key, 0)")
LOCAL_TIME = Cut("counterseal.charter.decision:facts_of", "at.astimezone(UTC)", "at")
NO_ESCAPE = Cut("counterseal.charter.conditions:literal", '"".join(escaped)', "text")
BOX_OF_ANY_ROWS = Cut(BOX, "request.rows <= self.rows", "True")
BOX_OF_ANY_TIME = Cut(BOX, "self.begins <= at < self.ends", "True")
BOX_OF_ANY_QUOTA = Cut(BOX, "used.get(key, UNCOUNTED) <= count", "True")
BOX_OF_ANY_RISK = Cut(BOX, "usage.risk <= most.risk", "True")


def asks(*, charter=None, usage=None, at=AT, first=None, **request):
    """Prepare a request that differs from an honest one, under a charter; compiled by the victim,
    who may have decided another one of the same claim before (`first`).
    """

    def victim():
        rules = Rules(a_charter(**(charter or {})))
        if first is not None:
            rules.decide(a_request(), a_usage(), at=first).raise_for_denied()
        decision = rules.decide(a_request(**request), usage or a_usage(), at=at)
        decision.raise_for_denied()
        return decision.allowed

    return lambda _: victim


@attack(PurposeMismatch, NO_PROHIBITED)
def purpose_that_is_both(_):
    """The document refuses such a charter; if one came by another way, prohibited wins."""
    charter = a_charter(purpose={"prohibited": ()})
    msgspec.structs.force_setattr(charter.purpose, "prohibited", ("diagnosis",))

    def victim():
        decision = Rules(charter).decide(a_request(), a_usage(), at=AT)
        decision.raise_for_denied()
        return decision.allowed

    return victim


def row(error, *cuts, **more):
    return attack(error, *cuts)(asks(**more))


ALWAYS = {"limits": {"hours": None}}
NIGHT = datetime(2026, 6, 1, 23, tzinfo=UTC)
SUNDAY = datetime(2026, 5, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
# As text in `["..."].contains(context.purpose)`, this would be true of every purpose.
SYNTAX = 'x"].contains("x") || ["y'

ATTACKS = {
    "a purpose that nobody declared is none": row(
        PurposeMismatch, NO_ALLOWED, purpose=None, session_purpose=None
    ),
    "a purpose of the charter is not a default": row(
        PurposeMismatch, NO_SAME, session_purpose=None
    ),
    "a session for one purpose is not used for another": row(
        PurposeMismatch, NO_SAME, purpose="research"
    ),
    "a purpose that nobody agreed to is refused": row(
        PurposeMismatch, NO_ALLOWED, purpose="teaching", session_purpose="teaching"
    ),
    "a prohibited purpose is refused": row(
        PurposeMismatch,
        NO_ALLOWED,
        NO_PROHIBITED,
        purpose="advertising",
        session_purpose="advertising",
    ),
    "a purpose both allowed and prohibited is prohibited": purpose_that_is_both,
    "an action is for its own purposes": row(
        PurposeMismatch,
        NO_PURPOSES,
        action="explain",
        purpose="research",
        session_purpose="research",
    ),
    "a role that has no permission is refused": row(CharterDenied, NO_ROLES, role="auditor"),
    "a role of the owner is refused": row(CharterDenied, NO_ROLES, role="owner"),
    "an action that is not granted is refused": row(CharterDenied, NO_ACTION, action="fine-tune"),
    "a model that is not granted for the action is refused": row(
        CharterDenied, NO_ASSETS, action="explain", asset="triage"
    ),
    "a model that is not in the charter is refused": row(
        CharterDenied, NO_ASSETS, asset="crown-jewels"
    ),
    "an older version is refused": row(CharterDenied, NO_VERSIONS, version=(1, 3, 9)),
    "a newer version is refused": row(CharterDenied, NO_VERSIONS, version=(1, 5, 0)),
    "a model under the name and version of another is refused": row(
        CharterDenied, NO_DIGESTS, digest=OTHER_DIGEST
    ),
    "nothing is allowed before the term": row(
        CharterDenied, NO_BEGIN, charter=ALWAYS, at=BEGINS - SECOND
    ),
    "nothing is allowed when the term has ended": row(
        CharterDenied, END_INCLUDED, charter=ALWAYS, at=ENDS
    ),
    "nothing is allowed one second later": row(
        CharterDenied, NO_END, charter=ALWAYS, at=ENDS + SECOND
    ),
    "nothing is allowed at night": row(CharterDenied, NO_HOURS, at=NIGHT),
    "nothing is allowed on a Sunday": row(CharterDenied, NO_HOURS, at=SUNDAY),
    "a caller's time zone does not turn night into day": row(
        CharterDenied,
        LOCAL_TIME,
        at=NIGHT.astimezone(timezone(timedelta(hours=-11))),
    ),
    "a foreign network is refused": row(CharterDenied, NO_NETWORKS, address="198.51.100.7"),
    "a foreign network is foreign in IPv6, too": row(
        CharterDenied, NO_NETWORKS, address="::ffff:198.51.100.7"
    ),
    "an address of IPv6 that ends like ours is not ours": row(
        CharterDenied, LAST_WORD, address="::192.0.2.7"
    ),
    "an address behind a translator is not ours": row(
        CharterDenied, LAST_WORD, address="64:ff9b::192.0.2.7"
    ),
    "an address that cannot be read is nobody's": row(
        CharterDenied, NO_NETWORKS, address="192.0.2.7 "
    ),
    "an address with a zone is nobody's": row(CharterDenied, address="2001:db8::1%eth0"),
    "not one row too many": row(CharterDenied, NO_AMOUNTS, rows=257),
    "not one byte too many": row(CharterDenied, NO_AMOUNTS, bytes=(1 << 20) + 1),
    "not one request too many at a time": row(
        CharterDenied, NO_AMOUNTS, usage=a_usage(concurrent=5)
    ),
    "a number that wraps around is too many": row(CharterDenied, rows=1 << 64),
    "a quota that is used up is used up": row(
        QuotaExceeded,
        NO_QUOTAS,
        usage=a_usage(used={("requests", "day"): 10_001, ("rows", "month"): 3}),
    ),
    "what nobody counted is used up": row(
        QuotaExceeded, NO_COUNT, usage=a_usage(used={("requests", "day"): 1})
    ),
    "who is suspended by the ladder is refused": row(
        CharterDenied, NO_LADDER, usage=a_usage(risk=80)
    ),
    "a session without proof is refused": row(CharterDenied, NO_PROOF, proof=""),
    "a charter with one partner is none with another": row(CharterDenied, NO_PARTY, party=RIVAL),
    "words of a charter are not syntax": row(
        PurposeMismatch,
        NO_ESCAPE,
        charter={
            "purpose": {"allowed": (SYNTAX,), "prohibited": ()},
            "permissions": (a_charter().permissions[0],),
        },
    ),
    "words of a request are not syntax": row(PurposeMismatch, NO_ALLOWED, NO_SAME, purpose=SYNTAX),
    "a quotation mark in a name is part of the name": row(
        CharterDenied, NO_PARTY, party=f'{RIVAL}" || true || "'
    ),
    "half a character is not understood as anything": row(CharterDenied, role="\ud800"),
    "a decision for few rows is none for many": row(
        CharterDenied, BOX_OF_ANY_ROWS, first=AT, rows=257
    ),
    "a decision for few rows is none for what is not a number": row(
        CharterDenied, first=AT, rows=float("nan")
    ),
    "a decision of the day is none in the night": row(
        CharterDenied, BOX_OF_ANY_TIME, first=AT, at=NIGHT
    ),
    "a decision of this year is none after the term": row(
        CharterDenied, BOX_OF_ANY_TIME, charter=ALWAYS, first=AT, at=ENDS
    ),
    "a decision before the quota ran out is none after": row(
        QuotaExceeded,
        BOX_OF_ANY_QUOTA,
        first=AT,
        usage=a_usage(used={("requests", "day"): 1, ("rows", "month"): 100_001}),
    ),
    "a decision before the suspension is none after": row(
        CharterDenied, BOX_OF_ANY_RISK, first=AT, usage=a_usage(risk=80)
    ),
    "a decision for one role is none for another": row(
        CharterDenied, NO_ROLES, first=AT, role="auditor"
    ),
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_refused(sentence):
    error = ATTACKS[sentence].is_refused(None)
    assert type(error) is ATTACKS[sentence].error


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_would_work_without_the_condition(monkeypatch, sentence):
    ATTACKS[sentence].works_undefended(None, monkeypatch)


def test_the_honest_request_is_allowed():
    assert asks()(None)()
    assert asks(address="::ffff:192.0.2.7")(None)()
    assert asks(at=AT.astimezone(None))(None)()


class Engine:
    """Cedar, as far as it is asked; answers whatever it is told to."""

    def __init__(self, answer):
        self.answer = answer

    def is_authorized(self, *_):
        return self.answer


ANSWERS = {
    "an Allow with an error": '{"decision":"Allow","diagnostics":{"errors":["?"],"id_annotations_by_reason":{"policy0":"x"}}}',
    "an Allow by no policy": '{"decision":"Allow","diagnostics":{"errors":[],"id_annotations_by_reason":{}}}',
    "no decision": '{"decision":"NoDecision","diagnostics":{"errors":["failed"]}}',
    "a word that is not Allow": '{"decision":"allow","diagnostics":{"errors":[],"id_annotations_by_reason":{"policy0":"x"}}}',
    "nothing": "",
    "no errors at all": '{"decision":"Allow","diagnostics":{}}',
    "another form": '{"decision":true}',
}


@pytest.mark.parametrize("sentence", ANSWERS)
def test_only_a_clean_allow_is_one(sentence):
    rules = Rules(a_charter())
    rules._engine = Engine(ANSWERS[sentence])
    decision = rules.decide(a_request(), a_usage(), at=AT)
    assert not decision.allowed
    assert [one.path for one in decision.reasons] == ["policy"]
    with pytest.raises(CharterDenied):
        decision.raise_for_denied()


def test_without_the_schema_a_forbid_that_errs_would_allow():
    """Why there are only permits, and always a schema: Cedar skips what it cannot evaluate."""
    import cedarpy

    text = "permit (principal, action, resource); forbid (principal, action, resource) when { context.rows > 256 };"
    request = {
        "principal": {"type": "Party", "id": "x"},
        "action": {"type": "Action", "id": "predict"},
        "resource": {"type": "Asset", "id": "scan"},
        "context": {},
    }
    result = cedarpy.is_authorized(request, text, [])
    assert result.allowed
    assert result.diagnostics.errors
