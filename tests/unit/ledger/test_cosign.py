"""A witness's lines on their way to the log, and a log's request on its way to a witness."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import KEYS, SECONDS, SIGNER, log_of, some
from workshop import AT

from counterseal.errors import (
    BadSignature,
    CountersealError,
    FormatError,
    LedgerBroken,
    RevokedKey,
    RolledBack,
)
from counterseal.ledger import cosign, tree
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.cosign import Request, answer
from counterseal.ledger.entry import Record
from counterseal.ledger.keys import LogSigner, WitnessSigner
from counterseal.ledger.ledger import Ledger
from counterseal.ledger.store import MemoryStore
from counterseal.trust.history import History

BY = WitnessSigner.generate(cosign.name_of("1" * 64))


@pytest.fixture
def scene(cast):
    class Scene:
        def __init__(self):
            self.lab, self.clinic, self.rival = cast.lab, cast.clinic, cast.rival
            self.ledger = Ledger.open(
                "scan", by=self.lab, store=MemoryStore(), clock=lambda: AT, shared=True
            )

        def body(self, by, *, name=None, keys=None):
            witness = WitnessSigner.generate(name or cosign.name_of(by.history.identity))
            statement = cosign.state(keys or witness.keys, by=by, at=AT)
            seen = self.ledger._log.seen.checkpoint
            return cosign.body(statement, witness.cosign(seen, time=SECONDS))

    made = Scene()
    yield made
    made.ledger.close()


def test_a_partners_cosignature_is_published(scene):
    before = scene.ledger.read("checkpoint")
    cosign.attach(scene.ledger, scene.body(scene.clinic), of=scene.clinic.history)
    after = scene.ledger.read("checkpoint")
    assert after.startswith(before)
    assert after.count(b"counterseal.witness/") == 2


def test_what_is_not_the_partners_is_refused(scene):
    clinic = scene.clinic
    stranger = WitnessSigner.generate(cosign.name_of(clinic.history.identity))
    elsewhere = WitnessSigner.generate("elsewhere")
    good = scene.body(clinic)
    statement, _, lines = good.partition(b"\n")
    for wrong, error in [
        (scene.body(scene.rival), BadSignature),
        (scene.body(clinic, keys=stranger.keys), CountersealError),
        (scene.body(clinic, name="elsewhere"), FormatError),
        (scene.body(clinic, keys=elsewhere.keys), FormatError),
        (scene.body(clinic, keys=BY.keys[::-1]), FormatError),
        (statement, CountersealError),
        (statement + b"\n" + lines.splitlines(keepends=True)[0], BadSignature),
        (lines, FormatError),
        (b"", FormatError),
        (good + bytes(cosign.BODY_BYTES), FormatError),
    ]:
        before = scene.ledger.read("checkpoint")
        with pytest.raises(error):
            cosign.attach(scene.ledger, wrong, of=clinic.history)
        assert scene.ledger.read("checkpoint") == before


def test_a_cosignature_of_an_older_checkpoint_comes_too_late(scene):
    late = scene.body(scene.clinic)
    scene.ledger.note(_record(scene.lab))
    scene.ledger.publish()
    with pytest.raises(CountersealError):
        cosign.attach(scene.ledger, late, of=scene.clinic.history)


def test_a_revoked_card_states_nothing(bench):
    clinic = bench.clinic
    statement = cosign.state(_named(clinic), by=clinic, at=AT)
    first = clinic.key_id
    clinic.rotate(at=AT)
    assert cosign.verify(statement, of=clinic.history)
    clinic.revoke(which=first, reason="compromised", at=AT)
    with pytest.raises(RevokedKey):
        cosign.verify(statement, of=History.verify(clinic.card()))


def test_private_keys_of_a_witness_come_back():
    again = WitnessSigner.parse(BY.keys[0].name, BY.encode())
    assert again.keys == BY.keys
    with pytest.raises(FormatError):
        LogSigner.parse("x", BY.encode())
    with pytest.raises(FormatError):
        WitnessSigner.parse("x", SIGNER.encode())


# --- add-checkpoint -----------------------------------------------------------------------------


LEAVES = [tree.leaf_hash(entry) for entry in some(600)]


def mth(start, end):
    return tree.root(LEAVES[start:end])


def request(old, new, *, claimed=None):
    proof = tuple(tree.prove_consistency(old, new, mth))
    made = Checkpoint(KEYS.origin, new, mth(0, new))
    return Request(old if claimed is None else claimed, proof, SIGNER.sign(made, time=SECONDS))


def head(size):
    return Checkpoint(KEYS.origin, size, mth(0, size)) if size else None


@given(st.integers(0, 600), st.integers(0, 600))
def test_a_checkpoint_that_goes_on_is_cosigned(old, new):
    old, new = sorted((old, new))
    asked = Request.parse(request(old, new).encode())
    assert (asked.old, asked.proof) == (old, request(old, new).proof)
    made, lines = answer(asked, KEYS, head(old), by=BY, time=SECONDS)
    assert (made.size, made.root) == (new, mth(0, new))
    assert lines.count(b"\n") == 2


def test_one_that_does_not_go_on_is_not():
    forged = Checkpoint(KEYS.origin, 7, bytes(32))
    other = LogSigner.generate(KEYS.origin)
    for asked, last, error in [
        (request(3, 7), head(4), RolledBack),
        (request(0, 7), head(3), RolledBack),
        (request(3, 7), None, RolledBack),
        (request(3, 7, claimed=8), head(3), FormatError),
        (request(3, 7), Checkpoint(KEYS.origin, 3, bytes(32)), LedgerBroken),
        (Request(3, (), request(3, 7).note), head(3), LedgerBroken),
        (Request(7, (), SIGNER.sign(forged, time=1)), head(7), LedgerBroken),
        (Request(7, (), other.sign(head(7), time=1)), head(7), BadSignature),
    ]:
        with pytest.raises(error):
            answer(asked, KEYS, last, by=BY, time=SECONDS)


@pytest.mark.parametrize(
    "data",
    [b"", b"old 1", b"old 1\n\n", b"old 01\n\nx", b"old -1\n\nx", b"new 1\n\nx", b"old 1\nA\n\nx",
     b"old 1\nAAAA\n\nx", b"old 1\n" + b"A" * 43 + b"=\n" * 1 + b"\xff\n\nx", b"\n\nx",
     b"old 1\n" + (b"A" * 43 + b"=\n") * 64 + b"\nx", b"old 1\n\n" + bytes(10_000_000)],
    ids=lambda data: str(len(data)) + ascii(data[:20]),
)  # fmt: skip
def test_what_is_no_request(data):
    with pytest.raises(FormatError):
        Request.parse(data)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda rest: b"old 1\n" + rest))
def test_garbage_is_refused_in_order(data):
    with contextlib.suppress(FormatError):
        assert Request.parse(data).encode() == data


def test_a_log_asks_and_a_witness_answers():
    log = log_of(some(300))
    note = log.read("checkpoint")
    made, lines = answer(Request(0, (), note), KEYS, None, by=BY, time=SECONDS)
    log.attach(lines, witness=BY.keys)
    assert KEYS.open(log.read("checkpoint")).checkpoint == made


def _record(lab):
    return Record(event="note", actor=lab.history.identity)


def _named(by):
    return WitnessSigner.generate(cosign.name_of(by.history.identity)).keys
