"""Random lives of an identity: whatever is done honestly verifies, and only forwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterseal.crypto.signing import SigningKey
from counterseal.errors import CountersealError, RolledBack, TrustError
from counterseal.trust import keyid, recovery, succession
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.keystores.keyring import Generation

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@cache
def keys(number: int) -> Generation:
    return Generation.create(hardware=number % 3 == 2)


@cache
def recovery_keys() -> tuple[SigningKey, ...]:
    return tuple(SigningKey.generate() for _ in range(3))


steps = st.lists(
    st.tuples(
        st.sampled_from(["rotate", "recover", "revoke newest", "revoke old"]),
        st.integers(0, 100),
    ),
    max_size=6,
)


def live(life: list[tuple[str, int]]) -> list[History]:
    """Every state of one life, in order. A step that makes no sense then is left out."""
    public = recovery.public_part(recovery_keys(), threshold=2)
    history = succession.first("lab", keys(0), recovery=public, at=NOW)[1]
    states, at = [history], NOW
    for step, days in life:
        at += timedelta(days=days)
        number = len(history.cards)
        newest = history.newest
        try:
            if step == "rotate" and newest.revoked is None:
                by = [keys(number - 1).signing]
                history = succession.next_card(history, keys(number), by=by, at=at)[1]
            elif step == "recover":
                by = list(recovery_keys()[:2])
                history = succession.next_card(history, keys(number), by=by, at=at)[1]
            elif step.startswith("revoke"):
                which = newest if step.endswith("newest") else history.cards[0]
                history = succession.revoke(
                    history, which.key_id, by=[keys(number - 1).signing], reason="lost", at=at
                )
        except TrustError:  # revoked already
            continue
        states.append(history)
    return states


@settings(max_examples=25, deadline=None)
@given(steps)
def test_an_honest_life_verifies_and_only_forwards(life: list[tuple[str, int]]) -> None:
    states = live(life)
    for older, newer in pairwise(states):
        again = CardDocument.parse(newer.document.encode())
        assert History.verify(again, pinned=older) == newer
        if older.document != newer.document:
            with pytest.raises(RolledBack):
                History.verify(older.document, pinned=newer)
    assert History.verify(states[-1].document, pinned=states[0]) == states[-1]
    assert {state.identity for state in states} == {states[0].identity}


@settings(max_examples=25, deadline=None)
@given(steps, st.integers(-400, 800), st.integers(-400, 800))
def test_at_most_the_newest_key_is_current_and_no_revoked_one_ever_counts(
    life: list[tuple[str, int]], made: int, at: int
) -> None:
    history = live(life)[-1]
    moment = NOW + timedelta(days=at)
    try:
        assert history.current(at=moment) is history.newest
        assert history.newest.revoked is None
        assert history.newest.card.created - timedelta(days=1) < moment
        assert moment <= history.newest.card.expires
    except CountersealError:
        pass
    for place, dated in enumerate(history.cards):
        try:
            found = history.for_signature(dated.key_id, made=NOW + timedelta(days=made), at=moment)
        except CountersealError:
            continue
        assert found is dated
        assert all(later.revoked is None for later in history.cards[place:])


@settings(max_examples=25, deadline=None)
@given(steps, st.data())
def test_parts_left_out_or_moved_are_refused(
    life: list[tuple[str, int]], data: st.DataObject
) -> None:
    newest = live(life)[-1]
    document = newest.document
    count = len(document.cards)
    kept = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count + 1))
    revocations = (
        data.draw(st.lists(st.sampled_from(document.revocations), unique=True))
        if (document.revocations)
        else []
    )
    changed = CardDocument(
        kind="cards",
        format=1,
        cards=tuple(document.cards[n] for n in kept),
        revocations=tuple(revocations),
    )
    same = kept == list(range(count)) and set(revocations) == set(document.revocations)
    try:
        assert History.verify(changed, pinned=newest).identity == newest.identity
        assert same
    except CountersealError:
        assert not same


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_key_id_read_aloud_names_one_card(one: bytes, two: bytes) -> None:
    for form in (keyid.words, keyid.digits, str):
        keyid.matches(one.hex(), form(one.hex()))
        if one != two:
            with pytest.raises(TrustError):
                keyid.matches(two.hex(), form(one.hex()))


@given(st.text(max_size=80))
def test_any_text_is_no_key_id(text: str) -> None:
    with pytest.raises(TrustError):
        keyid.matches("5a" * 32, text)
