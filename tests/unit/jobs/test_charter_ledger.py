"""The steps of a charter, in a ledger of each side."""

from datetime import UTC, datetime

import pytest
from charters import a_charter
from workshop import DAY, PASSPHRASE

from counterseal.charter.chain import Chain
from counterseal.jobs import charter_ledger
from counterseal.jobs import ledger as ledgers
from counterseal.jobs.charter_ledger import write_down
from counterseal.ledger.entry import Record
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity


@pytest.fixture
def town(tmp_path):
    class Town:
        def __init__(self):
            self.homes = {name: Home(tmp_path / name) for name in ("lab", "clinic")}
            self.us = {
                name: Identity.create(name, home=home, passphrase=PASSPHRASE)
                for name, home in self.homes.items()
            }
            self.parties = {one.history.identity: one.history for one in self.us.values()}
            self.now = datetime.now(UTC).replace(microsecond=0)  # a ledger has the real clock
            charter = a_charter(
                begins=self.now - DAY,
                ends=self.now + DAY,
                owner={"identity": self.us["lab"].history.identity},
                partner={"identity": self.us["clinic"].history.identity},
            )
            self.offered = Chain.begin(charter, **self.by("lab"))
            self.signed = self.offered.countersigned(**self.by("clinic"))

        def by(self, who):
            return {"by": self.us[who], "parties": self.parties, "at": self.now}

        def write(self, chain, who):
            return write_down(chain, by=self.us[who], home=self.homes[who], parties=self.parties)

        def read(self, who):
            name = self.offered.charter.id
            with ledgers.local(name, home=self.homes[who], owner=who) as fetch:
                history = self.us[who].history
                ledgers.verify_ledger(fetch, owner=history)
                _, entries = ledgers.show(fetch, owner=history, last=100)
            return [(entry.action, entry.actor, entry.partner) for _, entry in entries]

    return Town()


def test_every_step_is_written_once(town):
    lab, clinic = (town.us[who].history.identity for who in ("lab", "clinic"))
    assert town.write(town.offered, "lab") == 1
    assert town.write(town.offered, "lab") == 0
    suspended = town.signed.moved("suspend", **town.by("lab"))
    resumed = suspended.moved("resume", **town.by("lab")).cosigned(**town.by("clinic"))
    assert town.write(resumed, "lab") == 4
    assert town.read("lab") == [
        ("offer", lab, None),
        ("accept", clinic, None),
        ("sign", clinic, None),
        ("suspend", lab, None),
        ("resume", lab, clinic),
    ]
    assert town.write(resumed, "clinic") == 5
    assert town.read("clinic") == town.read("lab")


def test_a_step_that_waits_is_not_written(town):
    asked = town.signed.moved("suspend", **town.by("lab")).moved("resume", **town.by("lab"))
    assert town.write(asked, "lab") == 4


def test_a_gateway_has_the_ledger_open(town):
    name = town.offered.charter.id
    with ledgers.open_ledger(name, by=town.us["lab"], home=town.homes["lab"]) as gateway:
        town.write(town.signed, "lab")
        us = town.us["lab"].history.identity
        assert gateway.record(Record(event="note", actor=us)).index == 3
    assert [action for action, _, _ in town.read("lab")] == ["offer", "accept", "sign", None]


def test_commands_at_the_same_time_write_a_step_once(town, monkeypatch):
    opened = charter_ledger.open_alone

    def overtaken(*arguments, **more):
        monkeypatch.undo()
        assert town.write(town.signed, "lab") == 3
        return opened(*arguments, **more)

    monkeypatch.setattr(charter_ledger, "open_alone", overtaken)
    assert town.write(town.signed, "lab") == 0
    assert len(town.read("lab")) == 3
