"""What a directory brings, and what is remembered of it."""

from __future__ import annotations

import pytest
from notices import Desk, edited, parts, restamped, signed, swapped
from workshop import AT, DAY, Cut

from counterseal.crypto.signing import SigningKey
from counterseal.errors import (
    BadSignature,
    CountersealError,
    ExpiredKey,
    FormatError,
    RevokedKey,
    RolledBack,
    TrustError,
)
from counterseal.trust import recovery
from counterseal.trust.directory import publisher, reader
from counterseal.trust.directory.bundle import Contact
from counterseal.trust.directory.known import Known
from counterseal.trust.identity import Identity

FAR = 2**53 - 1


@pytest.fixture
def desk(cast):
    return Desk(cast)


def known(desk):
    place = f"{desk.lab.history.identity}/{desk.clinic.history.identity}"
    return Known.parse(desk.clinic.store.get("directory", place))


def test_the_same_one_may_come_twice(desk):
    made = desk.make()
    assert desk.take(made) == desk.take(made)


def test_a_refused_one_changes_nothing(desk):
    desk.take(desk.make())
    before, remembered = desk.book.get("lab"), known(desk)
    desk.lab.rotate(at=AT + DAY)
    made = desk.make(at=AT + DAY)
    with pytest.raises(BadSignature):
        desk.take(swapped(made, **{"prekeys.json": b"{}"}), at=AT + DAY)
    assert (desk.book.get("lab"), known(desk)) == (before, remembered)


def test_what_is_remembered(desk):
    made = desk.make()
    desk.take(made)
    marks = known(desk)
    assert marks.root == made.files["1.root.json"]
    assert marks.card == desk.lab.key_id
    numbers = [parts(made, f"{role}.json")["version"] for role in ("timestamp", "snapshot")]
    assert [marks.timestamp, marks.snapshot, marks.targets] == [*numbers, 1]


def test_it_is_as_fresh_as_its_first_part_to_end(desk):
    made = desk.make(prekeys=0)
    late = desk.make(prekeys=0, at=AT + 10 * DAY)
    assert desk.take(made).fresh_until == AT + 7 * DAY
    assert desk.take(late, at=AT + 10 * DAY).fresh_until == AT + 17 * DAY
    key = desk.online_key()
    later = publisher.refresh_timestamp(late, key, at=AT + 29 * DAY)
    assert desk.take(later, at=AT + 29 * DAY).fresh_until == AT + 30 * DAY, "the targets end then"


def test_silence_makes_a_partner_unusable_only_once_they_gave_a_directory(desk):
    assert desk.book.usable("lab", at=AT + 300 * DAY).fresh_until is None
    desk.take(desk.make())
    desk.book.usable("lab", at=AT + 6 * DAY)
    with pytest.raises(ExpiredKey, match="no news") as caught:
        desk.book.usable("lab", at=AT + 7 * DAY)
    assert caught.value.hint
    desk.book.usable("lab", at=AT + 8 * DAY, overdue=2 * DAY)


def test_a_revocation_arrives_and_nothing_else_has_to(desk):
    desk.take(desk.make())
    desk.lab.revoke(reason="compromised", at=AT)
    lab = desk.take(desk.make())
    with pytest.raises(RevokedKey):
        lab.history.current(at=AT)


def test_a_card_alone_is_no_directory(desk):
    made = desk.make()
    with pytest.raises((FormatError, BadSignature)):
        desk.take(swapped(made, **{name: None for name in made.files if name != "card.json"}))


def test_prekeys_handed_over_since_are_kept(desk):
    made = desk.make()
    newer = desk.lab.make_prekeys(desk.clinic.history, 3, at=AT + DAY)
    us = desk.clinic.history
    held = desk.book.add_prekeys("lab", newer, us=us, at=AT + DAY).prekeys
    assert desk.take(made, at=AT + DAY).prekeys == held
    assert desk.take(desk.make(at=AT + 8 * DAY), at=AT + 8 * DAY).prekeys != held


def test_two_of_our_identities_in_one_home(desk):
    branch = Identity.create("branch", at=AT - DAY)
    desk.take(desk.make())
    made = publisher.make_directory(desk.lab, branch.history, at=AT + DAY)
    book = desk.book
    after = book.update_directory("lab", made, us=branch.history, at=AT + DAY)[1]
    assert after.fresh_until == AT + 8 * DAY
    assert desk.take(desk.make(at=AT), at=AT + DAY).fresh_until == AT + 8 * DAY
    assert len(desk.clinic.store.items("directory")) == 2
    book.remove("lab")
    assert not desk.clinic.store.items("directory"), "who is pinned anew starts anew"


def test_a_directory_from_before_a_card_that_we_have_is_refused(desk):
    made = desk.make()
    desk.lab.rotate(at=AT)
    desk.book.refresh("lab", desk.lab.card())
    with pytest.raises(RolledBack):
        desk.take(made)
    desk.take(desk.make())


def test_marks_under_a_card_that_is_not_pinned_are_an_error(desk):
    desk.lab.rotate(at=AT)
    with pytest.raises(RolledBack):
        reader.handed_over(desk.lab.history, since="0" * 64)


# --- recovery from thieves that count far ahead -----------------------------------------------


def far_ahead(desk):
    """The thief of the online key has the clinic remember the highest number there is."""
    made = desk.make()
    thief = desk.online_key()
    forged = edited(made, "snapshot.json", lambda part: part.update(version=FAR), thief)
    add = FAR - parts(made, "timestamp.json")["version"]
    desk.take(restamped(forged, thief, add=add))
    with pytest.raises(RolledBack):
        desk.take(desk.make(at=AT + DAY), at=AT + DAY)


def test_a_new_online_key_makes_its_numbers_start_again(desk):
    far_ahead(desk)
    made = desk.make(at=AT + DAY, renew_online=True)
    assert desk.take(made, at=AT + DAY).fresh_until == AT + 8 * DAY


def test_only_a_new_online_key_does(desk, monkeypatch):
    far_ahead(desk)
    Cut(
        "counterseal.trust.directory.reader:update",
        "before is not None and _online(before.signed) == _online(root.signed)",
        "True",
    ).apply(monkeypatch)
    with pytest.raises(RolledBack):
        desk.take(desk.make(at=AT + DAY, renew_online=True), at=AT + DAY)


@pytest.fixture
def robbed(cast):
    """The identity key is stolen; the thief has the clinic follow to a far root of its own."""
    keys = [SigningKey.generate() for _ in range(2)]
    public = recovery.public_part(keys, threshold=2)
    cast.lab = Identity.create("lab", recovery=public, at=AT - DAY)
    desk = Desk(cast)
    made, stolen = desk.make(prekeys=0), desk.identity_key()
    chain = {}
    for version in range(2, 12):
        root = {**parts(made, "1.root.json"), "version": version}
        chain[f"{version}.root.json"] = signed(root, stolen)
    desk.take(swapped(made, **chain))
    desk.lab.revoke(reason="compromised", recovery_keys=keys, at=AT)
    desk.lab.rotate(recovery_keys=keys, at=AT)
    return desk


def test_after_a_recovery_the_card_history_leads_to_the_root(robbed):
    made = robbed.make(at=AT + DAY)
    assert list(made.roots()) == [2]
    assert robbed.take(made, at=AT + DAY).key_id == robbed.lab.key_id
    robbed.take(robbed.make(at=AT + 2 * DAY), at=AT + 2 * DAY)


def test_and_nothing_else_would(robbed, monkeypatch):
    made = robbed.make(at=AT + DAY)
    monkeypatch.setattr(reader, "handed_over", lambda *_, **__: True)
    with pytest.raises(CountersealError):
        robbed.take(made, at=AT + DAY)


def test_a_recovery_keeps_the_threshold(cast):
    keys = [SigningKey.generate() for _ in range(2)]
    public = recovery.public_part(keys, threshold=2)
    cast.lab = Identity.create("lab", recovery=public, at=AT - DAY)
    desk = Desk(cast)
    desk.take(desk.make(threshold=2, cosigners=keys[:1]))
    desk.lab.revoke(reason="compromised", recovery_keys=keys, at=AT)
    desk.lab.rotate(recovery_keys=keys, at=AT)
    with pytest.raises(TrustError, match="recovery keys"):
        desk.make(threshold=1)
    desk.take(desk.make(threshold=1, cosigners=keys[1:]))


def test_contact_is_the_latest(desk):
    desk.take(desk.make(contact=Contact.of("https://a.example")))
    assert desk.book.get("lab").urls == ("https://a.example",)
    desk.take(desk.make(at=AT + DAY), at=AT + DAY)
    assert desk.book.get("lab").urls == ()
