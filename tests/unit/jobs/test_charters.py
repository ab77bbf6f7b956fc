"""Charters as two homes hold them."""

import pytest
from charters import BEGINS, a_charter, amended
from workshop import DAY, PASSPHRASE

from counterseal.errors import CharterDenied, RolledBack, TrustError
from counterseal.jobs.charters import CharterBook
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import Partner, PartnerBook

AT = BEGINS + 10 * DAY


class Town:
    def __init__(self, folder):
        self.us, self.books, self.partners = {}, {}, {}
        for name in ("lab", "clinic", "rival"):
            home = Home(folder / name)
            self.us[name] = Identity.create(name, home=home, passphrase=PASSPHRASE, at=BEGINS)
            self.partners[name] = PartnerBook(home.store)
        for name, us in self.us.items():
            for other, them in self.us.items():
                if other != name:
                    pinned = Partner.pin(them.card(), key_id=them.key_id, at=BEGINS)
                    self.partners[name].add(pinned)
            self.books[name] = CharterBook(
                us.history,
                self.partners[name],
                store=us.store,
                narrower=lambda new, old: new.limits.rows_per_request < old.limits.rows_per_request,
            )
        self.charter = a_charter(
            owner={"identity": self.us["lab"].history.identity},
            partner={"identity": self.us["clinic"].history.identity},
        )

    def offer(self, charter=None, *, who="lab"):
        return self.books[who].offer(charter or self.charter, by=self.us[who], at=AT)

    def sign(self):
        offered = self.books["clinic"].take(self.offer().document.encode())
        signed = self.books["clinic"].countersign(offered, by=self.us["clinic"], at=AT)
        return self.books["lab"].take(signed.document.encode())


@pytest.fixture
def town(tmp_path):
    return Town(tmp_path)


def test_a_charter_is_signed_and_found(town):
    signed = town.sign()
    assert signed.standing.at(AT) == "active"
    for name in (signed.charter.id[:8], "clinic", "scan", signed.charter.title):
        assert town.books["lab"].find(name).charter == signed.charter
    assert town.books["clinic"].find("lab").version.complete
    assert len(town.books["lab"].list()) == 1


def test_what_is_not_there_or_not_one(town):
    with pytest.raises(TrustError, match="no charter is called"):
        town.books["lab"].find("scan")
    town.offer()
    other = a_charter(
        id="0d" * 16,
        owner={"identity": town.charter.owner.identity},
        partner={"identity": town.charter.partner.identity},
    )
    town.offer(other)
    with pytest.raises(TrustError, match="several charters"):
        town.books["lab"].find("scan")
    assert town.books["lab"].find("0d0d0d0d").charter == other


def test_a_counter_offer(town):
    town.books["clinic"].take(town.offer().document.encode())
    theirs = a_charter(
        owner={"identity": town.charter.owner.identity},
        partner={"identity": town.charter.partner.identity},
        limits={"rows_per_request": 512},
    )
    countered = town.offer(theirs, who="clinic")
    assert countered.standing.state == "countered"
    held = town.books["lab"].take(countered.document.encode())
    signed = town.books["lab"].countersign(held, by=town.us["lab"], at=AT)
    assert signed.charter.limits.rows_per_request == 512


def test_the_owner_narrows_alone_and_widens_with_the_partner(town):
    signed = town.sign()
    narrow = town.offer(amended(signed.charter, limits={"rows_per_request": 10}))
    assert narrow.charter.limits.rows_per_request == 10
    assert town.books["clinic"].take(narrow.document.encode()).charter == narrow.charter
    asked = town.offer(amended(narrow.charter, limits={"rows_per_request": 999}))
    assert asked.charter.limits.rows_per_request == 10
    held = town.books["clinic"].take(asked.document.encode())
    done = town.books["clinic"].countersign(held, by=town.us["clinic"], at=AT)
    assert town.books["lab"].take(done.document.encode()).charter.limits.rows_per_request == 999


def test_the_partner_cannot_even_narrow_alone(town):
    signed = town.sign()
    asked = town.offer(amended(signed.charter, limits={"rows_per_request": 10}), who="clinic")
    assert asked.waiting is not None
    assert asked.charter == signed.charter


def test_an_older_file_changes_nothing(town):
    signed = town.sign()
    suspended = town.books["lab"].move(
        signed, "suspend", by=town.us["lab"], at=AT, reason="odd answers"
    )
    with pytest.raises(RolledBack):
        town.books["lab"].take(signed.document.encode())
    assert town.books["lab"].find("scan").standing == suspended.standing


def test_a_charter_of_others_is_not_kept(town):
    signed = town.sign()
    with pytest.raises(TrustError, match="between others"):
        town.books["rival"].take(signed.document.encode())
    assert town.books["rival"].list() == []


def test_nothing_to_countersign(town):
    with pytest.raises(CharterDenied, match="waits for no signature"):
        town.books["lab"].countersign(town.sign(), by=town.us["lab"], at=AT)
