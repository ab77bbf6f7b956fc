"""What commands do is written down, and a journal that fails hides nothing."""

import shutil

import pytest
from workshop import AT, CHEAP, PASSPHRASE, Cast

from counterseal.crypto.digest import sha256
from counterseal.crypto.signing import SigningKey
from counterseal.errors import CountersealError
from counterseal.jobs import ledger as ledgers
from counterseal.jobs.arrivals import Arrived, Confirmed, Refused, records_of
from counterseal.jobs.journal import Journal
from counterseal.jobs.open import open_sealed
from counterseal.jobs.seal import seal
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.entry import Record
from counterseal.ledger.keys import origin_of
from counterseal.ledger.mark import marked
from counterseal.trust import recovery
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.file import FileKeystore


@pytest.fixture
def desk(tmp_path):
    class Desk:
        def __init__(self):
            self.home = Home(tmp_path / "home")
            self.key = SigningKey.generate()
            self.lab = Identity.create(
                "lab",
                home=self.home,
                passphrase=PASSPHRASE,
                recovery=recovery.public_part([self.key], threshold=1),
            )
            place = self.home.identity_folder("lab") / "keystore.json"
            FileKeystore(place, cost=CHEAP).save(self.lab._ring, PASSPHRASE)
            self.folder = self.home.path / "ledgers" / "lab"
            self.heard = []

        def journal(self):
            return Journal(self.lab, home=self.home, warn=lambda e: self.heard.append(str(e)))

        def entries(self, name="main"):
            with ledgers.local(name, home=self.home, owner="lab") as fetch:
                ledgers.verify_ledger(fetch, owner=self.lab.history)
                _, entries = ledgers.show(fetch, owner=self.lab.history, last=100)
            return [entry for _, entry in entries]

        def actions(self, name="main"):
            return [(entry.event, entry.action) for entry in self.entries(name)]

        def recover(self):
            self.lab = Identity.recover(
                self.lab.history,
                home=self.home,
                passphrase=PASSPHRASE,
                recovery_keys=[self.key],
            )

    made = Desk()
    yield made
    made.home.close()


def test_keys(desk):
    desk.journal().key("rotate")
    desk.journal().key("backup", event="export")
    assert desk.actions() == [("key", "rotate"), ("export", "backup")]
    assert desk.entries()[0].document == desk.lab.key_id
    assert desk.heard == []


def test_a_package_is_sealed_and_opened(desk, tmp_path):
    clinic, bank = Cast().clinic, Cast().clinic
    (tmp_path / "m.txt").write_text("weights")
    receipt = seal(
        tmp_path / "m.txt",
        by=desk.lab,
        to=[clinic.card(), bank.card(), desk.lab.card()],
        output=tmp_path / "m.sealed",
        ledger=desk.journal(),
    )
    sealed = desk.entries()
    assert [entry.partner for entry in sealed] == [
        one.history.identity for one in (clinic, bank, desk.lab)
    ]
    package = tmp_path / "m.sealed"
    with open_sealed(package, sender=desk.lab.card(), by=desk.lab, ledger=desk.journal()) as opened:
        opened.read("m.txt")
    entries = desk.entries()
    assert [entry.event for entry in entries] == ["sealed"] * 3 + ["opened"]
    assert {(e.package, e.model) for e in entries} == {(receipt.package, receipt.digest)}


def test_what_was_not_used_was_not_opened(desk, tmp_path):
    (tmp_path / "m.txt").write_text("weights")
    package = tmp_path / "m.sealed"
    seal(tmp_path / "m.txt", by=desk.lab, to=desk.lab.card(), output=package)
    with (
        pytest.raises(ZeroDivisionError),
        open_sealed(package, sender=desk.lab.card(), by=desk.lab, ledger=desk.journal()),
    ):
        raise ZeroDivisionError
    assert not desk.folder.exists()


def test_what_came(cast):
    partner, by = cast.partner(cast.lab), cast.clinic
    package = "1" * 32
    for event, expected in [
        (Arrived("lab", None, package, 1, 0, receipt_sent=True), ("received", None, package, None)),
        (Confirmed("lab", "f", package, AT), ("received", "receipt", package, None)),
        (
            Refused("lab", CountersealError("no"), removed=True),
            ("refused", None, None, "CountersealError"),
        ),
    ]:
        (record,) = records_of(event, partner, by)
        assert (record.event, record.action, record.package, record.reason) == expected
        assert (record.actor, record.partner) == (by.history.identity, partner.identity)
    assert records_of(Refused("lab", CountersealError("later"), removed=False), partner, by) == []


def test_nothing_is_written_while_our_card_is_revoked(desk):
    desk.journal().key("revoke", reason="compromised")
    desk.lab.revoke(reason="compromised")
    desk.journal().key("backup", event="export")
    assert len(desk.heard) == 1
    assert "not written down" in desk.heard[0]
    assert "revoked" in desk.heard[0]
    desk.recover()
    desk.journal().key("recover")
    assert desk.journal().name == "main-2"
    assert desk.actions("main-2") == [("note", "continues"), ("key", "recover")]


def test_after_a_recovery_it_goes_on_in_another_that_names_the_one_before(desk):
    desk.journal().key("rotate")
    origin = origin_of(desk.lab.history.identity, "main")
    mark = marked(desk.lab.store, origin)
    before = (desk.folder / "main.db").read_bytes()
    for number in (2, 3):
        desk.recover()
        desk.journal().key("recover")
        desk.journal().key("rotate")
        assert desk.actions(f"main-{number}") == [
            ("note", "continues"),
            ("key", "recover"),
            ("key", "rotate"),
        ]
    first = desk.entries("main-2")[0]
    text = Checkpoint(origin, mark.size, bytes.fromhex(mark.root)).text
    assert (first.reason, first.document) == (origin, sha256(text.encode()).hex())
    assert desk.entries("main-3")[0].reason.endswith("/main-2")
    assert (desk.folder / "main.db").read_bytes() == before
    assert desk.heard == []


@pytest.mark.parametrize("how", ["gone", "older", "damaged"])
def test_a_journal_that_was_tampered_with_is_left_and_said(desk, tmp_path, how):
    desk.journal().key("rotate")
    shutil.copytree(desk.folder, tmp_path / "copy")
    desk.journal().key("rotate")
    if how == "damaged":
        from counterseal.ledger.store import SqliteStore

        store = SqliteStore(desk.folder / "main.db")
        store.commit(put=[("tail/" + "0" * 20, b"\0\5wrong")])
        store.close()
    else:
        shutil.rmtree(desk.folder)
        if how == "older":
            shutil.copytree(tmp_path / "copy", desk.folder)
    desk.journal().key("passphrase")
    assert desk.actions("main-2") == [("incident", "continues"), ("key", "passphrase")]
    assert len(desk.heard) == 1
    assert 'the ledger "main" ends here' in desk.heard[0]


def test_a_journal_that_fails_hides_nothing(desk, tmp_path):
    desk.home.ensure()
    (desk.home.path / "ledgers").write_text("not a folder")
    (tmp_path / "m.txt").write_text("weights")
    seal(
        tmp_path / "m.txt",
        by=desk.lab,
        to=desk.lab.card(),
        output=tmp_path / "m.sealed",
        ledger=desk.journal(),
    )
    assert (tmp_path / "m.sealed").exists()
    assert len(desk.heard) == 1
    assert "not written down" in desk.heard[0]


def test_a_ledger_of_a_callers_own(desk, tmp_path):
    (tmp_path / "m.txt").write_text("weights")
    with ledgers.open_ledger("mine", by=desk.lab, home=desk.home) as ledger:
        seal(
            tmp_path / "m.txt",
            by=desk.lab,
            to=desk.lab.card(),
            output=tmp_path / "m.sealed",
            ledger=ledger,
        )
        ledger.record(Record(event="note", actor=desk.lab.history.identity))
    assert [entry.event for entry in desk.entries("mine")] == ["sealed", "note"]
    assert ledgers.names(desk.home, "lab") == ["mine"]
