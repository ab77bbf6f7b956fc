import pytest
from ledgers import SECONDS, fetch_of, shown
from workshop import AT

from counterseal.errors import CountersealError, FormatError, LedgerBroken
from counterseal.ledger import entry as entries
from counterseal.ledger import keys, note, witness
from counterseal.ledger.entry import Record
from counterseal.ledger.keys import LogKeys, LogSigner, WitnessSigner, origin_of
from counterseal.ledger.witness import PATIENCE, Call, Witness
from counterseal.wire import limits

BY = WitnessSigner.generate("witness.example/clinic")
LOG_KEY = bytes(32)


class Scene:
    """lab keeps a log; clinic watches it and calls."""

    def __init__(self, cast):
        self.cast = cast
        self.us = cast.clinic.history.identity
        self.signer = LogSigner.generate(origin_of(cast.lab.history.identity, "scan"))
        self.statement = keys.state(self.signer.keys, "scan", by=cast.lab, at=AT)
        self.log = []
        self.witness = Witness.begin(self.statement, owner=cast.lab.history, us=self.us)

    def entry(self, number, *, event="call", actor=None):
        record = Record(event=event, actor=actor or self.us, input=b"in", output=b"out")
        id_ = number.to_bytes(16, "big")
        made = entries.make(record, id=id_, key=entries.record_key(LOG_KEY, id_), at=AT)
        self.log.append(entries.encode(made))

    def call(self, number, *, answered=True, time=SECONDS, output=b"out"):
        id_ = number.to_bytes(16, "big")
        call = Call.made(id_, time=time)
        if answered:
            call = call.answered(entries.record_key(LOG_KEY, id_), input=b"in", output=output)
        self.witness = self.witness.expect(call)

    def update(self, log=None, *, time=SECONDS, signed=SECONDS):
        files = shown(self.log if log is None else log, signer=self.signer, time=signed)
        sight = self.witness.update(fetch_of(files), by=BY, time=time)
        self.witness = Witness.restore(sight.witness.encode())
        return sight


@pytest.fixture
def scene(cast):
    return Scene(cast)


def test_calls_are_found_once_each(scene):
    scene.update()
    for number in range(300):
        scene.call(number)
        scene.entry(number)
    scene.entry(1000, actor="3" * 64)  # somebody else's call, and other things, do not concern us
    scene.entry(1001, event="session")
    sight = scene.update()
    assert len(sight.settled) == 300
    assert scene.witness.calls == {}
    scene.call(300)
    scene.entry(300)
    assert scene.update().settled == (f"{300:032x}",)


@pytest.mark.parametrize("event", ["intent", "refused"])
def test_what_did_not_come_to_a_call_is_no_call(scene, event):
    """An intent whose call failed, and a refusal, use up nothing: they may stand there alone."""
    scene.call(1)
    scene.entry(1, event="intent")
    scene.entry(2, event=event)
    assert scene.update().settled == ()
    scene.entry(1)
    assert scene.update().settled == (f"{1:032x}",)


def test_the_cosignature_is_over_what_was_seen(scene):
    scene.entry(1, event="session")
    sight = scene.update()
    opened = note.open_note(sight.seen.note + sight.cosignature, known=BY.keys)
    assert set(opened.by.values()) == {SECONDS}
    assert sight.seen.checkpoint.size == 1


def test_a_call_that_is_not_there_yet_is_waited_for(scene):
    scene.call(1)
    assert scene.update(time=SECONDS + PATIENCE).settled == ()
    scene.entry(1)
    assert len(scene.update(time=SECONDS + 9 * PATIENCE).settled) == 1


def test_an_answer_may_come_after_its_entry(scene):
    scene.call(1, answered=False)
    scene.entry(1)
    assert len(scene.update().settled) == 1
    assert len(scene.witness.calls) == 1
    scene.call(1)
    assert scene.witness.calls == {}


def test_an_answer_that_never_comes_is_given_up(scene):
    scene.call(1, answered=False)
    scene.entry(1)
    scene.update()
    scene.call(1, answered=False)  # said again: it is known already
    scene.update(time=SECONDS + PATIENCE + 1)
    assert scene.witness.calls == {}


def test_a_refusal_leaves_the_state(scene):
    scene.call(1)
    before = scene.witness.encode()
    scene.entry(2)
    with pytest.raises(LedgerBroken):
        scene.update()
    assert scene.witness.encode() == before


def test_nothing_new_is_fine(scene):
    scene.update()
    assert scene.update().seen.checkpoint.size == 0


def test_a_state_comes_back(scene):
    scene.call(1)
    scene.call(2, answered=False)
    scene.entry(3, event="note")
    scene.update()
    again = Witness.restore(scene.witness.encode())
    assert again == scene.witness
    assert again.last is not None
    with pytest.raises(FormatError):
        Witness.restore(scene.witness.encode() + b" ")


def test_an_id_has_its_length():
    with pytest.raises(FormatError):
        Call.made(b"short", time=SECONDS)


def test_not_more_calls_than_it_can_keep(scene, monkeypatch):
    monkeypatch.setattr(limits, "LEDGER_CALLS", 2)
    scene.call(1)
    scene.call(2)
    scene.call(2, answered=False)
    with pytest.raises(LedgerBroken, match="2 calls of ours"):
        scene.call(3)


def test_keys_stated_again(scene):
    lab = scene.cast.lab
    scene.witness.restated(keys.state(scene.signer.keys, "scan", by=lab, at=AT), owner=lab.history)
    other = LogSigner.generate(scene.signer.keys.origin)
    statement = keys.state(other.keys, "scan", by=lab, at=AT)
    assert LogKeys.verify(statement, of=lab.history) == other.keys
    with pytest.raises(LedgerBroken, match="rewritten"):
        scene.witness.restated(statement, owner=lab.history)


def test_an_entry_that_cannot_be_read(scene):
    scene.log.append(b"nonsense")
    with pytest.raises(LedgerBroken, match="entry 0 cannot be read"):
        scene.update()


def test_a_checkpoint_from_before(scene):
    scene.update(signed=SECONDS)
    with pytest.raises(LedgerBroken, match="earlier"):
        scene.update(signed=SECONDS - 1)


def test_begun_with_a_statement_of_somebody_else(scene):
    with pytest.raises(CountersealError):
        Witness.begin(scene.statement, owner=scene.cast.rival.history, us=scene.us)


def test_how_long_it_waits():
    assert witness.PATIENCE == 3600
