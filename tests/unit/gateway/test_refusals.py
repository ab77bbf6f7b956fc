"""A no, as it travels and as it is read again."""

import inspect
from datetime import timedelta

import msgspec
import pytest
from charters import AT, a_charter, a_request, a_usage

from counterseal import errors
from counterseal.charter.decision import Rules
from counterseal.errors import (
    Aborted,
    CharterDenied,
    CountersealError,
    FormatError,
    PurposeMismatch,
    QuotaExceeded,
    SessionExpired,
    TrustError,
)
from counterseal.gateway.refusals import (
    CutOffError,
    ModelFailedError,
    NotServedError,
    RateExceeded,
    TooLarge,
    denied,
    from_problem,
    refusal,
)

STATUS = {
    TooLarge: 413,
    NotServedError: 404,
    CutOffError: 503,
    SessionExpired: 401,
    QuotaExceeded: 429,
    RateExceeded: 429,
    CharterDenied: 403,
    PurposeMismatch: 403,
    errors.RolledBack: 412,
    TrustError: 403,
    errors.RevokedKey: 403,
    errors.ReplayedMessage: 409,
    errors.BadSignature: 403,
    FormatError: 400,
    ModelFailedError: 500,
}


@pytest.mark.parametrize("kind", STATUS)
def test_each_kind_has_its_status_and_comes_back_as_what_it_was(kind):
    said = refusal(kind("no", hint="a hint"))
    assert said.status == STATUS[kind]
    back = from_problem(said.status, said.body("ab" * 16))
    assert "no" in back.message
    assert back.hint == "a hint"
    if kind not in {
        errors.BadSignature,
        ModelFailedError,
        RateExceeded,
    }:  # of signatures we judge ourselves
        assert type(back) is kind


def test_what_went_wrong_inside_is_not_told():
    said = refusal(CountersealError("cannot use the database db.example", hint="db.example"))
    assert said.status == 500
    assert b"db.example" not in said.body(None) + said.openai_body()


def test_a_refusal_in_the_form_of_openai_comes_back_as_what_it_was():
    said = refusal(QuotaExceeded("used up"), policy="limits.quotas[0]")
    back = from_problem(429, said.openai_body())
    assert type(back) is QuotaExceeded
    assert "used up [limits.quotas[0]]" in back.message
    assert type(from_problem(403, refusal(PurposeMismatch("no")).openai_body())) is PurposeMismatch


def test_every_error_of_ours_can_be_a_refusal():
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, CountersealError):
            made = kind.__new__(kind)
            CountersealError.__init__(made, "no")
            if isinstance(made, QuotaExceeded):
                made.retry_at = None
            assert 400 <= refusal(made).status < 600


def test_the_policy_and_the_time_to_try_again_travel():
    error = QuotaExceeded("used up", retry_at=AT + timedelta(seconds=90))
    said = refusal(error, policy="limits.quotas[0]", at=AT, headers={"ratelimit-limit": "5"})
    headers = said.all_headers()
    assert headers["retry-after"] == "90"
    assert headers["ratelimit-limit"] == "5"
    assert headers["x-should-retry"] == "false"
    assert headers["cache-control"] == "no-store"
    back = from_problem(429, said.body(None))
    assert back.retry_at == AT + timedelta(seconds=90)
    assert "limits.quotas[0]" in back.message


def test_a_session_that_is_over_says_how_to_come_back():
    assert "Bearer" in refusal(SessionExpired("over")).all_headers()["www-authenticate"]


def test_openais_form_has_the_hint_in_its_message():
    said = refusal(QuotaExceeded("used up", retry_at=None, hint="wait"), policy="limits.quotas[0]")
    error = msgspec.json.decode(said.openai_body())["error"]
    assert error == {
        "message": "used up (wait)",
        "type": "insufficient_quota",
        "param": "limits.quotas[0]",
        "code": "charter_quota",
    }


def test_a_decision_becomes_the_error_and_the_first_place_that_says_so():
    rules = Rules(a_charter())
    decision = rules.decide(a_request(purpose="resale"), a_usage(), at=AT)
    error, path = denied(decision)
    assert isinstance(error, PurposeMismatch)
    assert path.startswith("purpose")
    with pytest.raises(ValueError, match="allows"):
        denied(rules.decide(a_request(), a_usage(), at=AT))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"nonsense",
        b"[" * 5000,
        b'{"type": 7}',
        b"\xff\xfe",
        b'{"type": "urn:counterseal:problem:__class__", "title": "x"}',
        b'{"type": "urn:counterseal:problem:LedgerBroken", "title": "x"}',
        b'{"type": "about:blank", "title": "x"}',
    ],
)
def test_what_is_no_problem_of_a_gateway_is_a_peer_that_gave_up(document):
    found = from_problem(500, document)
    assert isinstance(found, Aborted)


def test_a_gateway_writes_nothing_strange_to_our_terminal():
    document = msgspec.json.encode(
        {"type": "urn:counterseal:problem:CharterDenied", "title": "a\x1b[31mb\n\r\x07" + "c" * 900}
    )
    message = from_problem(403, document).message
    assert message.isprintable()
    assert len(message) < 700
