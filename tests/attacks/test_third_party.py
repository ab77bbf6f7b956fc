"""A rival with valid keys and a pinned card of its own, who wants a real package refused.

Not secrecy but delivery: what the rival can copy from the wire (a package id, a prekey bundle)
must not use up what belongs to the lab.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

import counterseal as cs
from counterseal.exchange import replay
from counterseal.exchange.keys import ContentKey
from counterseal.exchange.sent import SentBook
from counterseal.trust.prekeystore import PrekeyStore


def pin(identity):
    return cs.Partner.pin(identity.card(), key_id=identity.key_id)


@pytest.fixture
def trio(tmp_path):
    (tmp_path / "w.txt").write_text("weights")
    return [cs.Identity.create(name) for name in ("lab", "rival", "clinic")]


def seal_under_a_copied_id(trio, tmp_path, monkeypatch):
    """The lab's package, and the rival's own under the id that it read from the lab's header."""
    lab, rival, clinic = trio
    receipt = cs.seal(tmp_path / "w.txt", by=lab, to=pin(clinic), output=tmp_path / "lab.sealed")
    copied = ContentKey(os.urandom(32), receipt.package)
    with monkeypatch.context() as patched:
        patched.setattr(ContentKey, "generate", classmethod(lambda _: copied))
        cs.seal(tmp_path / "w.txt", by=rival, to=pin(clinic), output=tmp_path / "rival.sealed")
    with cs.open_sealed(tmp_path / "rival.sealed", by=clinic, sender=pin(rival), keep=True):
        pass


def test_a_rival_that_copies_a_package_id_does_not_make_the_real_one_a_replay(
    trio, tmp_path, monkeypatch
):
    seal_under_a_copied_id(trio, tmp_path, monkeypatch)
    lab, _, clinic = trio
    with cs.open_sealed(tmp_path / "lab.sealed", by=clinic, sender=pin(lab)) as package:
        assert package.read("w.txt") == b"weights"


def test_it_does_where_records_are_kept_by_package_id_alone(trio, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "_place", lambda _, package: package)
    seal_under_a_copied_id(trio, tmp_path, monkeypatch)
    lab, _, clinic = trio
    with pytest.raises(cs.ReplayedMessage):
        cs.open_sealed(tmp_path / "lab.sealed", by=clinic, sender=pin(lab))


def use_a_stolen_prekey(trio, tmp_path, monkeypatch):
    """The rival saw the bundle that the clinic made for the lab, and seals to its first prekey."""
    lab, rival, clinic = trio
    now = datetime.now(UTC)  # not when the module was loaded: that may be ten minutes ago
    envelope = clinic.make_prekeys(lab.history, 1, at=now)
    for_lab = pin(clinic).with_prekeys(envelope, us=lab.history, at=now)
    receipt = cs.seal(tmp_path / "w.txt", by=lab, to=for_lab, output=tmp_path / "lab.sealed")
    assert receipt.forward_secret == ("clinic",)
    monkeypatch.setattr(SentBook, "prekey_for", lambda *_, **__: 0)
    cs.seal(tmp_path / "w.txt", by=rival, to=for_lab, output=tmp_path / "rival.sealed")


def test_a_rival_cannot_use_up_prekeys_that_were_made_for_the_lab(trio, tmp_path, monkeypatch):
    use_a_stolen_prekey(trio, tmp_path, monkeypatch)
    lab, rival, clinic = trio
    with pytest.raises(cs.BadCiphertext):
        cs.open_sealed(tmp_path / "rival.sealed", by=clinic, sender=pin(rival))
    with cs.open_sealed(tmp_path / "lab.sealed", by=clinic, sender=pin(lab)) as package:
        assert package.forward_secret


def test_it_could_where_the_partner_of_a_prekey_is_not_looked_at(trio, tmp_path, monkeypatch):
    use_a_stolen_prekey(trio, tmp_path, monkeypatch)
    lab, rival, clinic = trio
    checked = PrekeyStore.opener
    monkeypatch.setattr(
        PrekeyStore,
        "opener",
        lambda self, name, *, partner: checked(self, name, partner=lab.history.identity),
    )
    with cs.open_sealed(tmp_path / "rival.sealed", by=clinic, sender=pin(rival)):
        pass
    with pytest.raises(cs.BadCiphertext, match="prekey"):
        cs.open_sealed(tmp_path / "lab.sealed", by=clinic, sender=pin(lab))
