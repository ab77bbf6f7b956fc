"""An identity: create, load, sign, open, rotate, revoke, recover."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from counterseal.crypto import statement
from counterseal.crypto.passphrase import Cost
from counterseal.errors import (
    BadCiphertext,
    BadSignature,
    ExpiredKey,
    FormatError,
    RevokedKey,
    TrustError,
    UnknownPartner,
)
from counterseal.trust import prekeys, recovery, signed
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity, check_name
from counterseal.trust.keystores import file as keystore_file

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.crypto.signing import SigningKey

DAY = timedelta(days=1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap: Cost):
    monkeypatch.setattr(keystore_file.passphrases, "Cost", lambda *a: cheap if not a else Cost(*a))
    made = Home(tmp_path / "home")
    yield made
    made.close()


def test_created_in_a_home_it_loads_again(home: Home, now: datetime) -> None:
    made = Identity.create("lab", home=home, passphrase=b"pass", at=now)
    loaded = Identity.load("lab", home=home, passphrase=b"pass")
    assert loaded.history == made.history == Identity.load_history("lab", home=home)
    assert (loaded.name, loaded.key_id) == ("lab", made.key_id)
    assert loaded.unprotect(made.protect(b"s", label="x"), label="x") == b"s"
    with pytest.raises(TrustError, match="wrong passphrase"):
        Identity.load("lab", home=home, passphrase=b"Pass")
    with pytest.raises(FileExistsError):
        Identity.create("lab", home=home, passphrase=b"pass")
    with pytest.raises(UnknownPartner):
        Identity.load("other", home=home, passphrase=b"pass")


def test_no_identity_comes_to_be_without_a_passphrase(home: Home) -> None:
    with pytest.raises(FormatError):
        Identity.create("lab", home=home)
    assert home.identities() == []
    Identity.create("lab", home=home, passphrase=b"pass")


@pytest.mark.parametrize("name", ["", "Lab", "../x", "a/b", ".lab", "lab\n", "a" * 65, "lab "])
def test_a_name_that_could_leave_its_folder_is_refused(home: Home, name: str) -> None:
    for use in (
        lambda: check_name(name),
        lambda: Identity.create(name, home=home, passphrase=b"p"),
        lambda: Identity.load(name, home=home, passphrase=b"p"),
    ):
        with pytest.raises(FormatError, match="cannot be a name"):
            use()


@pytest.mark.parametrize("hardware", [False, True])
def test_what_it_signs_and_opens(now: datetime, *, hardware: bool) -> None:
    lab = Identity.create("lab", hardware=hardware, at=now)
    card = lab.current(at=now).card
    assert card.signing.suite.startswith("p256" if hardware else "ed25519")
    envelope = lab.sign(card, "t", at=now)
    signed.verify(envelope, "t", by=card.signing.key())
    assert lab.signer(at=now).public == card.signing.key()
    statement.verify(card.statement, b"m", lab.sign_statement(b"m", at=now))
    [(key_id, opener)] = lab.openers()
    assert key_id == lab.key_id
    assert opener.open(card.agreement.key().seal(b"s", info=b""), info=b"") == b"s"


def test_a_card_in_force_is_needed_to_sign(now: datetime) -> None:
    lab = Identity.create("lab", at=now)
    with pytest.raises(ExpiredKey, match="our own"):
        lab.signer(at=now + 366 * DAY)
    lab.revoke(reason="ended", at=now)
    with pytest.raises(RevokedKey, match="our own"):
        lab.sign(lab.history.newest.card, "t", at=now)
    assert lab.openers() == []


def test_rotation_keeps_old_keys_until_they_are_forgotten(home: Home, now: datetime) -> None:
    lab = Identity.create("lab", home=home, passphrase=b"pass", at=now)
    old = lab.history.newest
    with pytest.raises(ValueError, match="passphrase"):
        lab.rotate(at=now + DAY)
    assert lab.history.newest == old
    lab.rotate(passphrase=b"pass", at=now + DAY)
    lab = Identity.load("lab", home=home, passphrase=b"pass")
    assert [key_id for key_id, _ in lab.openers()] == [lab.key_id, old.key_id]
    assert lab.forget_old_keys(passphrase=b"pass") == 1
    assert [key_id for key_id, _ in lab.openers()] == [lab.key_id]
    again = Identity.load("lab", home=home, passphrase=b"pass")
    assert [key_id for key_id, _ in again.openers()] == [lab.key_id]


def test_the_passphrase_can_be_changed(home: Home, now: datetime) -> None:
    lab = Identity.create("lab", home=home, passphrase=b"old", at=now)
    lab.change_passphrase(b"new")
    Identity.load("lab", home=home, passphrase=b"new")
    with pytest.raises(TrustError):
        Identity.load("lab", home=home, passphrase=b"old")
    with pytest.raises(RuntimeError):
        Identity.create("ephemeral", at=now).change_passphrase(b"x")


def test_lost_keys_are_recovered(recovery_keys: tuple[SigningKey, ...], now: datetime) -> None:
    public = recovery.public_part(recovery_keys, threshold=2)
    lab = Identity.create("lab", recovery=public, at=now)
    lab.revoke(reason="compromised", recovery_keys=recovery_keys[:2], at=now)
    with pytest.raises(BadSignature):
        lab.rotate(at=now)
    lab.rotate(recovery_keys=recovery_keys[1:], at=now)
    assert lab.current(at=now).card.serial == 2
    assert lab.history == History.verify(lab.card())
    assert [key_id for key_id, _ in lab.openers()] == [lab.key_id]


def test_somebody_elses_card_in_our_folder_signs_nothing(home: Home, now: datetime) -> None:
    Identity.create("lab", home=home, passphrase=b"pass", at=now)
    stranger = Identity.create("lab", at=now)
    stranger.card().save(home.identity_folder("lab") / "card.json")
    lab = Identity.load("lab", home=home, passphrase=b"pass")
    with pytest.raises(BadCiphertext):
        lab.signer(at=now)


def test_prekeys_for_a_partner(now: datetime) -> None:
    lab, clinic = Identity.create("lab", at=now), Identity.create("clinic", at=now)
    envelope = lab.make_prekeys(clinic.history, 2, at=now)
    bundle = prekeys.verify(envelope, of=lab.history, to=clinic.history.identity, at=now)
    assert lab.prekeys.count(partner=clinic.history.identity) == 2
    assert {prekeys.prekey_id(key) for key in bundle.keys} == set(lab.prekeys.ids())


def test_a_card_file_of_the_home_is_what_partners_get(home: Home, now: datetime) -> None:
    lab = Identity.create("lab", home=home, passphrase=b"pass", at=now)
    assert CardDocument.load(home.identity_folder("lab") / "card.json") == lab.card()


def test_recovery_keys_are_enough_when_all_else_is_lost(tmp_path, now):
    from counterseal.crypto.signing import SigningKey
    from counterseal.errors import BadSignature, RolledBack
    from counterseal.trust import recovery
    from counterseal.trust.home import Home

    keys = [SigningKey.generate() for _ in range(3)]
    named = recovery.public_part(keys, threshold=2)
    lab = Identity.create("lab", recovery=named, at=now)
    home = Home(tmp_path / "new")
    with pytest.raises(BadSignature):
        Identity.recover(lab.history, home=home, passphrase=b"pw", recovery_keys=keys[:1], at=now)
    assert not home.path.exists()
    Identity.recover(lab.history, home=home, passphrase=b"pw", recovery_keys=keys[1:], at=now)
    again = Identity.load("lab", home=home, passphrase=b"pw")
    assert again.history.identity == lab.history.identity
    assert again.key_id != lab.key_id
    assert len(again.openers()) == 1, "the old private keys are not there"
    again.rotate(passphrase=b"pw", at=now)
    with pytest.raises(RolledBack):  # the card from before would fork our own history
        Identity.recover(lab.history, home=home, passphrase=b"x", recovery_keys=keys, at=now)
    assert Identity.load("lab", home=home, passphrase=b"pw").key_id == again.key_id
