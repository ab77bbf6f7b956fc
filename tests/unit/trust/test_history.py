"""Which keys speak for an organisation, and when. The attacks stand in tests/attacks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from counterseal.errors import BadSignature, ExpiredKey, RevokedKey, TrustError
from counterseal.trust import succession
from counterseal.trust.history import CLOCK_SKEW, History
from counterseal.trust.keystores.keyring import Generation

if TYPE_CHECKING:
    from counterseal.crypto.signing import SigningKey

DAY = timedelta(days=1)
Generations = tuple[Generation, ...]


@pytest.fixture(scope="module")
def rotated(first: History, generations: Generations, now: datetime) -> History:
    """Two cards; the second starts on day 100."""
    by = [generations[0].signing]
    return succession.next_card(first, generations[1], by=by, at=now + 100 * DAY)[1]


def test_the_same_document_verifies_against_itself(rotated: History) -> None:
    assert History.verify(rotated.document, pinned=rotated) == rotated


def test_a_history_moves_forwards(first: History, rotated: History) -> None:
    assert History.verify(rotated.document, pinned=first).newest == rotated.newest


def test_current_from_the_first_to_the_last_second(first: History, now: datetime) -> None:
    card = first.newest.card
    for moment in (card.created - CLOCK_SKEW, card.created, card.expires):
        assert first.current(at=moment) == first.newest
    with pytest.raises(TrustError, match="future"):
        first.current(at=card.created - CLOCK_SKEW - timedelta(seconds=1))
    with pytest.raises(ExpiredKey):
        first.current(at=card.expires + timedelta(seconds=1))


def test_current_says_what_to_do(first: History, generations: Generations, now: datetime) -> None:
    revoked = succession.revoke(
        first, first.identity, by=[generations[0].signing], reason="ended", at=now
    )
    with pytest.raises(RevokedKey, match="ended") as caught:
        revoked.current(at=now)
    assert "partner refresh lab" in str(caught.value.hint)


# made and at: days after the first card; the second card replaces it on day 100, grace 14 days
GRACE = {
    "made and read before the replacement": (50, 50, None),
    "made before, read within the grace": (99, 110, None),
    "made on the day, read on the last day": (100, 114, None),
    "read after the grace": (99, 114.001, ExpiredKey),
    "made after the replacement": (100.5, 101, ExpiredKey),
    "made long before, read after the grace": (1, 200, ExpiredKey),
}


@pytest.mark.parametrize("case", GRACE)
def test_grace(rotated: History, now: datetime, case: str) -> None:
    made, at, error = GRACE[case]
    identifier = rotated.cards[0].key_id
    if error is None:
        dated = rotated.for_signature(identifier, made=now + made * DAY, at=now + at * DAY)
        assert dated == rotated.cards[0]
    else:
        with pytest.raises(error):
            rotated.for_signature(identifier, made=now + made * DAY, at=now + at * DAY)


def test_the_newest_key_counts_while_it_is_current(rotated: History, now: datetime) -> None:
    at = now + 101 * DAY
    assert rotated.for_signature(rotated.newest.key_id, made=at, at=at) == rotated.newest
    with pytest.raises(ExpiredKey):
        rotated.for_signature(rotated.newest.key_id, made=at, at=now + 466 * DAY)


def test_a_key_that_had_ended_before_it_was_replaced_signs_nothing_later(
    first: History, generations: Generations, now: datetime
) -> None:
    by = [generations[0].signing]
    late = succession.next_card(first, generations[1], by=by, at=now + 370 * DAY)[1]
    with pytest.raises(ExpiredKey):
        late.for_signature(first.identity, made=now + 366 * DAY, at=now + 371 * DAY)
    late.for_signature(first.identity, made=now + 365 * DAY, at=now + 371 * DAY)


def test_an_unknown_key_id_is_refused(rotated: History, now: datetime) -> None:
    for identifier in ("0" * 64, "", rotated.identity[:-1], rotated.identity.upper()):
        with pytest.raises(BadSignature, match="not one of"):
            rotated.for_signature(identifier, made=now, at=now)


def test_a_revoked_key_has_no_grace(
    rotated: History, generations: Generations, now: datetime
) -> None:
    at = now + 101 * DAY
    revoked = succession.revoke(
        rotated, rotated.identity, by=[generations[1].signing], reason="lost", at=at
    )
    with pytest.raises(RevokedKey):
        revoked.for_signature(rotated.identity, made=now, at=at)
    assert revoked.for_signature(revoked.newest.key_id, made=at, at=at)


def test_there_is_no_grace_once_a_later_key_was_revoked(
    rotated: History,
    generations: Generations,
    recovery_keys: tuple[SigningKey, ...],
    now: datetime,
) -> None:
    """The keystore that lost the new key held the old one too."""
    at = now + 101 * DAY
    revoked = succession.revoke(
        rotated, rotated.newest.key_id, by=[generations[1].signing], reason="lost", at=at
    )
    recovered = succession.next_card(revoked, generations[3], by=recovery_keys[:2], at=at)[1]
    for history in (revoked, recovered):
        with pytest.raises(RevokedKey):
            history.for_signature(rotated.identity, made=now + 99 * DAY, at=at)
    assert recovered.for_signature(recovered.newest.key_id, made=at, at=at)
