"""A root that has the checkpoints of all ledgers of one operator."""

import pytest

from counterseal.errors import CountersealError, LedgerBroken, UnknownPartner
from counterseal.jobs import ledger as ledgers
from counterseal.jobs.roots import publish_roots, verify_roots
from counterseal.ledger.entry import Record
from counterseal.ledger.store import SqliteStore
from counterseal.trust.home import Home


@pytest.fixture
def desk(cast, tmp_path):
    class Desk:
        def __init__(self):
            self.home, self.lab = Home(tmp_path / "home"), cast.lab
            self.folder = self.home.path / "ledgers" / "lab"

        def write(self, name, count=1):
            with ledgers.open_ledger(name, by=self.lab, home=self.home) as ledger:
                us = self.lab.history.identity
                ledger.record_all([Record(event="note", actor=us)] * count)

        def publish(self):
            return publish_roots(self.home, self.lab)

        def verify(self):
            return verify_roots(self.home, self.lab.history)

        def begin_again(self, name):
            """Its file, and every trace of it in the home."""
            (self.folder / f"{name}.db").unlink()
            for key, _ in self.lab.store.items("ledger"):
                if key.endswith(f"/{name}"):
                    self.lab.store.delete("ledger", key)

    made = Desk()
    yield made
    made.home.close()


def test_the_root_has_each_checkpoint_once(desk):
    desk.write("scan", 300)
    desk.write("lung")
    assert desk.publish() == 2
    assert desk.publish() == 0
    desk.write("scan")
    assert desk.publish() == 1
    assert desk.verify() == 2
    with ledgers.local("root", home=desk.home, owner="lab") as fetch:
        _, entries = ledgers.show(fetch, owner=desk.lab.history, last=10)
    assert [(entry.action, entry.rows) for _, entry in entries] == [
        ("checkpoint", 1),
        ("checkpoint", 300),
        ("checkpoint", 301),
    ]


def test_what_was_written_since_is_no_error(desk):
    desk.write("scan")
    desk.publish()
    desk.write("scan", 500)
    desk.write("new")
    assert desk.verify() == 1


def test_a_ledger_that_is_gone_is_seen(desk):
    desk.write("scan")
    desk.publish()
    desk.begin_again("scan")
    with pytest.raises(LedgerBroken, match="is gone"):
        desk.verify()


def test_a_ledger_that_was_begun_again_is_seen(desk):
    desk.write("scan", 5)
    desk.publish()
    desk.begin_again("scan")
    desk.write("scan", 3)
    with pytest.raises(LedgerBroken, match="has 3 entries, but the root has 5"):
        desk.verify()
    desk.write("scan", 10)
    with pytest.raises(LedgerBroken, match="rewritten"):
        desk.verify()
    desk.publish()  # also if the root is made to follow
    with pytest.raises(LedgerBroken, match="rewritten"):
        desk.verify()


def test_a_root_that_is_damaged_vouches_for_nothing(desk):
    desk.write("scan")
    desk.publish()
    store = SqliteStore(desk.folder / "root.db")
    store.commit(put=[("tail/" + "0" * 20, b"\0\5wrong")])
    store.close()
    with pytest.raises(CountersealError):
        desk.verify()


def test_no_root_yet(desk):
    with pytest.raises(UnknownPartner):
        desk.verify()
