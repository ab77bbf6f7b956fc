"""Making directories: what is signed anew, when, and with which numbers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from notices import Desk, parts
from workshop import AT, DAY

from counterseal.errors import BadSignature, ExpiredKey, FormatError, TrustError
from counterseal.trust.directory import online, publisher
from counterseal.trust.directory.bundle import Contact, DirectoryBundle
from counterseal.trust.identity import Identity

URL = Contact.of("https://lab.example:8443/mail")


@pytest.fixture
def desk(cast):
    return Desk(cast)


def changed(before, after):
    return {name for name in after.files if after.files[name] != before.files.get(name)}


def test_the_first_directory_brings_everything(desk):
    made = desk.make(contact=URL)
    assert set(made.files) == {
        "1.root.json", "targets.json", "snapshot.json", "timestamp.json",
        "card.json", "prekeys.json", "contact.json",
    }  # fmt: skip
    lab = desk.take(made)
    assert len(lab.prekeys.keys) == 20
    assert lab.prekeys.last_resort is not None
    assert lab.urls == URL.urls
    assert lab.fresh_until == AT + 7 * DAY
    assert desk.book.get("lab") == lab


def test_it_is_one_canonical_document(desk):
    made = desk.make()
    assert DirectoryBundle.parse(made.encode()) == made


def test_when_nothing_changed_only_the_timestamp_is_new(desk):
    first = desk.make(contact=URL)
    second = desk.make(contact=URL, at=AT + DAY)
    assert changed(first, second) == {"timestamp.json"}
    desk.take(first)
    assert desk.take(second, at=AT + DAY).fresh_until == AT + 8 * DAY


@pytest.mark.parametrize(
    ("more", "days", "new"),
    [
        ({}, 8, {"targets.json", "snapshot.json", "prekeys.json"}),  # a week: the last resort
        ({"contact": URL}, 1, {"targets.json", "snapshot.json", "contact.json"}),
        ({"prekeys": 40}, 1, {"targets.json", "snapshot.json", "prekeys.json"}),
        ({"renew_online": True}, 1, {"2.root.json", "snapshot.json"}),
        ({"start_over": True}, 1, {"2.root.json"}),
    ],
    ids=["a week later", "contact", "more prekeys", "online key", "start over"],
)
def test_what_changed_is_signed_anew(desk, more, days, new):
    first = desk.make()
    second = desk.make(at=AT + days * DAY, **more)
    assert changed(first, second) == {"timestamp.json", *new}


@pytest.mark.parametrize(("days", "new"), [(14, False), (16, True)])
def test_targets_are_signed_again_before_they_end(desk, days, new):
    first = desk.make(prekeys=0)
    second = desk.make(prekeys=0, at=AT + days * DAY)
    assert ("targets.json" in changed(first, second)) == new


def test_the_root_is_signed_again_before_it_ends(desk):
    first = desk.make(prekeys=0)
    desk.lab.history.current(at=AT + 310 * DAY)
    second = desk.make(prekeys=0, at=AT + 310 * DAY)
    assert "2.root.json" in changed(first, second)
    desk.take(first)
    desk.take(second, at=AT + 310 * DAY)


def test_numbers_go_up_even_if_the_clock_goes_back(desk):
    first = desk.make()
    second = desk.make(at=AT - DAY, prekeys=0)
    for name in ("targets.json", "snapshot.json", "timestamp.json"):
        assert parts(second, name)["version"] == parts(first, name)["version"] + 1


def test_a_machine_with_the_online_key_alone_keeps_it_fresh(desk):
    first = desk.make()
    key = online.load(online.save(desk.lab, b"another passphrase"), b"another passphrase")
    desk.take(first)
    later = publisher.refresh_timestamp(first, key, at=AT + 6 * DAY)
    assert changed(first, later) == {"timestamp.json"}
    assert desk.take(later, at=AT + 6 * DAY).fresh_until == AT + 13 * DAY
    # and the identity goes on without having heard of it
    assert desk.take(desk.make(at=AT + 7 * DAY), at=AT + 7 * DAY).fresh_until == AT + 14 * DAY
    with pytest.raises(ExpiredKey, match=r"targets|snapshot"):
        publisher.refresh_timestamp(first, key, at=AT + 31 * DAY)


def test_the_online_key_of_another_card_refreshes_nothing(desk):
    key = desk.online_key()
    desk.make()
    desk.lab.rotate(at=AT)
    with pytest.raises(TrustError, match="online key"):
        publisher.refresh_timestamp(desk.make(), key, at=AT)


def test_a_rotation_is_followed(desk):
    desk.take(desk.make())
    desk.lab.rotate(at=AT + DAY)
    made = desk.make(at=AT + DAY)
    lab = desk.take(made, at=AT + DAY)
    assert lab.key_id == desk.lab.key_id
    assert len(parts(made, "2.root.json")["keys"]) == 2
    assert lab.prekeys.card == desk.lab.key_id


def test_several_rotations_are_followed_at_once(desk):
    desk.take(desk.make())
    for day in (1, 2, 3):
        desk.lab.rotate(at=AT + day * DAY)
        made = desk.make(at=AT + day * DAY)
    assert desk.take(made, at=AT + 3 * DAY).key_id == desk.lab.key_id


def test_a_deleted_old_key_cannot_lead_to_the_new_one(desk):
    desk.take(desk.make())
    desk.lab.rotate(at=AT)
    desk.lab.forget_old_keys()
    with pytest.raises(TrustError, match="deleted"):
        desk.make()
    made = desk.make(start_over=True)
    with pytest.raises(BadSignature, match=r"nothing leads|not signed by enough"):
        desk.take(made)
    desk.book.remove("lab")
    desk.book.add(desk.cast.partner(desk.lab))
    assert desk.take(made).fresh_until


def test_a_revoked_identity_says_so_and_nothing_else(desk):
    desk.take(desk.make())
    desk.lab.revoke(reason="ended", at=AT)
    made = desk.make()
    assert set(made.files) == {"card.json"}
    lab = desk.take(made)
    assert lab.history.newest.revoked is not None
    assert lab.fresh_until == AT + 7 * DAY, "no news but that"


def test_a_threshold_needs_the_recovery_keys_when_the_root_changes(recovered):
    desk, keys = recovered
    with pytest.raises(TrustError, match="2 signatures"):
        desk.make(threshold=2)
    desk.take(desk.make(threshold=2, cosigners=keys[:1]))
    desk.take(desk.make(at=AT + DAY), at=AT + DAY)
    with pytest.raises(TrustError, match="2 signatures"):
        desk.make(renew_online=True)
    desk.lab.rotate(at=AT + DAY)
    made = desk.make(at=AT + DAY, cosigners=keys[1:])
    root = parts(made, "2.root.json")["roles"]["root"]
    assert (len(root["keyids"]), root["threshold"]) == (4, 2)
    desk.take(made, at=AT + DAY)
    with pytest.raises(TrustError, match="2 signatures"):
        desk.make(threshold=1, at=AT + DAY)
    desk.take(desk.make(threshold=1, cosigners=keys[:1], at=AT + DAY), at=AT + DAY)
    with pytest.raises(TrustError, match="recovery keys"):
        desk.make(threshold=5, cosigners=keys, at=AT + DAY)


def test_what_is_asked_for_must_make_sense(desk):
    for prekeys in (-1, 2001):
        with pytest.raises(ValueError, match="prekeys"):
            desk.make(prekeys=prekeys)
    with pytest.raises(FormatError, match=r"canonical|form"):
        Contact.parse(b"{}")


def test_each_partner_has_a_directory_of_their_own(desk):
    bank = desk.cast.bank
    one, other = desk.make(), publisher.make_directory(desk.lab, bank.history, at=AT)
    assert parts(one, "1.root.json")["counterseal"]["partner"] == desk.clinic.history.identity
    assert parts(other, "1.root.json")["counterseal"]["partner"] == bank.history.identity
    shared = parts(one, "1.root.json")["roles"]["timestamp"]["keyids"]
    assert parts(other, "1.root.json")["roles"]["timestamp"]["keyids"] == shared
    assert one.files["prekeys.json"] != other.files["prekeys.json"]


def test_a_chain_of_roots_is_cut_at_its_limit(desk, monkeypatch):
    from counterseal.wire import limits

    monkeypatch.setattr(limits, "DIRECTORY_ROOTS", 3)
    for day in range(5):
        made = desk.make(renew_online=True, prekeys=0, at=AT + timedelta(seconds=day))
    assert list(made.roots()) == [3, 4, 5]
    desk.take(made)


def test_it_continues_on_a_restored_machine(tmp_path, cast):
    from counterseal.trust import backup
    from counterseal.trust.home import Home

    lab = Identity.create("lab", home=Home(tmp_path / "a"), passphrase=b"p", at=AT - DAY)
    cast.lab = lab
    desk = Desk(cast)
    desk.take(desk.make())
    data = backup.make(lab, b"q")
    lab._home.close()
    desk.lab = backup.restore(data, b"q", home=Home(tmp_path / "b"))
    made = desk.make(at=AT + DAY)
    assert desk.take(made, at=AT + DAY).fresh_until == AT + 8 * DAY
    assert list(made.roots()) == [1], "the online key came back too"
    desk.lab._home.close()


@pytest.fixture
def recovered(cast):
    from counterseal.crypto.signing import SigningKey
    from counterseal.trust import recovery

    keys = [SigningKey.generate() for _ in range(3)]
    public = recovery.public_part(keys, threshold=2)
    cast.lab = Identity.create("lab", recovery=public, at=AT - DAY)
    return Desk(cast), keys
