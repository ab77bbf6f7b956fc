import os

import pytest
from ledgers import shown, some
from workshop import AT, listed

from counterseal.errors import BadSignature, CountersealError, FormatError, LedgerBroken
from counterseal.jobs import ledger as jobs
from counterseal.ledger.entry import Record
from counterseal.ledger.keys import LogKeys
from counterseal.ledger.ledger import Ledger
from counterseal.ledger.store import MemoryStore


@pytest.fixture
def ledger(cast):
    store = MemoryStore()
    with Ledger.open("scan", by=cast.lab, store=store, clock=lambda: AT) as made:
        made.record_all([Record(event="note", actor=cast.lab.history.identity)] * 300)
        made.publish()
        yield made


def test_an_export_is_the_ledger(cast, ledger, tmp_path):
    owner = cast.lab.history
    facts = jobs.export(ledger.read, tmp_path / "out", owner=owner)
    assert (facts.entries, facts.signatures) == (300, 2)
    assert facts.at == AT
    fetch = jobs.folder(tmp_path / "out")
    assert jobs.verify_ledger(fetch, owner=owner) == facts
    shown_facts, entries = jobs.show(fetch, owner=owner, last=3)
    assert shown_facts == facts
    assert [index for index, _ in entries] == [297, 298, 299]
    assert jobs.show(fetch, owner=owner, last=0)[1] == []


def test_an_export_is_whole_or_not_at_all(cast, ledger, tmp_path):
    def broken(path):
        if path.startswith("tile/1"):
            raise FileNotFoundError(path)
        return ledger.read(path)

    with pytest.raises(LedgerBroken, match="missing"):
        jobs.export(broken, tmp_path / "out", owner=cast.lab.history)

    def altered(path):
        data = ledger.read(path)
        return data[:-1] + b"!" if path == "tile/entries/000" else data

    with pytest.raises(LedgerBroken, match="altered"):
        jobs.export(altered, tmp_path / "out", owner=cast.lab.history)
    assert listed(tmp_path) == []


def test_it_goes_on_from_an_earlier_export(cast, ledger, tmp_path):
    owner = cast.lab.history
    jobs.export(ledger.read, tmp_path / "old", owner=owner)
    ledger.record(Record(event="note", actor=owner.identity))
    ledger.publish()
    for earlier in (tmp_path / "old", tmp_path / "old" / "checkpoint"):
        assert jobs.verify_ledger(ledger.read, owner=owner, earlier=earlier).entries == 301
    (tmp_path / "forged").write_bytes(shown(some(3))["checkpoint"])
    with pytest.raises(BadSignature):
        jobs.verify_ledger(ledger.read, owner=owner, earlier=tmp_path / "forged")


def test_a_proof_stands_without_the_ledger(cast, ledger, tmp_path):
    owner, path = cast.lab.history, tmp_path / "p.tlog-proof"
    jobs.prove(ledger.read, 7, path, owner=owner)
    facts, index, entry = jobs.check_proof(path, ledger.read("key.json"), owner=owner)
    assert (facts.entries, index, entry.event) == (300, 7, "note")
    with pytest.raises(BadSignature):
        jobs.check_proof(path, ledger.read("key.json"), owner=cast.rival.history)
    with pytest.raises(FileExistsError):
        jobs.prove(ledger.read, 7, path, owner=owner)


def test_files_of_a_stranger(tmp_path):
    fetch = jobs.folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        fetch("checkpoint")
    os.mkfifo(tmp_path / "key.json")
    (tmp_path / "tile").write_bytes(b"a file")
    (tmp_path / "checkpoint").symlink_to("/dev/zero")
    for name in ("key.json", "checkpoint", "tile/0/000", "../../etc/passwd"):
        with pytest.raises(FormatError):
            fetch(name)
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "checkpoint").write_bytes(bytes(10_000_000))
    assert len(fetch("checkpoint")) < 200_000


def test_in_a_home(cast, tmp_path):
    from counterseal.trust.home import Home

    home = Home(tmp_path / "home")
    assert jobs.names(home, "lab") == []
    with jobs.open_ledger("scan", by=cast.lab, home=home) as made:
        assert made.size == 0
        with jobs.local("scan", home=home, owner="lab") as fetch:
            assert LogKeys.verify(fetch("key.json"), of=cast.lab.history)
    assert jobs.names(home, "lab") == ["scan"]
    with pytest.raises(CountersealError), jobs.local("other", home=home, owner="lab"):
        pass
    home.close()
