"""Parsers of charters and ledgers, which partners hand each other as files (see `targets`)."""

from __future__ import annotations

from functools import cache

from charters import CHARTER, a_charter
from exchange_targets import cast
from workshop import AT

from counterseal.charter import document, source, template
from counterseal.charter.chain import Chain, ChainDocument
from counterseal.crypto.digest import sha256
from counterseal.ledger import cosign, entry, note, tiles
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.keys import LogSigner, WitnessSigner
from counterseal.ledger.proof import Proof
from counterseal.wire import canonical


def charter(data):
    document.parse(data)


def charter_toml(data):
    source.read(data, name="charter.toml")


def charter_yaml(data):
    source.read(data, name="charter.yaml")


@cache
def parties():
    return {one.history.identity: one.history for one in (cast().lab, cast().clinic)}


def charter_chain(data):
    Chain.verify(ChainDocument.parse(data), parties=parties())


@cache
def signer():
    return LogSigner.generate("example.com/log")


def ledger_checkpoint(data):
    signer().keys.open(data)


def ledger_note(data):
    note.split(data)


def ledger_entry(data):
    entry.decode(data)


def ledger_proof(data):
    Proof.parse(data).check(signer().keys)


def ledger_path(data):
    path, _, contents = data.partition(b"\n")
    tile = tiles.Tile.parse(path[:200].decode("utf-8", "surrogateescape"))
    if tile.level == tiles.ENTRIES:
        tiles.unbundle(contents, tile=tile)
    else:
        tiles.hashes_of(contents, tile=tile)


def ledger_request(data):
    assert cosign.Request.parse(data).encode() == data


def ledger_cosignature(data):
    statement, _, _ = data.partition(b"\n")
    cosign.verify(statement, of=cast().clinic.history)


TARGETS = {
    f.__name__: f
    for f in (
        charter, charter_toml, charter_yaml, charter_chain,
        ledger_checkpoint, ledger_note, ledger_entry, ledger_proof, ledger_path,
        ledger_request, ledger_cosignature,
    )
}  # fmt: skip


@cache
def seeds():
    """Honest inputs for each target."""
    lab, clinic = cast().lab, cast().clinic
    text = template.fill(
        "predict-only",
        owner=("lab", lab.history.identity),
        partner=("clinic", clinic.history.identity),
        asset="scan",
        identifier="c0" * 16,
        created=AT,
        begins=AT,
        ends=AT.replace(year=AT.year + 1),
    )
    ours = a_charter(
        owner={"identity": lab.history.identity}, partner={"identity": clinic.history.identity}
    )
    chain = Chain.begin(ours, by=lab, parties=parties(), at=AT)
    signed_chain = chain.countersigned(by=clinic, parties=parties(), at=AT)
    record = entry.Record(event="call", actor=lab.history.identity, input=b"x", output=b"y")
    made = entry.encode(entry.make(record, id=bytes(16), key=bytes(32), at=AT))
    root = sha256(b"\0" + made)
    signed = signer().sign(Checkpoint("example.com/log", 1, root), time=int(AT.timestamp()))
    witness = WitnessSigner.generate(cosign.name_of(clinic.history.identity))
    stated = cosign.state(witness.keys, by=clinic, at=AT)
    return {
        "charter": [canonical.encode(CHARTER)],
        "charter_toml": [text.encode()],
        "charter_yaml": [canonical.encode(CHARTER)],  # JSON is YAML, nearly
        "charter_chain": [chain.document.encode(), signed_chain.document.encode()],
        "ledger_checkpoint": [signed],
        "ledger_note": [signed],
        "ledger_entry": [made],
        "ledger_proof": [Proof(0, (), signed, made).encode()],
        "ledger_request": [cosign.Request(1, (root, root), signed).encode()],
        "ledger_cosignature": [cosign.body(stated, b"")],
        "ledger_path": [
            b"tile/entries/000.p/1\n" + tiles.bundle([made]),
            b"tile/0/x001/234.p/1\n" + root,
        ],
    }
