import msgspec
import pytest
from ledgers import KEYS, ORIGIN, SECONDS, SIGNER
from workshop import AT, DAY

from counterseal.errors import BadSignature, FormatError, RevokedKey
from counterseal.ledger import keys, note
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.keys import LogKeys, LogSigner, WitnessSigner, origin_of
from counterseal.ledger.note import Kind
from counterseal.trust.history import History
from counterseal.wire import canonical

HEAD = Checkpoint(ORIGIN, 3, bytes(32))


def stated(by, name="scan", at=AT):
    signer = LogSigner.generate(origin_of(by.history.identity, name))
    return signer, keys.state(signer.keys, name, by=by, at=at)


def test_a_log_signs_twice_and_both_count():
    signed = SIGNER.sign(HEAD, time=SECONDS)
    seen = KEYS.open(signed)
    assert (seen.checkpoint, seen.time, seen.note) == (HEAD, SECONDS, signed)
    text, signatures = note.split(signed)
    for kept in signatures:
        with pytest.raises(BadSignature, match=r"forged checkpoint: one of the log's two"):
            KEYS.open(note.join(text, [kept]))


def test_a_checkpoint_of_another_log_is_forged():
    other = Checkpoint("example.com/other", 3, bytes(32))
    with pytest.raises(BadSignature, match="of another log"):
        KEYS.open(SIGNER.sign(other, time=SECONDS))
    with pytest.raises(BadSignature, match="forged"):
        KEYS.open(LogSigner.generate(ORIGIN).sign(HEAD, time=SECONDS))
    with pytest.raises(BadSignature, match="forged"):
        KEYS.open(b"nonsense")


def test_private_keys_come_back_and_do_not_show():
    again = LogSigner.parse(ORIGIN, SIGNER.encode())
    assert again.keys == KEYS
    assert repr(again) == f"<LogSigner {ORIGIN}>"
    assert repr(WitnessSigner.generate("w")) == "<WitnessSigner w>"


def test_a_statement_names_the_keys(cast):
    signer, statement = stated(cast.lab)
    assert LogKeys.verify(statement, of=cast.lab.history) == signer.keys
    assert signer.keys.origin == f"counterseal.ledger/{cast.lab.history.identity}/scan"


def test_a_statement_of_somebody_else(cast):
    _, statement = stated(cast.rival)
    with pytest.raises(BadSignature, match='not one of "lab"'):
        LogKeys.verify(statement, of=cast.lab.history)


def test_a_statement_in_the_name_of_somebody_else(cast):
    """rival names lab's identity and card, and signs with its own key."""
    signer = LogSigner.generate(origin_of(cast.lab.history.identity, "scan"))
    honest = keys.state(signer.keys, "scan", by=cast.lab, at=AT)
    envelope = canonical.decode(honest, keys.Envelope, limit=100_000, what="statement")
    document = canonical.decode(envelope.payload, keys.LogDocument, limit=100_000, what="it")
    for forged in (
        cast.rival.sign(document, keys.LOG_TYPE, at=AT),
        cast.lab.sign(document, "application/vnd.counterseal.card.v1+json", at=AT),
        msgspec.structs.replace(envelope, payload=envelope.payload.replace(b"scan", b"scam")),
    ):
        with pytest.raises(BadSignature):
            LogKeys.verify(canonical.encode(forged), of=cast.lab.history)


def test_keys_in_another_name_are_refused(cast):
    signer = LogSigner.generate(origin_of(cast.bank.history.identity, "scan"))
    statement = keys.state(signer.keys, "scan", by=cast.lab, at=AT)
    with pytest.raises(FormatError, match="not in its name"):
        LogKeys.verify(statement, of=cast.lab.history)


def test_keys_of_other_kinds_are_refused():
    with pytest.raises(FormatError):
        LogKeys(ORIGIN, KEYS.mldsa44, KEYS.ed25519)
    witness = WitnessSigner.generate(ORIGIN)
    with pytest.raises(FormatError):
        LogKeys(ORIGIN, witness.keys[0], witness.keys[1])


def test_a_statement_outlives_a_rotation_but_not_a_revocation(cast):
    signer, statement = stated(cast.lab)
    first = cast.lab.key_id
    cast.lab.rotate(at=AT + DAY)
    history = History.verify(cast.lab.card())
    assert LogKeys.verify(statement, of=history) == signer.keys
    cast.lab.revoke(which=first, reason="compromised", at=AT + DAY)
    with pytest.raises(RevokedKey):
        LogKeys.verify(statement, of=History.verify(cast.lab.card()))


def test_a_witness_adds_two_lines():
    witness = WitnessSigner.generate("witness.example/w1")
    lines = witness.cosign(HEAD, time=SECONDS)
    signed = SIGNER.sign(HEAD, time=SECONDS) + lines
    assert KEYS.open(signed).checkpoint == HEAD  # unknown signatures say nothing
    opened = note.open_note(signed, known=witness.keys)
    assert {key.kind: time for key, time in opened.by.items()} == {
        Kind.ED25519_COSIGNATURE: SECONDS,
        Kind.MLDSA44_COSIGNATURE: SECONDS,
    }
