"""An identity comes back from one encrypted file; its old packages do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from counterseal.errors import FormatError, TrustError
from counterseal.trust import backup, recovery
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores import file as keystore_file
from counterseal.trust.partner import Partner, PartnerBook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from counterseal.crypto.passphrase import Cost


@pytest.fixture(autouse=True)
def least_cost(monkeypatch: pytest.MonkeyPatch, cheap: Cost) -> None:
    real = keystore_file.passphrases.Cost
    monkeypatch.setattr(
        keystore_file.passphrases, "Cost", lambda *given: real(*given) if given else cheap
    )


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Home, Home]]:
    made = Home(tmp_path / "old"), Home(tmp_path / "new")
    yield made
    for home in made:
        home.close()


@pytest.fixture
def lab(homes: tuple[Home, Home], now: datetime) -> Identity:
    return Identity.create("lab", home=homes[0], passphrase=b"pass", at=now)


def test_keys_history_and_partners_come_back(
    lab: Identity, homes: tuple[Home, Home], now: datetime
) -> None:
    clinic = Identity.create("clinic", at=now)
    pinned = Partner.pin(clinic.card(), key_id=clinic.key_id, at=now)
    PartnerBook(lab.store).add(pinned)
    lab.rotate(passphrase=b"pass", at=now)
    data = backup.make(lab, b"another pass")
    back = backup.restore(data, b"another pass", home=homes[1])
    assert back.history == lab.history
    assert [card for card, _ in back.openers()] == [card for card, _ in lab.openers()]
    assert back.unprotect(lab.protect(b"s", label="x"), label="x") == b"s"
    assert PartnerBook(back.store).get("clinic") == pinned
    Identity.load("lab", home=homes[1], passphrase=b"another pass")


def test_one_time_prekeys_do_not_come_back(
    lab: Identity, homes: tuple[Home, Home], now: datetime
) -> None:
    lab.make_prekeys(Identity.create("clinic", at=now).history, 2, at=now)
    back = backup.restore(backup.make(lab, b"p"), b"p", home=homes[1])
    assert len(lab.prekeys.ids()) == 2
    assert back.prekeys.ids() == []


def test_marks_that_are_there_never_move_down(lab: Identity, homes: tuple[Home, Home]) -> None:
    lab.store.put("seen", "clinic", b"old")
    data = backup.make(lab, b"p")
    homes[1].store.put("seen", "clinic", b"newer")
    back = backup.restore(data, b"p", home=homes[1])
    assert back.store.get("seen", "clinic") == b"newer"


def test_an_identity_that_is_there_is_not_replaced(lab: Identity, homes: tuple[Home, Home]) -> None:
    with pytest.raises(FileExistsError):
        backup.restore(backup.make(lab, b"p"), b"p", home=homes[0])


def test_a_wrong_passphrase_or_another_kind_of_file_restores_nothing(
    lab: Identity, homes: tuple[Home, Home], tmp_path: Path
) -> None:
    data = backup.make(lab, b"p")
    with pytest.raises(TrustError, match="wrong passphrase"):
        backup.restore(data, b"q", home=homes[1])
    keystore = (homes[0].identity_folder("lab") / "keystore.json").read_bytes()
    with pytest.raises(FormatError, match="this is a keystore"):
        backup.restore(keystore, b"pass", home=homes[1])
    (tmp_path / "backup").write_bytes(data)
    with pytest.raises(FormatError, match="this is a backup"):
        recovery.load(tmp_path / "backup", b"p")
    assert homes[1].identities() == []


def test_two_identities_in_one_home_do_not_touch_each_others_prekeys(tmp_path, now):
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity

    home = Home(tmp_path / "home")
    lab = Identity.create("lab", home=home, passphrase=b"pw", at=now)
    branch = Identity.create("branch", home=home, passphrase=b"pw", at=now)
    partner = Identity.create("clinic", at=now)
    lab.make_prekeys(partner.history, 2, at=now)
    branch.make_prekeys(partner.history, 1, at=now)
    assert len(lab.prekeys.ids()) == 2
    assert branch.prekeys.count(partner=partner.history.identity) == 1
    assert branch.prekeys.delete_expired(at=now) == 0
