"""Decisions: what is allowed by which policy, and what a partner is told when it is not."""

from datetime import UTC, datetime, timedelta

import pytest
from charters import AT, ENDS, RIVAL, a_charter, a_request, a_usage

from counterseal import _extras
from counterseal.charter import decision as module
from counterseal.charter import document
from counterseal.charter.decision import Decision, Reason, Rules
from counterseal.charter.policy import context_of
from counterseal.charter.request import Request, Usage, facts_of
from counterseal.errors import (
    CharterDenied,
    FormatError,
    MissingExtraError,
    PurposeMismatch,
    QuotaExceeded,
)


@pytest.fixture(scope="module")
def rules():
    return Rules(a_charter())


def reasons(rules, *, usage=None, at=AT, **request):
    decision = rules.decide(a_request(**request), usage or a_usage(), at=at)
    assert not decision.allowed
    assert decision.policies == ()
    return {one.path: one.message for one in decision.reasons}


def test_an_allowed_request_names_its_policy(rules):
    decision = rules.decide(a_request(), a_usage(), at=AT)
    assert decision == Decision(True, (f"{a_charter().id}/v1/0/predict/analyst",))
    decision.raise_for_denied()


def test_two_permissions_may_allow_it():
    twice = Rules(a_charter(permissions=a_charter().permissions[:1] * 2))
    decision = twice.decide(a_request(), a_usage(), at=AT)
    assert [one.split("/")[2] for one in decision.policies] == ["0", "1"]


REASONS = {
    "limits.rows_per_request": (
        {"rows": 257},
        "at most 256 rows in a request; this is 257",
    ),
    "limits.bytes_per_request": (
        {"bytes": 2 << 20},
        "at most 1048576 bytes in a request; this is 2097152",
    ),
    "limits.concurrency": (
        {"usage": a_usage(concurrent=5)},
        "at most 4 requests at the same time; this is 5",
    ),
    "limits.quotas[0]": (
        {"usage": a_usage(used={("requests", "day"): 10_001, ("rows", "month"): 1})},
        "at most 10000 requests in a day; this is 10001",
    ),
    "limits.quotas[1]": (
        {"usage": a_usage(used={("requests", "day"): 1})},
        "at most 100000 rows in a month; nobody counted",
    ),
    "limits.hours": (
        {"at": AT + timedelta(hours=9)},
        "outside the agreed hours (UTC); this is 2026-06-01 21:00:00+00:00",
    ),
    "limits.networks": (
        {"address": "198.51.100.7"},
        "come from 192.0.2.0/24, 2001:db8::/32; this is '198.51.100.7'",
    ),
    "assets[0].versions": (
        {"version": (1, 5, 0)},
        "of scan, versions ~1.4 are shared; this is 1.5.0",
    ),
    "assets[0].digests": (
        {"digest": "ee" * 32},
        f"of scan, only what is pinned by its digest is shared; this is '{'ee' * 32}'",
    ),
    "purpose": (
        {"session_purpose": "research"},
        "the session declared another purpose; this is 'research'",
    ),
    "purpose.allowed": (
        {"purpose": None, "session_purpose": None},
        "declare one of diagnosis, research; nothing was said",
    ),
    "partner.identity": (
        {"party": RIVAL},
        f"the charter is with clinic; this is '{RIVAL}'",
    ),
    "permissions": (
        {"action": "embed"},
        "no permission is for this action; this is 'embed'",
    ),
    "permissions[0].roles": ({"role": "auditor"}, "`predict` is for analyst; this is 'auditor'"),
    "permissions[1].assets": (
        {"action": "explain", "asset": "triage"},
        "`explain` is for scan; this is 'triage'",
    ),
    "permissions[1].purposes": (
        {"action": "explain", "purpose": "research", "session_purpose": "research"},
        "`explain` is for diagnosis; this is 'research'",
    ),
    "session.proof": ({"proof": "none"}, "each request shows whose it is by mtls; this is 'none'"),
    "monitoring.ladder": (
        {"usage": a_usage(risk=80)},
        "suspended from a risk of 80 on; this is 80",
    ),
}


@pytest.mark.parametrize("path", REASONS)
def test_a_reason_says_where_and_what(rules, path):
    asked, words = REASONS[path]
    assert reasons(rules, **asked) == {path: words}


def test_all_reasons_are_told(rules):
    found = reasons(rules, rows=1000, address="::", role="auditor", at=ENDS + timedelta(days=1))
    assert sorted(found) == [
        "ends",
        "limits.hours",
        "limits.networks",
        "limits.rows_per_request",
        "permissions[0].roles",
    ]


def test_of_several_permissions_the_nearest_is_told():
    first, second = a_charter().permissions
    rules = Rules(
        a_charter(permissions=(document.Permission(
            action="predict", assets=("triage",), roles=("auditor",), purposes=("research",)
        ), first, second))
    )  # fmt: skip
    assert list(reasons(rules, role="auditor")) == ["permissions[1].roles"]


def test_what_a_request_says_is_shown_short_and_plain(rules):
    message = reasons(rules, role="\x1b[31m" + "x" * 1000)["permissions[0].roles"]
    assert message.isprintable()
    assert len(message) < 200


ERRORS = {
    "a purpose": (PurposeMismatch, {"purpose": "research"}),
    "a purpose of the permission": (
        PurposeMismatch,
        {"action": "explain", "purpose": "research", "session_purpose": "research"},
    ),
    "a purpose and a role": (CharterDenied, {"purpose": "research", "role": "auditor"}),
    "a quota": (QuotaExceeded, {"usage": a_usage(used={("requests", "day"): 1})}),
    "a quota and too many rows": (CharterDenied, {"usage": a_usage(used={}), "rows": 1000}),
    "rows": (CharterDenied, {"rows": 1000}),
}


@pytest.mark.parametrize("what", ERRORS)
def test_which_error_it_is(rules, what):
    error, asked = ERRORS[what]
    usage = asked.get("usage", a_usage())
    request = a_request(**{name: value for name, value in asked.items() if name != "usage"})
    with pytest.raises(CharterDenied) as caught:
        rules.decide(request, usage, at=AT).raise_for_denied()
    assert type(caught.value) is error
    assert "`" in caught.value.message


def test_a_decision_without_reasons_denies():
    with pytest.raises(CharterDenied):
        Decision(False).raise_for_denied()
    with pytest.raises(CharterDenied):
        Decision(False, reasons=(Reason("limits", "no"),)).raise_for_denied()


REFILLS = {
    ("requests", "hour"): datetime(2026, 12, 31, 13, tzinfo=UTC),
    ("rows", "day"): datetime(2027, 1, 1, tzinfo=UTC),
    ("tokens", "month"): datetime(2027, 1, 1, tzinfo=UTC),
    ("tokens", "term"): None,
}


@pytest.mark.parametrize("period", REFILLS)
def test_a_quota_refills_with_its_period(period):
    quota = document.Quota(unit=period[0], count=5, period=period[1])
    at = datetime(2026, 12, 31, 12, 34, 56, tzinfo=UTC)
    for ends, expected in ((ENDS, None), (ENDS + timedelta(days=1), REFILLS[period])):
        rules = Rules(a_charter(ends=ends, limits={"quotas": (quota,)}))
        decision = rules.decide(a_request(), a_usage(used={period: 6}), at=at)
        with pytest.raises(QuotaExceeded) as caught:
            decision.raise_for_denied()
        before_the_end = expected if period[1] != "hour" else REFILLS[period]
        assert caught.value.retry_at == before_the_end


def test_of_two_quotas_the_later_counts():
    used = {("requests", "day"): 10_001, ("rows", "month"): 100_001}
    decision = Rules(a_charter()).decide(a_request(), a_usage(used=used), at=AT)
    with pytest.raises(QuotaExceeded) as caught:
        decision.raise_for_denied()
    assert caught.value.retry_at == datetime(2026, 7, 1, tzinfo=UTC)


# --- what is remembered -------------------------------------------------------------------------


def asked_of_cedar(rules, monkeypatch):
    calls = []
    evaluate = rules._evaluate
    monkeypatch.setattr(rules, "_evaluate", lambda facts: calls.append(facts) or evaluate(facts))
    return calls


def test_an_allowed_claim_is_not_asked_again(monkeypatch):
    rules = Rules(a_charter())
    calls = asked_of_cedar(rules, monkeypatch)
    first = rules.decide(a_request(), a_usage(), at=AT)
    assert len(calls) == 3  # the request and two corners
    full = a_usage(concurrent=4, risk=79, used={("requests", "day"): 9999, ("rows", "month"): 9})
    later = AT + timedelta(hours=7, minutes=59, seconds=59)
    assert rules.decide(a_request(rows=256, bytes=1 << 20), full, at=later) is first
    assert len(calls) == 3
    assert {(facts.rows, facts.concurrent, facts.risk) for facts in calls[1:]} == {(256, 4, 79)}


def test_a_denied_one_is(monkeypatch):
    rules = Rules(a_charter())
    calls = asked_of_cedar(rules, monkeypatch)
    for _ in range(2):
        assert not rules.decide(a_request(rows=257), a_usage(), at=AT).allowed
    assert len(calls) == 2


def test_the_next_day_is_another_box(monkeypatch):
    rules = Rules(a_charter())
    calls = asked_of_cedar(rules, monkeypatch)
    for day in (0, 0, 1, 1):
        assert rules.decide(a_request(), a_usage(), at=AT + timedelta(days=day)).allowed
    assert len(calls) == 6
    assert len(rules._kept) == 1


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MOST_KEPT", 3)
    rules = Rules(a_charter())
    for host in range(10):
        assert rules.decide(a_request(address=f"192.0.2.{host}"), a_usage(), at=AT).allowed
    assert 1 <= len(rules._kept) <= 3


def test_a_corner_that_is_denied_is_not_kept(monkeypatch):
    """Were the box wrong, every request would be asked: slow, and right."""
    rules = Rules(a_charter())
    monkeypatch.setattr(Rules, "_window", lambda *_: (AT, AT + timedelta(days=300)))
    for _ in range(2):
        assert rules.decide(a_request(), a_usage(), at=AT).allowed
    assert not rules._kept


# --- facts --------------------------------------------------------------------------------------


def test_every_fact_is_needed(rules):
    facts = facts_of(a_request(), a_usage(), at=AT)
    assert rules._ask(facts).allowed
    for name in context_of(a_charter()):
        rules = Rules(a_charter())
        rules._context = tuple(one for one in rules._context if one != name)
        assert not rules._ask(facts).allowed, name


def test_day_and_minute_are_of_utc():
    late = datetime(2026, 6, 1, 23, 30, tzinfo=UTC)
    for zone in (UTC, None):
        facts = facts_of(a_request(), a_usage(), at=late.astimezone(zone))
        assert (facts.weekday, facts.minute) == (0, 23 * 60 + 30)
        assert facts.now == int(late.timestamp())


def test_a_time_without_a_zone_is_a_mistake(rules):
    with pytest.raises((TypeError, ValueError)):
        rules.decide(a_request(), a_usage(), at=AT.replace(tzinfo=None))
    with pytest.raises(ValueError, match="zone"):
        Rules(a_charter()).decide(a_request(), a_usage(), at=AT.replace(tzinfo=None))


MISTAKES = {
    "rows": lambda: a_request(rows=-1),
    "bytes": lambda: a_request(bytes=-1),
    "nobody running": lambda: a_usage(concurrent=0),
    "risk above": lambda: a_usage(risk=101),
    "risk below": lambda: a_usage(risk=-1),
    "used": lambda: a_usage(used={("rows", "day"): -1}),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_less_than_nothing_is_a_mistake(what):
    with pytest.raises(ValueError):
        MISTAKES[what]()


def test_requests_and_usage_have_no_defaults():
    for kind in (Request, Usage):
        with pytest.raises(TypeError):
            kind()


# --- compiling ----------------------------------------------------------------------------------


def test_a_charter_that_does_not_validate_is_refused(monkeypatch):
    text = module.policies(a_charter()).replace("context.rows", "context.rowz")
    monkeypatch.setattr(module, "policies", lambda _: text)
    with pytest.raises(FormatError, match="rowz") as caught:
        Rules(a_charter())
    assert caught.value.hint


def test_a_charter_without_permissions_permits_nothing():
    rules = Rules(a_charter(permissions=()))
    assert list(reasons(rules)) == ["permissions"]


def test_without_the_extra_there_is_one_clear_error(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name.partition(".")[0])

    monkeypatch.setattr(_extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError) as caught:
        Rules(a_charter())
    assert caught.value.hint == "pip install 'counterseal[charter]'"
