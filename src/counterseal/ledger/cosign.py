"""Cosignatures between machines: who a witness is, and its lines on their way to the log.

A witness has keys of its own (c2sp.org/tlog-cosignature) under a name that follows from its
identity, so that nobody else can have it. Its identity states them as an owner states those of a
log. What it hands to the log is that statement, one line, and its cosignature lines after it.

`Request` is the body of c2sp.org/tlog-witness `add-checkpoint`, for a witness that is asked
rather than one that looks: answer it with `answer`, which is pure.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from counterseal.errors import BadSignature, FormatError, RolledBack
from counterseal.ledger import tree
from counterseal.ledger.checkpoint import Checkpoint, decimal, strict_base64
from counterseal.ledger.note import Kind, NoteKey
from counterseal.trust import signed
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.ledger.keys import LogKeys, WitnessSigner
    from counterseal.ledger.ledger import Ledger
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = [
    "BODY_BYTES",
    "WITNESS_TYPE",
    "Request",
    "answer",
    "attach",
    "body",
    "name_of",
    "state",
    "verify",
]

WITNESS_TYPE: Final = "application/vnd.counterseal.witness.v1+json"
BODY_BYTES: Final = limits.LEDGER_KEY_BYTES + limits.LEDGER_NOTE_BYTES
_HASHES: Final = 63


class WitnessDocument(Message, frozen=True):
    """`card`: which card of `identity` signs this. `keys`: vkeys of type 0x04, 0x06."""

    kind: Literal["witness-keys"]
    format: Literal[1]
    identity: Hex32
    card: Hex32
    keys: tuple[str, str]
    at: Timestamp


def name_of(identity: str) -> str:
    """What the witness of an identity is called in its cosignatures."""
    return f"counterseal.witness/{identity}"


def state(keys: tuple[NoteKey, NoteKey], *, by: Identity, at: datetime) -> bytes:
    """The statement of `by` that these are the keys of its witness."""
    document = WitnessDocument(
        kind="witness-keys",
        format=1,
        identity=by.history.identity,
        card=by.current(at=at).key_id,
        keys=(keys[0].text, keys[1].text),
        at=canonical.timestamp(at),
    )
    return canonical.encode(by.sign(document, WITNESS_TYPE, at=at))


def verify(statement: bytes, *, of: History) -> tuple[NoteKey, NoteKey]:
    """The keys that `of` states to be its witness's; the card that signed must not be revoked."""
    what = "statement of a witness's keys"
    envelope = canonical.decode(statement, Envelope, limit=limits.LEDGER_KEY_BYTES, what=what)
    document = canonical.decode(
        envelope.payload, WitnessDocument, limit=limits.LEDGER_KEY_BYTES, what=what
    )
    if document.identity != of.identity:
        raise BadSignature(f'this witness is not the one of "{of.name}"')
    signed.verify(envelope, WITNESS_TYPE, by=of.unrevoked(document.card).card.signing.key())
    ed25519, mldsa44 = (NoteKey.parse(text) for text in document.keys)
    if (ed25519.kind, mldsa44.kind) != (Kind.ED25519_COSIGNATURE, Kind.MLDSA44_COSIGNATURE) or (
        {ed25519.name, mldsa44.name} != {name_of(of.identity)}
    ):
        raise FormatError("the keys of a witness are not of its kinds, or not in its name")
    return ed25519, mldsa44


def body(statement: bytes, lines: bytes) -> bytes:
    """What a witness hands to the log: its statement and its cosignature lines."""
    return statement + b"\n" + lines


def attach(ledger: Ledger, data: bytes, *, of: History) -> None:
    """Publish a cosignature that `of` handed in; raises if it is not of the last checkpoint."""
    if len(data) > BODY_BYTES:
        raise FormatError(f"a cosignature is longer than {BODY_BYTES} bytes")
    statement, _, lines = data.partition(b"\n")
    ledger.attach(lines, witness=verify(statement, of=of))


@dataclass(frozen=True, slots=True)
class Request:
    """Of a log that wants its checkpoint cosigned. `old`: the size that it was cosigned at last."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    @classmethod
    def parse(cls, data: bytes) -> Request:
        if len(data) > limits.LEDGER_PROOF_BYTES:
            raise FormatError("the request to cosign a checkpoint is too long")
        head, gap, note = data.partition(b"\n\n")
        try:
            first, *rest = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise _unreadable() from None
        if not gap or not note or not first.startswith("old ") or len(rest) > _HASHES:
            raise _unreadable()
        proof = tuple(strict_base64(line, "consistency proof") for line in rest)
        if any(len(one) != tree.HASH_BYTES for one in proof):
            raise _unreadable()
        return cls(decimal(first.removeprefix("old "), "old size"), proof, note)

    def encode(self) -> bytes:
        lines = [f"old {self.old}", *(base64.b64encode(one).decode() for one in self.proof)]
        return "\n".join(lines).encode() + b"\n\n" + self.note


def answer(
    request: Request, keys: LogKeys, last: Checkpoint | None, *, by: WitnessSigner, time: int
) -> tuple[Checkpoint, bytes]:
    """The checkpoint to remember, durably, and then the lines to answer with.

    Raises BadSignature for a checkpoint that is not the log's; RolledBack if `old` is not what
    was cosigned last (tlog-witness: 409, with that size); LedgerBroken if it does not go on.
    """
    made = keys.open(request.note).checkpoint
    known = Checkpoint(keys.origin, 0, tree.EMPTY_ROOT) if last is None else last
    if request.old > made.size:
        raise FormatError("the old size is larger than the checkpoint's")
    if request.old != known.size:
        raise RolledBack(f"the last checkpoint cosigned here has {known.size} entries")
    tree.check_consistency(
        request.proof, old=known.size, new=made.size, old_root=known.root, new_root=made.root
    )
    return made, by.cosign(made, time=time)


def _unreadable() -> FormatError:
    return FormatError("this is no request to cosign a checkpoint (c2sp.org/tlog-witness)")
