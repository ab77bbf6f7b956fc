"""A ledger that could not write is opened again, and what cannot be written is not answered."""

import time

import pytest
from gateway import Town

from counterseal.errors import CountersealError
from counterseal.ledger.store import SqliteStore


@pytest.fixture
def gate(tmp_path):
    with Town(tmp_path) as town:
        yield town.open(audit={"durability": "strict"})


def full(*_, **__):
    raise CountersealError("the disk db.example is full")


def test_nothing_is_answered_while_the_disk_is_full_and_then_it_goes_on(gate, monkeypatch):
    ticket = gate.session()
    assert gate.call(ticket)
    said = []
    monkeypatch.setattr(gate.desk, "report", said.append)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "commit", full)
        for _ in range(3):
            answer = gate.answer(ticket)
            assert answer.status in {500, 503}
            assert b"db.example" not in answer.refused.body(None)
    assert said
    _wait_for(lambda: gate.answer(ticket).status == 200)
    assert gate.events().count("call") == 2


def test_the_desk_finds_by_itself_that_a_ledger_has_ended(gate, monkeypatch):
    """So that sessions can be opened, and looked at, also if nobody calls."""
    monkeypatch.setattr(gate.desk, "report", lambda error: None)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "commit", full)
        gate.served.ledger.note(_record(gate))
        _wait_for(lambda: not gate.served.ledger.alive)
    gate.desk.poll()
    assert gate.session().id
    assert gate.served.ledger.alive


def _record(gate):
    from counterseal.ledger.entry import Record

    return Record(event="note", actor=gate.town.lab.history.identity)


def _wait_for(is_so):
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)
