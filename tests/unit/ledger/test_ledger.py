import shutil
import sqlite3
import threading
from datetime import timedelta

import pytest
from ledgers import fetch_of, files_of
from workshop import AT, CHEAP, Cast

from counterseal.errors import (
    CountersealError,
    FormatError,
    LedgerBroken,
    RolledBack,
    UnknownPartner,
)
from counterseal.ledger import entry as entries
from counterseal.ledger import ledger as ledgers
from counterseal.ledger.entry import CharterRef, Record
from counterseal.ledger.keys import LogKeys, WitnessSigner
from counterseal.ledger.ledger import Ledger
from counterseal.ledger.reader import TileReader
from counterseal.ledger.store import MemoryStore
from counterseal.ledger.verify import verify
from counterseal.ledger.witness import Call, Witness
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.file import FileKeystore

PASSPHRASE = b"passphrase"


@pytest.fixture
def lab(tmp_path):
    home = Home(tmp_path / "home")
    made = Identity.create("lab", home=home, passphrase=PASSPHRASE, at=AT)
    place = home.identity_folder("lab") / "keystore.json"
    FileKeystore(place, cost=CHEAP).save(made._ring, PASSPHRASE)
    yield made
    home.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ledgers"


def opened(by, folder, name="scan", **more):
    return Ledger.open(name, by=by, folder=folder, clock=lambda: AT, **more)


def record(us, **more):
    return Record(event="call", actor=us.history.identity, **more)


def all_of(ledger, by):
    keys = LogKeys.verify(ledger.read("key.json"), of=by.history)
    seen = verify(ledger.read, keys)
    reader = TileReader(ledger.read, seen.checkpoint)
    return [entries.decode(data) for _, some in reader.bundles(0, reader.size) for data in some]


def test_what_is_recorded_is_there_after_opening_again(lab, folder):
    with opened(lab, folder) as ledger:
        first = ledger.record(record(lab, action="predict", charter=CharterRef(id="c1", version=2)))
        assert (first.index, ledger.size) == (0, 1)
    with opened(lab, folder) as ledger:
        assert ledger.record(record(lab)).index == 1
        ledger.publish()
        found = all_of(ledger, lab)
    assert [entry.action for entry in found] == ["predict", None]
    assert found[0].id == first.id.hex()
    assert found[0].at == AT
    assert ledgers.names(folder, "lab") == ["scan"]


def test_closing_publishes(lab, folder):
    with opened(lab, folder) as ledger:
        ledger.note(record(lab))
    static, store = ledgers.static(folder, "lab", "scan")
    keys = LogKeys.verify(static("key.json"), of=lab.history)
    assert verify(static, keys).checkpoint.size == 1
    store.close()


def test_an_empty_one_can_be_watched(lab, folder):
    with opened(lab, folder) as ledger:
        assert all_of(ledger, lab) == []


def test_several_in_one_transaction(lab, folder):
    with opened(lab, folder) as ledger:
        receipts = ledger.record_all([record(lab) for _ in range(300)])
        assert [receipt.index for receipt in receipts] == list(range(300))
        assert len({receipt.id for receipt in receipts}) == 300


def test_a_receipt_opens_its_commitments(lab, folder):
    with opened(lab, folder) as ledger:
        receipt = ledger.record(record(lab, input=b"x", output=b"y"))
        ledger.publish()
        (entry,) = all_of(ledger, lab)
    assert entry.commit_in == entries.commitment(receipt.key, "in", b"x")
    assert entry.commit_out == entries.commitment(receipt.key, "out", b"y")


def test_forgotten_commitments_cannot_be_made_again(lab, folder):
    with opened(lab, folder) as ledger:
        before = ledger._key
        receipt = ledger.record(record(lab, input=b"x"))
        assert entries.record_key(before, receipt.id) == receipt.key
        ledger.forget_commitments()
        assert ledger._key != before
        again = ledger.record(record(lab, input=b"x", id=receipt.id))
        ledger.publish()
        one, other = all_of(ledger, lab)
        assert one.commit_in != other.commit_in
        assert again.key != receipt.key
        kept = ledger._key
    with opened(lab, folder) as ledger:
        assert ledger._key == kept
        protected = ledger._store.get("private/commitments")
    for path in (folder / "lab").iterdir():
        data = path.read_bytes()
        assert before not in data
        assert data.count(protected) <= 1


def test_private_keys_are_not_served_and_not_in_the_file(lab, folder):
    with opened(lab, folder) as ledger:
        for path in ("private/keys", "private/commitments", "tail/" + "0" * 20):
            with pytest.raises(FileNotFoundError):
                ledger.read(path)
        key = ledger._key
    assert key not in (folder / "lab" / "scan.db").read_bytes()


def test_another_identity_cannot_open_it(lab, folder, tmp_path):
    opened(lab, folder).close()
    clinic = Identity.create("clinic", at=AT)
    shutil.copytree(folder / "lab", folder / "clinic")
    with pytest.raises(CountersealError):
        opened(clinic, folder)


def test_one_writer(lab, folder):
    with opened(lab, folder):
        with pytest.raises(CountersealError, match="somebody else writes"):
            opened(lab, folder)
        with opened(lab, folder, "other"):
            pass
    opened(lab, folder).close()


def test_an_older_copy_of_its_file(lab, folder):
    with opened(lab, folder) as ledger:
        ledger.record(record(lab))
    shutil.copytree(folder, folder.with_name("backup"))
    with opened(lab, folder) as ledger:
        ledger.record(record(lab))
    shutil.rmtree(folder)
    folder.with_name("backup").rename(folder)
    with pytest.raises(RolledBack, match="older copy"):
        opened(lab, folder)


def test_a_file_that_is_gone(lab, folder):
    opened(lab, folder).close()
    shutil.rmtree(folder)
    with pytest.raises(RolledBack, match="is gone"):
        opened(lab, folder)


def test_another_ledger_under_the_name(lab, folder):
    opened(lab, folder).close()
    shutil.rmtree(folder)
    mark = lab.store.items("ledger")[0]
    lab.store.delete("ledger", mark[0])
    opened(lab, folder).close()
    lab.store.put("ledger", *mark)
    with pytest.raises(LedgerBroken, match="another ledger"):
        opened(lab, folder)


def test_keys_that_are_gone(lab, folder):
    opened(lab, folder).close()
    with sqlite3.connect(folder / "lab" / "scan.db") as connection:
        connection.execute("DELETE FROM blobs WHERE path = 'private/commitments'")
    connection.close()
    with pytest.raises(LedgerBroken, match="keys are gone"):
        opened(lab, folder)


def test_the_statement_is_made_again_when_its_card_is_revoked(lab, folder):
    with opened(lab, folder) as ledger:
        before = LogKeys.verify(ledger.read("key.json"), of=lab.history)
    first = lab.key_id
    lab.rotate(passphrase=PASSPHRASE, at=AT)
    lab.revoke(which=first, reason="compromised", at=AT)
    with opened(lab, folder) as ledger:
        assert LogKeys.verify(ledger.read("key.json"), of=lab.history) == before


def test_an_identity_loaded_again_goes_on(lab, folder, tmp_path):
    with opened(lab, folder) as ledger:
        ledger.record(record(lab))
    again = Identity.load("lab", home=Home(tmp_path / "home"), passphrase=PASSPHRASE)
    with opened(again, folder) as ledger:
        assert ledger.size == 1
    again.store.close()


@pytest.mark.parametrize("name", ["", "../x", "A", "x/y", "x" * 65])
def test_names(lab, folder, name):
    with pytest.raises(FormatError):
        opened(lab, folder, name)
    assert not folder.exists()


def test_somewhere_to_keep_it(lab):
    with pytest.raises(ValueError):
        Ledger.open("scan", by=lab)


def test_one_that_is_not_there(folder):
    with pytest.raises(UnknownPartner):
        ledgers.static(folder, "lab", "scan")


def test_in_memory():
    lab = Cast().lab
    store = MemoryStore()
    with Ledger.open("scan", by=lab, store=store, clock=lambda: AT) as ledger:
        ledger.record(record(lab))
    with Ledger.open("scan", by=lab, store=store.again(), clock=lambda: AT) as ledger:
        assert ledger.size == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"actor": "nobody"}, {"action": "a b"}, {"id": b"short"}, {"policies": ("p",) * 65},
        {"quota": -1}, {"quota": 1 << 53}, {"quota": True}, {"risk": 101}, {"rows": -1},
        {"rows": 1.0}, {"package": "1" * 64}, {"reason": 'a quote"'}, {"action": "\ud800"},
        {"actor": None}, {"charter": CharterRef(id="c", version=0)},
        {"charter": CharterRef(id="c", version=1.0)}, {"policies": ("a b",)}, {"event": "gossip"}, {"decision": "maybe"}, {"purpose": "x" * 257},
    ],
    ids=lambda wrong: ascii(wrong)[:60],
)  # fmt: skip
def test_what_no_reader_could_read_is_not_written(lab, folder, wrong):
    good = {"event": "call", "actor": lab.history.identity}
    with opened(lab, folder) as ledger:
        ledger.record(Record(**good, charter=CharterRef(id="c", version=1)))
        with pytest.raises(FormatError):
            ledger.record(Record(**{**good, **wrong}))
        assert ledger.size == 1


@pytest.mark.parametrize("pace", [0, 0.001])
@pytest.mark.parametrize("shared", [False, True])
def test_a_thread_writes_and_publishes_what_is_noted(lab, folder, pace, shared):
    with opened(lab, folder, group_seconds=pace, publish_seconds=0, shared=shared) as ledger:
        ledger.note(record(lab))
        wait = threading.Event()
        for _ in range(1000):
            if not ledger._log.unpublished:
                break
            wait.wait(0.01)
        assert len(all_of(ledger, lab)) == 1


def test_nothing_is_noted_that_nobody_writes(lab, folder, monkeypatch):
    ledger = opened(lab, folder, group_seconds=0.001)

    def fail(**rows):
        raise CountersealError("the disk is full")

    monkeypatch.setattr(ledger._store, "commit", fail)
    ledger.note(record(lab))
    ledger._pulse._thread.join(10)
    with pytest.raises(CountersealError, match="no more notes"):
        ledger.note(record(lab))
    with pytest.raises(CountersealError, match="a write failed"):
        ledger.close()
    monkeypatch.undo()
    opened(lab, folder).close()  # the lock is free, and nothing is half there


def test_both_sides_together(lab, folder, cast):
    """The whole way: lab records, clinic watches from the beginning, cosigns, lab publishes it."""
    clinic, witness = cast.clinic, WitnessSigner.generate("clinic.example/w")
    us = clinic.history.identity
    with opened(lab, folder) as ledger:
        watching = Witness.begin(ledger.read("key.json"), owner=lab.history, us=us)
        for round_ in range(3):
            for number in range(100):
                call = Call.made(bytes([round_, number]) * 8, time=int(AT.timestamp()))
                watching = watching.expect(call)
                receipt = ledger.record(
                    record(clinic, id=bytes.fromhex(call.id), input=b"x", output=b"y")
                )
                watching = watching.expect(call.answered(receipt.key, input=b"x", output=b"y"))
            ledger.publish()
            sight = watching.update(
                ledger.read, by=witness, time=int((AT + timedelta(minutes=1)).timestamp())
            )
            watching = Witness.restore(sight.witness.encode())
            ledger.attach(sight.cosignature, witness=witness.keys)
            assert len(sight.settled) == 100
        files = files_of(ledger.read, ledger.size)
        keys = LogKeys.verify(ledger.read("key.json"), of=lab.history)
    assert verify(fetch_of(files), keys).checkpoint.size == 300
    assert watching.calls == {}


def test_it_shows_its_name(lab, folder):
    with opened(lab, folder) as ledger:
        assert repr(ledger) == "<Ledger scan of lab>"
