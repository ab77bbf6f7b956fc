"""Attacks on a ledger: by its owner, by whoever serves it, by a thief of one key, by a crash.

lab keeps a ledger, clinic watches it and calls lab's model, rival serves copies of it or claims
to be lab. What the attacker wants: a history that somebody believes and that is not the one
that happened.
"""

import msgspec
import pytest
from ledgers import SECONDS, SIGNER, Marks, fetch_of, log_of, new_store, shown, some
from workshop import AT, Cut, attack, undefended

from counterseal.errors import (
    BadSignature,
    CountersealError,
    LedgerBroken,
    RevokedKey,
    RolledBack,
    TamperError,
)
from counterseal.ledger import entry as entries
from counterseal.ledger import keys, note, tree, verify
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.entry import Record
from counterseal.ledger.keys import LogKeys, LogSigner, WitnessSigner, origin_of
from counterseal.ledger.log import Log
from counterseal.ledger.proof import Proof, prove
from counterseal.ledger.tiles import bundle
from counterseal.ledger.witness import PATIENCE, Call, Witness
from counterseal.trust.history import History
from counterseal.wire import canonical

LEDGER = "counterseal.ledger."
WITNESS = LEDGER + "witness:"
READER = LEDGER + "reader:TileReader."
KEYS = LEDGER + "keys:LogKeys."
LOG = LEDGER + "log:Log."

NO_CONTINUITY = Cut(WITNESS + "Witness.update", "check_goes_on(reader, self.last.checkpoint)")
NO_SINCE = Cut(LEDGER + "verify:verify", "check_goes_on(reader, earlier)")
NO_OVERDUE = Cut(WITNESS + "Witness.update", "_check_overdue(waiting, time - patience)")
NO_COMPARISON = Cut(
    WITNESS + "_settle", "_compare(call, entry.commit_in, entry.commit_out, str(index))"
)
NO_LATE_COMPARISON = Cut(
    WITNESS + "Witness.expect", "_compare(call, known.commit_in, known.commit_out, call.id)"
)
ANY_CALL = Cut(
    WITNESS + "_settle", "call is None or call.logged", "call is None: return\n    if False"
)
NO_RESTATED = Cut(
    WITNESS + "Witness.restated", "LogKeys.verify(statement, of=owner) != self.keys", "False"
)
NO_LEAVES = Cut(READER + "_bundle", "found != expected", "False")
NO_PARENT = Cut(READER + "hashes", "perfect_root(found) != expected", "False")
NO_ROOT = Cut(READER + "__init__", "fold(levels) != checkpoint.root", "False")
NO_ED25519 = Cut(
    LEDGER + "note:NoteKey.verify",
    "notes.verify_ed25519(self.public, signature, text.encode())",
)
NO_MLDSA44 = Cut(
    LEDGER + "note:NoteKey.verify", "check(self.public, signature[_TIME_BYTES:], message)"
)
ONE_SIGNATURE = Cut(KEYS + "open", "len(opened.by) != 2", "False")
ANY_ORIGIN = Cut(KEYS + "open", "checkpoint.origin != self.origin", "False")
NO_STATEMENT = Cut(
    LEDGER + "keys:_stated",
    "signed.verify(envelope, LOG_TYPE, by=of.unrevoked(document.card).card.signing.key())",
)
ANY_CARD = Cut(
    LEDGER + "keys:_stated",
    "of.unrevoked(document.card)",
    "next(one for one in of.cards if one.key_id == document.card)",
)
NO_MARK = Cut(LOG + "_check_published", "check_goes_on(reader, marked)")
NO_LOCK = Cut(LOG + "__init__", "store.lock(wait=LOCK_SECONDS if shared else 0)")
NO_FOLLOWING = Cut(
    LOG + "_follow", "stored.follow(self._store, self._edge)", "stored.restore(self._store)"
)
NO_TILES = Cut(LEDGER + "stored:follow", "_check_same_tiles(store, edge)")
NO_BUNDLE = Cut(LEDGER + "stored:follow", "not piece.startswith(known)", "False")
NO_MARK_BEFORE_SIGNING = Cut(LOG + "publish", "self._mark.get()", "None")
NO_PATH = Cut(LEDGER + "tree:check_inclusion", "last != 0 or current != root", "False")

W = WitnessSigner.generate("clinic.example/w")
LOG_KEY = bytes(32)


class Scene:
    """lab's log as a list of entries that lab may make up; clinic's witness of it."""

    def __init__(self, bench):
        self.lab, self.us = bench.lab, bench.clinic.history.identity
        self.signer = LogSigner.generate(origin_of(bench.lab.history.identity, "scan"))
        self.keys = self.signer.keys
        statement = keys.state(self.keys, "scan", by=bench.lab, at=AT)
        self.witness = Witness.begin(statement, owner=bench.lab.history, us=self.us)
        self.now = SECONDS

    def entries(self, *numbers, input=b"in", event="call"):  # noqa: A002 - the record's field
        made = []
        for number in numbers:
            id_ = number.to_bytes(16, "big")
            record = Record(event=event, actor=self.us, input=input, output=b"out")
            entry = entries.make(record, id=id_, key=entries.record_key(LOG_KEY, id_), at=AT)
            made.append(entries.encode(entry))
        return made

    def sessions(self, count, start=0):
        return self.entries(*range(start, start + count), event="session")

    def call(self, number, *, answered=True):
        id_ = number.to_bytes(16, "big")
        call = Call.made(id_, time=SECONDS)
        if answered:
            key = entries.record_key(LOG_KEY, id_)
            call = call.answered(key, input=b"in", output=b"out")
        self.witness = self.witness.expect(call)

    def show(self, log, *, later=0):
        """What clinic sees of the log; True if it is content with it."""
        self.now += 1
        files = shown(log, signer=self.signer, time=self.now)
        sight = self.witness.update(fetch_of(files), by=W, time=SECONDS + later)
        self.witness = sight.witness
        return True


# --- the owner ------------------------------------------------------------------------------


@attack(LedgerBroken, NO_CONTINUITY)
def two_views(bench):
    """clinic is shown one log, and later the one that everybody else was shown."""
    scene = Scene(bench)
    scene.show(scene.sessions(300))
    return lambda: scene.show(scene.sessions(300, 1))


@attack(LedgerBroken, NO_CONTINUITY)
def rewritten_and_grown(bench):
    scene = Scene(bench)
    log = scene.sessions(300)
    scene.show(log)
    return lambda: scene.show([*log[:7], *scene.sessions(1, 999), *log[8:], *scene.sessions(50)])


@attack(RolledBack, NO_CONTINUITY)
def shortened(bench):
    scene = Scene(bench)
    log = scene.sessions(300)
    scene.show(log)
    return lambda: scene.show(log[:299])


@attack(LedgerBroken, NO_CONTINUITY)
def an_entry_taken_out(bench):
    scene = Scene(bench)
    log = scene.sessions(300)
    scene.show(log)
    return lambda: scene.show([*log[:7], *log[8:], *scene.sessions(2, 400)])


@attack(LedgerBroken, NO_SINCE)
def rewritten_since_an_export(bench):
    """An auditor has kept a checkpoint, and nothing else."""
    scene = Scene(bench)
    kept = scene.keys.open(shown(scene.sessions(300), signer=scene.signer)["checkpoint"])
    files = shown(scene.sessions(400, 1), signer=scene.signer)
    return lambda: bool(verify.verify(fetch_of(files), scene.keys, earlier=kept.checkpoint))


@attack(LedgerBroken, NO_OVERDUE)
def a_call_that_is_not_recorded(bench):
    scene = Scene(bench)
    scene.call(1)
    return lambda: scene.show(scene.sessions(3), later=PATIENCE + 1)


@attack(LedgerBroken, NO_COMPARISON)
def a_call_recorded_with_another_payload(bench):
    scene = Scene(bench)
    scene.call(1)
    return lambda: scene.show(scene.entries(1, input=b"something illegal"))


@attack(LedgerBroken, NO_LATE_COMPARISON)
def a_call_recorded_otherwise_before_it_is_answered(bench):
    scene = Scene(bench)
    scene.call(1, answered=False)
    scene.show(scene.entries(1, input=b"something illegal"))

    def victim():
        scene.call(1)
        return scene.witness.calls == {}

    return victim


@attack(LedgerBroken, ANY_CALL)
def a_call_recorded_twice(bench):
    """It would use up clinic's quota twice as fast."""
    scene = Scene(bench)
    scene.call(1)
    return lambda: scene.show(scene.entries(1, 1))


@attack(LedgerBroken, ANY_CALL)
def a_call_recorded_again_later(bench):
    scene = Scene(bench)
    scene.call(1)
    scene.show(scene.entries(1))
    return lambda: scene.show(scene.entries(1, 1))


@attack(LedgerBroken, ANY_CALL)
def a_call_recorded_again_before_it_is_answered(bench):
    scene = Scene(bench)
    scene.call(1, answered=False)
    scene.show(scene.entries(1))
    return lambda: scene.show(scene.entries(1, 1))


@attack(LedgerBroken, ANY_CALL)
def a_call_that_was_never_made(bench):
    scene = Scene(bench)
    return lambda: scene.show(scene.entries(7))


@attack(LedgerBroken, NO_RESTATED)
def another_log_under_the_same_name(bench):
    """lab makes new keys and starts afresh, where nobody has seen anything."""
    scene = Scene(bench)
    other = LogSigner.generate(scene.keys.origin)
    statement = keys.state(other.keys, "scan", by=bench.lab, at=AT)

    def victim():
        scene.witness.restated(statement, owner=bench.lab.history)
        return True

    return victim


@attack(BadSignature, ANY_ORIGIN)
def a_checkpoint_of_another_log(bench):
    """With the right keys, over another origin: a witness of that one would not see it."""
    scene = Scene(bench)
    log = scene.sessions(3)
    files = shown(log, signer=scene.signer, origin="counterseal.ledger/elsewhere")
    return lambda: bool(scene.witness.update(fetch_of(files), by=W, time=SECONDS))


# --- whoever serves it ----------------------------------------------------------------------


def served(bench, change):
    """rival changes files of lab's log of 600 entries on their way."""
    scene = Scene(bench)
    files = shown(scene.sessions(600), signer=scene.signer)
    change(files, scene)
    return lambda: bool(verify.verify(fetch_of(files), scene.keys))


def swap_entry(files, scene, *, path, number, tile=None):
    """Another entry in a bundle, and, if `tile` is named, its hash in the tile."""
    found, at, data = [], 0, files[path]
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : end])
        at = end
    found[number] = scene.sessions(1, 999)[0]
    files[path] = bundle(found)
    if tile is not None:
        leaf = tree.leaf_hash(found[number])
        files[tile] = files[tile][: 32 * number] + leaf + files[tile][32 * number + 32 :]


@attack(LedgerBroken, NO_LEAVES)
def an_entry_changed(bench):
    return served(bench, lambda f, s: swap_entry(f, s, path="tile/entries/001", number=5))


@attack(LedgerBroken, NO_PARENT)
def an_entry_and_its_tile_changed(bench):
    return served(
        bench,
        lambda f, s: swap_entry(f, s, path="tile/entries/001", number=5, tile="tile/0/001"),
    )


@attack(LedgerBroken, NO_ROOT)
def the_last_entries_and_their_tile_changed(bench):
    path = ".p/88"
    return served(
        bench,
        lambda f, s: swap_entry(
            f, s, path=f"tile/entries/002{path}", number=5, tile=f"tile/0/002{path}"
        ),
    )


@attack(LedgerBroken)
def an_entry_left_out(bench):
    def change(files, scene):
        files["tile/entries/001"] = bundle(scene.sessions(255, 256))

    return served(bench, change)


@attack(LedgerBroken)
def a_bundle_left_out(bench):
    return served(bench, lambda files, _: files.pop("tile/entries/001"))


@attack(LedgerBroken)
def two_bundles_swapped(bench):
    def change(files, _):
        one, other = "tile/entries/000", "tile/entries/001"
        files[one], files[other] = files[other], files[one]

    return served(bench, change)


@attack(BadSignature, NO_ED25519, NO_MLDSA44)
def a_log_of_rivals_under_labs_signatures(bench):
    """rival's own tree, and the signature lines of lab's last checkpoint."""
    scene = Scene(bench)
    _, lines = note.split(shown(scene.sessions(600), signer=scene.signer)["checkpoint"])
    files = shown(scene.sessions(600, 1), signer=scene.signer)
    text, _ = note.split(files["checkpoint"])
    files["checkpoint"] = note.join(text, lines)
    return lambda: bool(verify.verify(fetch_of(files), scene.keys))


@attack(BadSignature)
def a_log_signed_by_rival(bench):
    scene = Scene(bench)
    files = shown(scene.sessions(3), signer=LogSigner.generate(scene.keys.origin))
    return lambda: bool(verify.verify(fetch_of(files), scene.keys))


# --- thieves of a key -----------------------------------------------------------------------


def with_one_signature(bench, kept):
    """The thief has one of the log's keys, and makes a log of its own."""
    scene = Scene(bench)
    files = shown(scene.sessions(3), signer=scene.signer)
    text, lines = note.split(files["checkpoint"])
    files["checkpoint"] = note.join(text, [lines[kept]])
    return lambda: bool(verify.verify(fetch_of(files), scene.keys))


@attack(BadSignature, ONE_SIGNATURE)
def only_mldsa44(bench):
    return with_one_signature(bench, 1)


@attack(BadSignature)
def only_ed25519(bench):
    """What a quantum computer could make of the public key."""
    return with_one_signature(bench, 0)


@attack(BadSignature, NO_STATEMENT)
def keys_stated_in_labs_name(bench):
    scene = Scene(bench)
    honest = keys.state(scene.keys, "scan", by=bench.lab, at=AT)
    envelope = canonical.decode(honest, keys.Envelope, limit=100_000, what="statement")
    document = canonical.decode(envelope.payload, keys.LogDocument, limit=100_000, what="it")
    rivals = LogSigner.generate(scene.keys.origin).keys
    forged = msgspec.structs.replace(document, keys=rivals.texts)
    statement = canonical.encode(bench.rival.sign(forged, keys.LOG_TYPE, at=AT))
    return lambda: LogKeys.verify(statement, of=bench.lab.history) == rivals


@attack(BadSignature)
def a_log_of_rival_as_labs(bench):
    signer = LogSigner.generate(origin_of(bench.rival.history.identity, "scan"))
    statement = keys.state(signer.keys, "scan", by=bench.rival, at=AT)
    return lambda: LogKeys.verify(statement, of=bench.lab.history) == signer.keys


@attack(RevokedKey, ANY_CARD)
def keys_stated_with_a_revoked_key(bench):
    signer = LogSigner.generate(origin_of(bench.lab.history.identity, "scan"))
    statement = keys.state(signer.keys, "scan", by=bench.lab, at=AT)
    stolen = bench.lab.key_id
    bench.lab.rotate(at=AT)
    bench.lab.revoke(which=stolen, reason="compromised", at=AT)
    history = History.verify(bench.lab.card())
    return lambda: LogKeys.verify(statement, of=history) == signer.keys


# --- our own disk and our own mistakes ------------------------------------------------------


@attack(RolledBack, NO_MARK)
def an_old_copy_is_gone_on_from(bench):
    """A backup is restored, and the log would go on from it: two histories, both signed."""
    store, mark = new_store(), Marks()
    log = log_of(some(300), store=store, mark=mark)
    older = dict(store.blobs)
    log.append_all(some(10, 300))
    log.publish(time=SECONDS)
    log.close()
    store._shared.blobs = older
    return lambda: Log(store.again(), SIGNER, mark).size == 300


@attack(CountersealError, NO_LOCK, NO_MARK_BEFORE_SIGNING)
def two_writers(bench):
    """Two processes record in one log; each would sign a tree of its own."""
    store, mark = new_store(), Marks()
    one = Log(store.again(), SIGNER, mark)

    def victim():
        other = Log(store.again(), SIGNER, mark)
        signed = []
        for log, entry in ((one, b"one"), (other, b"other")):
            log.append(entry)
            signed.append(SIGNER.keys.open(log.publish(time=SECONDS)).checkpoint)
        return signed[0].size == signed[1].size and signed[0].root != signed[1].root

    return victim


@attack(LedgerBroken, NO_MARK_BEFORE_SIGNING)
def two_writers_without_a_lock(bench):
    """On a file system that does not lock."""
    with pytest.MonkeyPatch.context() as patch:
        NO_LOCK.apply(patch)
        unlocked = Log.__init__
    scene = two_writers.make(bench)

    def victim():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Log, "__init__", unlocked)
            return scene()

    return victim


def replaced_while_it_is_open(ours, theirs):
    """A running gateway's ledger is replaced by one that has another history, and is longer."""
    store, other = new_store(), new_store()
    gateway = Log(store.again(), SIGNER, Marks(), shared=True)
    gateway.append_all(some(ours))
    Log(other, SIGNER, Marks()).append_all(theirs)
    store._shared.blobs = dict(other.blobs)
    return lambda: gateway.append(b"x") == len(theirs)


@attack(LedgerBroken, NO_FOLLOWING, NO_BUNDLE)
def the_last_entries_are_replaced(bench):
    return replaced_while_it_is_open(3, some(5, 10))


@attack(LedgerBroken, NO_FOLLOWING, NO_TILES)
def all_entries_are_replaced(bench):
    return replaced_while_it_is_open(512, some(700, 10))


@attack(LedgerBroken, NO_PATH)
def a_proof_of_what_was_never_recorded(bench):
    scene = Scene(bench)
    files = shown(scene.sessions(300), signer=scene.signer)
    honest = prove(fetch_of(files), scene.keys.open(files["checkpoint"]), 7)
    forged = Proof(7, honest.hashes, honest.checkpoint, scene.sessions(1, 999)[0])
    return lambda: bool(Proof.parse(forged.encode()).check(scene.keys))


ATTACKS = {
    "two partners are not shown two logs": two_views,
    "a log is not rewritten while it grows": rewritten_and_grown,
    "a log does not get shorter": shortened,
    "an entry is not taken out": an_entry_taken_out,
    "an auditor with an old checkpoint notices a rewritten log": rewritten_since_an_export,
    "a call of ours is not left out": a_call_that_is_not_recorded,
    "a call of ours is not recorded with another payload": a_call_recorded_with_another_payload,
    "nor before its answer is here": a_call_recorded_otherwise_before_it_is_answered,
    "a call of ours is not recorded twice": a_call_recorded_twice,
    "nor again in a later checkpoint": a_call_recorded_again_later,
    "nor again before its answer is here": a_call_recorded_again_before_it_is_answered,
    "a call that we did not make is not ours": a_call_that_was_never_made,
    "an owner does not start afresh under the same name": another_log_under_the_same_name,
    "a checkpoint of another log is refused": a_checkpoint_of_another_log,
    "an altered entry is noticed": an_entry_changed,
    "an altered entry with an altered tile is noticed": an_entry_and_its_tile_changed,
    "altered last entries with an altered tile are noticed": (
        the_last_entries_and_their_tile_changed
    ),
    "an entry that is left out is noticed": an_entry_left_out,
    "a bundle that is left out is noticed": a_bundle_left_out,
    "swapped bundles are noticed": two_bundles_swapped,
    "old signatures do not vouch for a new tree": a_log_of_rivals_under_labs_signatures,
    "a log signed by somebody else is refused": a_log_signed_by_rival,
    "the ML-DSA-44 key alone makes no checkpoint": only_mldsa44,
    "the Ed25519 key alone makes no checkpoint": only_ed25519,
    "nobody states keys in another's name": keys_stated_in_labs_name,
    "a log of somebody else is not the partner's": a_log_of_rival_as_labs,
    "a revoked key states nothing": keys_stated_with_a_revoked_key,
    "an old copy is not gone on from": an_old_copy_is_gone_on_from,
    "a second writer is refused": two_writers,
    "a second writer that no lock stops signs nothing": two_writers_without_a_lock,
    "a shared ledger's last entries are not replaced": the_last_entries_are_replaced,
    "nor all of its entries": all_entries_are_replaced,
    "there is no proof of what was never recorded": a_proof_of_what_was_never_recorded,
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_refused(sentence, bench):
    error = ATTACKS[sentence].is_refused(bench)
    assert isinstance(error, CountersealError)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_would_work_without_the_check(sentence, bench, monkeypatch):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)


def test_a_broken_ledger_is_tampering():
    assert issubclass(LedgerBroken, TamperError)


def test_two_contradicting_checkpoints_are_evidence_for_anybody(bench):
    """Both are signed: a third party needs nothing but them and lab's statement."""
    scene = Scene(bench)
    seen = [
        scene.keys.open(shown(scene.sessions(3, start), signer=scene.signer)["checkpoint"])
        for start in (0, 1)
    ]
    assert seen[0].checkpoint.size == seen[1].checkpoint.size
    with pytest.raises(LedgerBroken, match="split view"):
        tree.check_consistency(
            [], old=3, new=3, old_root=seen[0].checkpoint.root, new_root=seen[1].checkpoint.root
        )
    assert isinstance(seen[0].checkpoint, Checkpoint)
