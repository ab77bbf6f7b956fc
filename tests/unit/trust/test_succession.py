"""Making the next document of a history; `History.verify` is run on each, as a partner runs it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from counterseal.errors import BadSignature, FormatError, RevokedKey, TrustError
from counterseal.trust import succession
from counterseal.trust.keystores.keyring import Generation
from counterseal.trust.recovery import NO_RECOVERY

if TYPE_CHECKING:
    from counterseal.crypto.signing import SigningKey
    from counterseal.trust.history import History

Generations = tuple[Generation, ...]


def test_the_first_card(first: History, now: datetime) -> None:
    card = first.newest.card
    assert (card.serial, card.identity, card.previous, card.name) == (1, None, None, "lab")
    assert (card.created, card.expires) == (now, now + timedelta(days=365))
    assert first.identity == first.newest.key_id


def test_a_rotation(first: History, generations: Generations, now: datetime) -> None:
    later = now + timedelta(days=30)
    key_id, history = succession.next_card(
        first, generations[1], by=[generations[0].signing], at=later
    )
    card = history.newest.card
    assert history.newest.key_id == key_id != first.newest.key_id
    assert (card.serial, card.identity, card.previous) == (2, first.identity, first.identity)
    assert card.recovery == first.newest.card.recovery  # it stays unless replaced
    assert history.identity == first.identity


def test_a_rotation_may_change_the_suite(
    first: History, generations: Generations, now: datetime
) -> None:
    _, history = succession.next_card(
        first, generations[2], by=[generations[0].signing], at=now, recovery=NO_RECOVERY
    )
    assert history.newest.card.signing.suite == "p256+mldsa65"
    assert history.newest.card.recovery == NO_RECOVERY


def test_a_clock_that_went_back_does_not_break_the_chain(
    first: History, generations: Generations, now: datetime
) -> None:
    _, history = succession.next_card(
        first, generations[1], by=[generations[0].signing], at=now - timedelta(days=1)
    )
    assert history.newest.card.created == now


def test_a_recovery(
    first: History,
    generations: Generations,
    recovery_keys: tuple[SigningKey, ...],
    now: datetime,
) -> None:
    for chosen in (recovery_keys[:2], recovery_keys[1:], recovery_keys):
        _, history = succession.next_card(first, generations[1], by=chosen, at=now)
        assert len(history.cards) == 2


def test_a_stranger_cannot_make_the_next_card(
    first: History, generations: Generations, now: datetime
) -> None:
    with pytest.raises(BadSignature):
        succession.next_card(first, generations[1], by=[generations[3].signing], at=now)
    with pytest.raises(BadSignature):
        succession.next_card(first, generations[1], by=[], at=now)


def test_the_same_keys_are_no_rotation(
    first: History, generations: Generations, now: datetime
) -> None:
    with pytest.raises(BadSignature):
        succession.next_card(first, generations[0], by=[], at=now)


@pytest.mark.parametrize("days", [0, -1, 5 * 366 + 1])
def test_a_lifetime_has_bounds(generations: Generations, now: datetime, days: int) -> None:
    with pytest.raises(FormatError):
        succession.first(
            "lab", generations[0], recovery=NO_RECOVERY, at=now, lifetime=timedelta(days=days)
        )


def test_revoking(first: History, generations: Generations, now: datetime) -> None:
    signer = [generations[0].signing]
    revoked = succession.revoke(first, first.identity, by=signer, reason="lost", at=now)
    assert revoked.newest.revoked is not None
    assert revoked.newest.revoked.reason == "lost"
    assert first.newest.revoked is None
    with pytest.raises(RevokedKey):
        succession.revoke(revoked, first.identity, by=signer, reason="lost", at=now)
    with pytest.raises(TrustError):
        succession.revoke(first, "0" * 64, by=signer, reason="lost", at=now)


def test_after_a_revocation_only_recovery_goes_on(
    first: History,
    generations: Generations,
    recovery_keys: tuple[SigningKey, ...],
    now: datetime,
) -> None:
    signer = generations[0].signing
    revoked = succession.revoke(first, first.identity, by=[signer], reason="compromised", at=now)
    with pytest.raises(BadSignature):
        succession.next_card(revoked, generations[1], by=[signer], at=now)
    _, history = succession.next_card(revoked, generations[1], by=recovery_keys[:2], at=now)
    assert history.current(at=now).card.serial == 2


def test_an_old_key_is_revoked_by_the_new_one_and_the_chain_stays(
    first: History, generations: Generations, now: datetime
) -> None:
    _, rotated = succession.next_card(first, generations[1], by=[generations[0].signing], at=now)
    revoked = succession.revoke(
        rotated, first.identity, by=[generations[1].signing], reason="compromised", at=now
    )
    assert revoked.cards[0].revoked is not None
    assert revoked.current(at=now) == revoked.cards[1]


def test_an_old_key_cannot_revoke_the_new_one(
    first: History, generations: Generations, now: datetime
) -> None:
    _, rotated = succession.next_card(first, generations[1], by=[generations[0].signing], at=now)
    with pytest.raises(BadSignature):
        succession.revoke(
            rotated, rotated.newest.key_id, by=[generations[0].signing], reason="lost", at=now
        )
