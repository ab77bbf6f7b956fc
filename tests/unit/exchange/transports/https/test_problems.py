import json
from datetime import timedelta

import pytest
from workshop import AT

from counterseal import errors
from counterseal.errors import Aborted, CountersealError, QuotaExceeded
from counterseal.exchange.transports.https.problems import (
    _STATUS,
    StatusError,
    from_problem,
    nothing,
    problem,
)


def there_and_back(error):
    answer = problem(error, at=AT)
    return from_problem(answer.status, answer.body)


@pytest.mark.parametrize("name", sorted(set(_STATUS) - {"Aborted", "QuotaExceeded"}))
def test_a_class_comes_out_as_it_went_in(name):
    kind = getattr(errors, name)
    error = there_and_back(kind("so it is", hint="do that"))
    assert type(error) is kind
    assert error.message == "the mailbox says: so it is"
    assert error.hint == "do that"


def test_what_a_class_carries_comes_along():
    quota = there_and_back(QuotaExceeded("later", retry_at=AT + timedelta(seconds=5)))
    assert quota.retry_at == AT + timedelta(seconds=5)
    assert there_and_back(QuotaExceeded("never")).retry_at is None
    aborted = there_and_back(Aborted("no", party="client", check="this"))
    assert (aborted.party, aborted.check) == ("client", "this")


def test_retry_after_is_not_before_the_time():
    answer = problem(QuotaExceeded("x", retry_at=AT + timedelta(seconds=1.5)), at=AT)
    assert (answer.status, answer.headers["retry-after"]) == (429, "2")


def test_a_class_that_may_not_be_said_becomes_its_ancestor():
    error = there_and_back(errors.LedgerBroken("x"))
    assert type(error) is CountersealError
    assert type(there_and_back(errors.BudgetSpent("x"))) is CountersealError


def test_a_status_of_its_own():
    assert problem(StatusError("x", 418)).status == 418
    assert nothing().status == 404


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"[" * 10_000,
        b'{"type": "urn:counterseal:problem:LedgerBroken"}',
        b'{"type": "urn:counterseal:problem:__class__"}',
        b'{"type": "UnknownPartner"}',
        b'{"type": 7}',
        b"\xff\xfe",
    ],
)
def test_what_is_not_ours_is_a_broken_protocol(document):
    error = from_problem(500, document)
    assert type(error) is Aborted
    assert error.check == "HTTP status 500"


def test_its_words_are_cut_and_cleaned():
    said = {"title": "a\x1b[31m" + "b" * 1000, "detail": "\n\x00", "extra": 1}
    error = from_problem(400, json.dumps(said).encode())
    assert "\x1b" not in error.message
    assert len(error.message) < 400
    assert error.hint is None
