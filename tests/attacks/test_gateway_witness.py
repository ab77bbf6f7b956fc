"""Attacks on what a gateway's ledger says, by its owner or by whoever serves it to the partner.

clinic calls lab's model, keeps its receipts and looks at the ledger (`jobs.witness`). The gateway
is a real one; what it should not do is done to it here: by an owner with all of its keys.
"""

import os
import time

import pytest
from gateway import Town
from gateway_attack import attack, cut
from gateway_watch import Watched
from ledgers import fetch_of, shown
from workshop import undefended

from counterseal.gateway.pipeline import Pipeline
from counterseal.jobs import witness
from counterseal.ledger import cosign
from counterseal.ledger.entry import Record
from counterseal.ledger.keys import LogSigner, WitnessSigner
from counterseal.ledger.tiles import tiles_of

pytest.importorskip("skl2onnx")

WITNESS = "ledger.witness:"
NO_COMPARISON = cut(
    WITNESS + "_settle", "_compare(call, entry.commit_in, entry.commit_out, str(index))"
)
NO_OVERDUE = cut(WITNESS + "Witness.update", "_check_overdue(waiting, time - patience)")
ANY_CALL = cut(
    WITNESS + "_settle", "call is None or call.logged", "call is None: return\n    if False"
)
NO_CONTINUITY = cut(WITNESS + "Witness.update", "check_goes_on(reader, self.last.checkpoint)")
NO_LEAVES = cut("ledger.reader:TileReader._bundle", "found != expected", "False")
NO_RESTATED = cut(
    WITNESS + "Witness.restated", "LogKeys.verify(statement, of=owner) != self.keys", "False"
)
OTHERS_ARE_TOLD = cut(
    WITNESS + "Witness.update", "entry.id not in waiting and entry.session in others", "True"
)


@pytest.fixture
def town(tmp_path, monkeypatch):
    with Town(tmp_path) as made:
        yield made


def watched(town):
    gate = town.open(audit={"readers": ("analyst", "auditor")})
    return Watched(gate)


def verifies(clinic, **more):
    return lambda: clinic.verify(**more).cosigned


def entries_of(clinic):
    """The raw entries of the log, and the signer that only the owner has."""
    from counterseal.ledger.checkpoint import Checkpoint
    from counterseal.ledger.note import split
    from counterseal.ledger.reader import TileReader

    ledger = clinic.worker.served.ledger
    ledger.settle()
    ledger.publish()
    text, _ = split(ledger.read("checkpoint"))
    reader = TileReader(ledger.read, Checkpoint.parse(text))
    found = [data for _, some in reader.bundles(0, reader.size) for data in some]
    return found, ledger._log._signer


def serve_instead(clinic, entries, signer):
    """clinic is shown a log with these entries, signed by its owner's own keys."""
    files = shown(entries, signer=signer, time=int(time.time()) + 5)
    files["key.json"] = clinic.honest("key.json")
    clinic.fetch = fetch_of(files)
    clinic.send = lambda *_: None  # and the gateway takes whatever comes


@attack("LedgerBroken", NO_COMPARISON)
def receipt_with_another_key(town):
    """The answer's key is not that of the entry: what it commits to cannot be shown."""
    clinic = watched(town)
    clinic.call(key=os.urandom(32))
    return verifies(clinic)


@attack("LedgerBroken", NO_COMPARISON)
def call_recorded_with_another_payload(town):
    clinic = watched(town)
    with pytest.MonkeyPatch.context() as patch:
        honest = Pipeline._record

        def other(self, case, event, output=None):
            return honest(self, case, event, b"something illegal")

        patch.setattr(Pipeline, "_record", other)
        clinic.call()
    return verifies(clinic)


@attack("LedgerBroken", NO_OVERDUE)
def call_that_is_not_recorded(town):
    clinic = watched(town)
    ledger = clinic.worker.served.ledger
    ledger_class = type(ledger)
    with pytest.MonkeyPatch.context() as patch:
        real = ledger_class.note

        def forgetful(self, record, done=None):
            return real(self, Record(event="note", actor=record.actor, id=record.id), done)

        patch.setattr(ledger_class, "note", forgetful)
        clinic.call()
    return verifies(clinic, patience=-1)


@attack("LedgerBroken", ANY_CALL)
def call_that_nobody_made(town):
    clinic = watched(town)
    clinic.call()
    us = town.clinic.history.identity
    clinic.worker.served.ledger.record(Record(event="call", actor=us, input=b"x", output=b"y"))
    return verifies(clinic)


@attack("LedgerBroken", ANY_CALL)
def call_recorded_twice(town):
    clinic = watched(town)
    clinic.call()
    call = next(one for one in clinic.worker.entries() if one.event == "call")
    us = town.clinic.history.identity
    again = Record(event="call", actor=us, input=b"x", output=b"y", id=bytes.fromhex(call.id))
    clinic.worker.served.ledger.record(again)
    return verifies(clinic)


@attack("LedgerBroken", ANY_CALL)
def call_of_anothers_session(town):
    """Only of sessions that clinic handed to other programs are calls of others counted."""
    clinic = watched(town)
    clinic.worker.call(clinic.worker.session())
    witness.hand_out(town.store("clinic"), town.clinic.history.identity, clinic.charter, "ab" * 32)
    return verifies(clinic)


@attack("LedgerBroken", NO_CONTINUITY)
def rewritten_log(town):
    clinic = watched(town)
    clinic.call()
    clinic.verify()
    entries, signer = entries_of(clinic)
    serve_instead(clinic, [entries[0], entries[0], *entries[2:], entries[0]], signer)
    return verifies(clinic)


@attack("LedgerBroken", NO_CONTINUITY)
def split_view(town):
    """clinic was shown one log, and now the one that an auditor was shown."""
    clinic = watched(town)
    clinic.verify()
    entries, signer = entries_of(clinic)
    other = entries[0].replace(b'"open"', b'"end"')
    assert other != entries[0]
    serve_instead(clinic, [other] * (len(entries) + 1), signer)
    return verifies(clinic)


@attack("RolledBack", NO_CONTINUITY)
def older_log(town):
    clinic = watched(town)
    clinic.call()
    entries, signer = entries_of(clinic)
    clinic.verify()
    clinic.call()
    clinic.verify()
    for call in clinic.book.all():
        clinic.book.settle(call)
    serve_instead(clinic, entries, signer)
    return verifies(clinic)


@attack("LedgerBroken", NO_LEAVES)
def entry_altered_on_its_way(town):
    clinic = watched(town)
    clinic.call()
    entries, _ = entries_of(clinic)
    files = {
        path: clinic.honest(path)
        for path in ("key.json", "checkpoint", *(tile.path for tile in tiles_of(len(entries))))
    }
    path = next(one for one in files if one.startswith("tile/entries"))
    assert b'"analyst"' not in files[path]
    files[path] = files[path].replace(b"diagnosis", b"diagnosiS")
    clinic.fetch = fetch_of(files)
    return verifies(clinic)


@attack("LedgerBroken", NO_RESTATED)
def another_log_under_the_same_name(town):
    """lab begins its ledger anew, with new keys, which it states."""
    from counterseal.ledger import keys

    clinic = watched(town)
    clinic.verify()
    entries, signer = entries_of(clinic)
    fresh = LogSigner.generate(signer.keys.origin)
    statement = keys.state(fresh.keys, clinic.charter, by=town.lab, at=clinic.worker.now())
    honest = clinic.honest

    def fetch(path):
        return statement if path == "key.json" else honest(path)

    clinic.fetch = fetch
    assert entries
    return verifies(clinic)


@attack("BadSignature")
def log_signed_by_somebody_else(town):
    clinic = watched(town)
    clinic.call()
    entries, signer = entries_of(clinic)
    serve_instead(clinic, entries, LogSigner.generate(signer.keys.origin))
    return verifies(clinic)


@attack("BadSignature")
def cosignature_of_somebody_else(town):
    """rival's good cosignature is sent in within clinic's session."""
    clinic = watched(town)
    found = clinic.worker.served.ledger
    signer = WitnessSigner.generate(cosign.name_of(town.rival.history.identity))
    seen = found._log._signer.keys.open(found.read("checkpoint"))
    lines = signer.cosign(seen.checkpoint, time=int(time.time()))
    statement = cosign.state(signer.keys, by=town.rival, at=clinic.worker.now())

    def victim():
        clinic.send("POST", "cosignature", cosign.body(statement, lines))
        return True

    return victim


ATTACKS = {
    "a receipt with another key is noticed": receipt_with_another_key,
    "a call is not recorded with another payload": call_recorded_with_another_payload,
    "a call is not left out": call_that_is_not_recorded,
    "a call that nobody made is noticed": call_that_nobody_made,
    "a call is not recorded twice": call_recorded_twice,
    "a call of a session that was not handed out is foreign": call_of_anothers_session,
    "a log is not rewritten": rewritten_log,
    "two partners are not shown two logs": split_view,
    "a log does not get shorter": older_log,
    "an entry that is altered on its way is noticed": entry_altered_on_its_way,
    "a log is not begun anew under its name": another_log_under_the_same_name,
    "a log signed by somebody else is refused": log_signed_by_somebody_else,
    "nobody cosigns for the partner": cosignature_of_somebody_else,
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_is_refused(sentence, town):
    ATTACKS[sentence].is_refused(town)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_works_without_its_defense(sentence, town, monkeypatch):
    ATTACKS[sentence].works_undefended(town, monkeypatch)


def test_an_honest_ledger_is_verified_and_cosigned(town):
    clinic = watched(town)
    calls = [clinic.call() for _ in range(3)]
    found = clinic.verify()
    assert (found.settled, found.waiting, found.others) == (3, 0, 0)
    assert clinic.book.all() == []
    assert found.entries == 1 + len(calls)
    note = clinic.honest("checkpoint")
    assert note.count("— ".encode()) == 4  # lab's two, clinic's two
    clinic.call()
    assert clinic.verify().settled == 1


def test_calls_of_programs_that_a_session_was_handed_to_are_counted(town):
    clinic = watched(town)
    gate = clinic.worker
    handed = gate.session()
    digest = gate.desk.sessions.find(handed.token, handed.certificate, at=gate.now()).digest
    witness.hand_out(town.store("clinic"), town.clinic.history.identity, clinic.charter, digest)
    gate.call(handed)
    gate.call(handed)
    clinic.call()
    found = clinic.verify()
    assert (found.settled, found.others) == (1, 2)


def test_nothing_is_kept_of_a_ledger_that_is_not_good(town):
    clinic = watched(town)
    clinic.call(key=os.urandom(32))
    before = town.store("clinic").items("witness"), clinic.book.all()
    assert attack("LedgerBroken")(lambda _: verifies(clinic)).is_refused(town) is None
    assert (town.store("clinic").items("witness"), clinic.book.all()) == before
    assert clinic.sent == []


def test_an_answer_that_comes_while_the_ledger_is_looked_at_is_compared_later(town):
    """What is known of a call by then is not dropped with what was known before."""
    clinic = watched(town)
    clinic.call()
    (answered,) = clinic.book.all()
    unanswered = type(answered).made(bytes.fromhex(answered.id), time=answered.time)
    clinic.book.keep(unanswered)
    honest = clinic.honest

    def fetch(path):
        if path == "checkpoint":
            clinic.book.keep(answered)
        return honest(path)

    clinic.fetch = fetch
    clinic.verify()
    assert clinic.book.all() == [answered]
    clinic.fetch = honest
    assert clinic.verify().waiting == 0
