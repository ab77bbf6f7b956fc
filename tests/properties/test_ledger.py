"""Proofs hold for every size and place; nothing else is ever a proof."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from ledgers import KEYS, SIGNER, Marks, fetch_of, new_store, shown, some

from counterseal.errors import CountersealError, LedgerBroken
from counterseal.ledger import entry as entries
from counterseal.ledger import note, tree
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.edge import Edge, fold
from counterseal.ledger.entry import EVENTS, CharterRef, Entry
from counterseal.ledger.log import Log
from counterseal.ledger.proof import Proof, prove
from counterseal.ledger.tiles import Tile
from counterseal.ledger.verify import verify
from counterseal.wire import canonical

LEAVES = [tree.leaf_hash(entry) for entry in some(600)]
hashes = st.binary(min_size=32, max_size=32)


def mth(start, end):
    return tree.root(LEAVES[start:end])


@given(st.data(), st.integers(1, 600))
def test_an_inclusion_proof_is_for_one_entry_of_one_tree(data, size):
    index = data.draw(st.integers(0, size - 1))
    proof = tree.prove_inclusion(index, size, mth)
    good = {"index": index, "size": size, "leaf": LEAVES[index], "root": mth(0, size)}
    tree.check_inclusion(proof, **good)
    wrong = data.draw(
        st.one_of(
            st.integers(0, 700).map(lambda i: {"index": i}),
            hashes.map(lambda h: {"leaf": h}),
            hashes.map(lambda h: {"root": h}),
        )
    )
    assume({**good, **wrong} != good)
    with pytest.raises(LedgerBroken):
        tree.check_inclusion(proof, **{**good, **wrong})
    _changed_is_refused(data, proof, lambda path: tree.check_inclusion(path, **good))


@given(st.data(), st.integers(0, 600))
def test_a_consistency_proof_is_for_two_trees(data, new):
    old = data.draw(st.integers(0, new))
    proof = tree.prove_consistency(old, new, mth)
    good = {"old": old, "new": new, "old_root": mth(0, old), "new_root": mth(0, new)}
    tree.check_consistency(proof, **good)
    wrong = data.draw(
        st.one_of(hashes.map(lambda h: {"old_root": h}), hashes.map(lambda h: {"new_root": h}))
    )
    if old > 0 and {**good, **wrong} != good:
        with pytest.raises(LedgerBroken):
            tree.check_consistency(proof, **{**good, **wrong})
    _changed_is_refused(data, proof, lambda path: tree.check_consistency(path, **good))


def _changed_is_refused(data, proof, check):
    changed = list(proof)
    how = data.draw(st.sampled_from(["drop", "add", "change", "swap"]))
    if how == "add":
        changed.insert(data.draw(st.integers(0, len(proof))), data.draw(hashes))
    elif proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        if how == "drop":
            del changed[at]
        elif how == "change":
            changed[at] = data.draw(hashes)
        else:
            other = data.draw(st.integers(0, len(proof) - 1))
            changed[at], changed[other] = changed[other], changed[at]
    assume(changed != list(proof))
    with pytest.raises(LedgerBroken):
        check(changed)


@given(st.integers(0, 600), st.integers(1, 600))
def test_a_proof_of_another_size_proves_nothing(index, size):
    """That an entry stands in a log says nothing about where it ends."""
    assume(index < size < 600)
    proof = tree.prove_inclusion(index, size, mth)
    with pytest.raises(LedgerBroken):
        tree.check_inclusion(
            proof, index=index, size=size + 1, leaf=LEAVES[index], root=mth(0, size + 1)
        )


@given(st.lists(st.integers(0, 300), max_size=6))
def test_however_an_edge_grows_it_is_the_same_tree(steps):
    edge, size = Edge(), 0
    for step in steps:
        assume(size + step <= 600)
        edge.append(some(step, size))
        size += step
        assert edge.root() == mth(0, size)
    assert edge.root() == fold(edge.levels)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 300), max_size=4), st.data())
@example([256], None)
@example([255, 1, 1], None)
def test_a_log_in_any_steps_verifies_and_any_change_does_not(steps, data):
    log = Log(new_store(), SIGNER, Marks())
    heads = []
    for step in steps:
        log.append_all(some(step, log.size))
        heads.append(KEYS.open(log.publish(time=1)))
    log.publish(time=2)
    for head in heads:
        verify(log.read, KEYS, earlier=head.checkpoint, read=False)
    if data is None:
        return
    files = shown(some(log.size))
    path = data.draw(st.sampled_from(sorted(files)))
    changed = bytearray(files[path])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CountersealError):
        verify(fetch_of({**files, path: bytes(changed)}), KEYS, read=False)


FILES = shown(some(300))
PROOF = prove(fetch_of(FILES), KEYS.open(FILES["checkpoint"]), 137).encode()


@given(st.integers(0, len(PROOF) - 1), st.integers(0, 7))
def test_a_proof_file_with_one_bit_changed_proves_nothing(at, bit):
    changed = bytearray(PROOF)
    changed[at] ^= 1 << bit
    with pytest.raises(CountersealError):
        Proof.parse(bytes(changed)).check(KEYS)


@given(st.binary(max_size=400))
def test_garbage_is_refused_in_order(data):
    for read in (note.split, Proof.parse, entries.decode, KEYS.open):
        with pytest.raises(CountersealError):
            read(data)


@given(st.text(max_size=100))
def test_only_what_is_written_is_read(text):
    for read in (Checkpoint.parse, Tile.parse, note.NoteKey.parse):
        try:
            found = read(text)
        except CountersealError:
            continue
        assert text in {getattr(found, "text", None), getattr(found, "path", None)}


terms = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'),
    min_size=1,
    max_size=40,
)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
counts = st.integers(0, (1 << 53) - 1)
maybe = lambda strategy: st.none() | strategy  # noqa: E731
some_entries = st.builds(
    Entry,
    kind=st.just("entry"),
    format=st.just(1),
    id=st.binary(min_size=16, max_size=16).map(bytes.hex),
    at=st.integers(946_684_800, 32_503_679_999).map(
        lambda s: msgspec.convert(s, canonical.Timestamp, strict=False)
    ),
    event=st.sampled_from(EVENTS),
    actor=digests,
    partner=maybe(digests),
    charter=maybe(st.builds(CharterRef, id=terms, version=st.integers(1, 1 << 52))),
    action=maybe(terms),
    purpose=maybe(terms),
    model=maybe(digests),
    session=maybe(digests),
    document=maybe(digests),
    package=maybe(st.binary(min_size=16, max_size=16).map(bytes.hex)),
    decision=st.sampled_from([None, "permit", "deny"]),
    policies=st.lists(terms, max_size=4).map(tuple),
    reason=maybe(terms),
    risk=maybe(st.integers(0, 100)),
    quota=maybe(counts),
    rows=maybe(counts),
    bytes_in=maybe(counts),
    bytes_out=maybe(counts),
    commit_in=maybe(digests),
    commit_out=maybe(digests),
)


@given(some_entries)
def test_the_fast_encoding_of_an_entry_is_the_canonical_one(entry):
    data = entries.encode(entry)
    assert data == canonical.encode(entry)
    assert entries.decode(data) == entry
