"""From draft to closed: every step in the table can be taken, and no other."""

from datetime import timedelta
from itertools import product
from typing import get_args

import pytest
from charters import AT, BEGINS, ENDS, a_charter, amended

from counterseal.charter.signing import SignedCharter
from counterseal.charter.states import STEPS, Action, Standing, State, Step
from counterseal.errors import CharterDenied, RolledBack, TamperError

BOTH = frozenset({"owner", "partner"})
CHARTER = a_charter()
SECOND = timedelta(seconds=1)


def signed(charter=CHARTER, sides=BOTH):
    return SignedCharter(charter, None, frozenset(sides))


def step(action, standing, *, of=CHARTER, at=AT, **change):
    last = standing.last
    fields = {
        "kind": "charter-step",
        "format": 1,
        "charter": of.id,
        "number": 1 if last is None else last.number + 1,
        "previous": None if last is None else last.digest,
        "action": action,
        "version": of.digest,
        "reason": None,
        "at": at,
    }
    return Step(**{**fields, **change})


def standing_in(state, moved=("owner",)):
    """A charter in force of time, in this state."""
    if state == "draft":
        return Standing()
    last = step("offer", Standing(), at=BEGINS)
    return Standing(state, signed(), last, frozenset(moved))


@pytest.mark.parametrize(("action", "state"), list(product(get_args(Action), get_args(State))))
def test_what_is_not_in_the_table_is_refused(action, state):
    standing = standing_in(state)
    # A signed charter whose time has come is active by the clock.
    at = BEGINS - SECOND if state == "signed" else AT
    standing = (
        standing
        if state != "signed"
        else Standing("signed", signed(), step("sign", Standing(), at=at), frozenset({"owner"}))
    )
    charter = amended(CHARTER, title="more") if action == "amend" else CHARTER
    move = step(action, standing, of=charter, at=at)
    who = frozenset({"partner"}) if STEPS.get((action, state), ("", ""))[1] != "both" else BOTH
    if (action, state) in STEPS:
        after = standing.after(move, by=who, version=signed(charter))
        assert after.state == STEPS[action, state][0]
        assert after.moved == who
    else:
        for by in (who, BOTH):
            with pytest.raises(CharterDenied, match="has no step"):
                standing.after(move, by=by, version=signed(charter))


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_but_draft_is_reached(state):
    reached = {to for to, _ in STEPS.values()}
    assert state == "draft" or state in reached or state == "active"


@pytest.mark.parametrize(
    ("action", "state"), [pair for pair, (_, who) in STEPS.items() if who == "both"]
)
@pytest.mark.parametrize("by", [{"owner"}, {"partner"}])
def test_what_needs_both_is_not_done_by_one(action, state, by):
    standing = standing_in(state)
    charter = amended(CHARTER, title="more") if action == "amend" else CHARTER
    with pytest.raises(CharterDenied, match="both parties"):
        standing.after(step(action, standing, of=charter), by=by, version=signed(charter))


@pytest.mark.parametrize(
    ("action", "state"), [pair for pair, (_, who) in STEPS.items() if who == "other"]
)
def test_nobody_answers_its_own_offer(action, state):
    standing = standing_in(state, moved=("owner",))
    with pytest.raises(CharterDenied, match="the other side"):
        standing.after(step(action, standing), by={"owner"}, version=signed())


def test_a_step_that_nobody_signed():
    standing = standing_in("active")
    with pytest.raises(CharterDenied, match="a party"):
        standing.after(step("suspend", standing), by=frozenset(), version=signed())


def test_either_suspends_alone():
    for side in ("owner", "partner"):
        standing = standing_in("active")
        after = standing.after(step("suspend", standing), by={side}, version=signed())
        assert after.at(AT) == "suspended"


def test_the_clock_begins_and_ends_it():
    before = Standing("signed", signed(), step("sign", Standing(), at=BEGINS - SECOND), BOTH)
    assert before.at(BEGINS - SECOND) == "signed"
    assert before.at(BEGINS) == "active"
    assert before.at(ENDS - SECOND) == "active"
    assert before.at(ENDS) == "exiting"
    for state in ("active", "suspended"):
        assert standing_in(state).at(ENDS) == "exiting"
    assert Standing().at(AT) == "draft"


def test_nothing_is_resumed_after_the_term():
    standing = standing_in("suspended")
    with pytest.raises(CharterDenied, match="exiting"):
        standing.after(step("resume", standing, at=ENDS), by=BOTH, version=signed())


def test_a_charter_is_not_in_force_before_both_have_signed():
    standing = standing_in("accepted")
    with pytest.raises(CharterDenied, match="have not signed"):
        standing.after(step("sign", standing), by={"owner"}, version=signed(sides={"owner"}))


def test_a_narrower_amendment_needs_the_owner_only():
    standing = standing_in("active")
    new = amended(CHARTER, limits={"rows_per_request": 1})
    move = step("amend", standing, of=new)
    alone = {"by": {"owner"}, "version": signed(new, {"owner"})}
    assert standing.after(move, narrower=True, **alone).version.charter == new
    with pytest.raises(CharterDenied):
        standing.after(move, narrower=False, **alone)
    with pytest.raises(CharterDenied):
        standing.after(move, narrower=True, by={"partner"}, version=signed(new, {"partner"}))
    with pytest.raises(CharterDenied, match="have not signed"):
        standing.after(move, by=BOTH, version=signed(new, {"owner"}))


CHAINS = {
    "a number left out": {"number": 3},
    "another step before it": {"previous": "00" * 32},
    "of another charter": {"charter": "00" * 16},
    "about another version": {"version": "00" * 32},
    "dated before the last": {"at": BEGINS - SECOND},
}


@pytest.mark.parametrize("what", CHAINS)
def test_a_step_that_does_not_follow(what):
    standing = standing_in("active")
    with pytest.raises(TamperError):
        standing.after(step("suspend", standing, **CHAINS[what]), by={"owner"}, version=signed())


def test_only_an_amendment_brings_another_text():
    standing = standing_in("active")
    other = a_charter(title="another text")
    with pytest.raises(TamperError, match="another version"):
        standing.after(step("suspend", standing, of=other), by={"owner"}, version=signed(other))


AMENDMENTS = {
    "the same version again": (CHARTER, RolledBack),
    "a version that skips one": (
        a_charter(version=3, previous=CHARTER.digest),
        TamperError,
    ),
    "a version that follows another": (a_charter(version=2, previous="00" * 32), TamperError),
    "other parties": (amended(CHARTER, partner={"identity": "33" * 32}), TamperError),
}


@pytest.mark.parametrize("what", AMENDMENTS)
def test_an_amendment_that_does_not_continue(what):
    charter, error = AMENDMENTS[what]
    standing = standing_in("active")
    with pytest.raises(error):
        standing.after(step("amend", standing, of=charter), by=BOTH, version=signed(charter))
