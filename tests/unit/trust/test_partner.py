"""Partners: pinned once, refreshed forwards."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from counterseal.errors import (
    ExpiredKey,
    FormatError,
    RevokedKey,
    RolledBack,
    TrustError,
    UnknownPartner,
)
from counterseal.trust import keyid, succession
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.keyring import Generation
from counterseal.trust.partner import Partner, PartnerBook
from counterseal.trust.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.trust.history import History

DAY = timedelta(days=1)
Generations = tuple[Generation, ...]


@pytest.fixture(scope="module")
def rotated(first: History, generations: Generations, now: datetime) -> History:
    return succession.next_card(first, generations[1], by=[generations[0].signing], at=now + DAY)[1]


@pytest.fixture(scope="module")
def us(now: datetime) -> Identity:
    return Identity.create("us", at=now)


def pin(history: History, now: datetime, name: str | None = None) -> Partner:
    return Partner.pin(history.document, key_id=history.newest.key_id, name=name, at=now)


def test_pin_by_what_was_read_aloud(first: History, now: datetime, tmp_path: Path) -> None:
    first.document.save(tmp_path / "lab.card")
    for said in (keyid.words(first.identity), keyid.digits(first.identity), first.identity):
        partner = Partner.pin(tmp_path / "lab.card", key_id=said, at=now)
        assert (partner.name, partner.key_id, partner.identity) == ("lab", *[first.identity] * 2)


def test_pin_under_a_name_of_our_own(first: History, now: datetime) -> None:
    assert pin(first, now, "our-lab").name == "our-lab"
    with pytest.raises(FormatError, match="cannot be a name"):
        pin(first, now, "Our Lab")


def test_what_is_not_in_force_cannot_be_pinned(
    first: History, generations: Generations, now: datetime
) -> None:
    with pytest.raises(ExpiredKey):
        pin(first, now + 366 * DAY)
    with pytest.raises(TrustError, match="future"):
        pin(first, now - DAY)
    revoked = succession.revoke(
        first, first.identity, by=[generations[0].signing], reason="lost", at=now
    )
    with pytest.raises(RevokedKey):
        pin(revoked, now)


def test_after_a_rotation_the_newest_key_id_is_compared(rotated: History, now: datetime) -> None:
    with pytest.raises(TrustError):
        Partner.pin(rotated.document, key_id=rotated.identity, at=now + DAY)
    assert pin(rotated, now + DAY).identity == rotated.identity


def test_the_book(first: History, rotated: History, now: datetime) -> None:
    book = PartnerBook(Store())
    with pytest.raises(UnknownPartner):
        book.get("lab")
    partner = pin(first, now)
    book.add(partner)
    assert book.get("lab") == partner
    assert book.by_identity(first.identity) == partner
    assert book.by_identity("0" * 64) is None
    before, after = book.refresh("lab", rotated.document)
    assert (before, after.history) == (partner, rotated)
    assert book.list() == [after]
    book.remove("lab")
    assert book.list() == []
    with pytest.raises(UnknownPartner):
        book.remove("lab")


def test_a_name_and_an_identity_are_pinned_once(
    first: History, generations: Generations, now: datetime
) -> None:
    book = PartnerBook(Store())
    book.add(pin(first, now))
    with pytest.raises(FormatError, match='named "lab"'):
        book.add(pin(first, now))
    with pytest.raises(FormatError, match='already as "lab"'):
        book.add(pin(first, now, "other"))


def test_a_refused_refresh_changes_nothing(first: History, rotated: History, now: datetime) -> None:
    book = PartnerBook(Store())
    book.add(pin(rotated, now + DAY))
    with pytest.raises(RolledBack):
        book.refresh("lab", first.document)
    assert book.get("lab").history == rotated


def test_prekeys_only_move_forwards(us: Identity, now: datetime) -> None:
    them = Identity.create("them", at=now)
    book = PartnerBook(Store())
    book.add(pin(them.history, now))
    old = them.make_prekeys(us.history, 1, at=now)
    new = them.make_prekeys(us.history, 2, at=now + DAY)
    book.add_prekeys("them", old, us=us.history, at=now)
    book.add_prekeys("them", new, us=us.history, at=now + DAY)
    with pytest.raises(RolledBack):
        book.add_prekeys("them", old, us=us.history, at=now + DAY)
    kept = book.get("them").prekeys
    assert kept is not None
    assert len(kept.keys) == 2
