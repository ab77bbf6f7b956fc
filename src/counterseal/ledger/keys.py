"""The two keys of a log, and the statement that makes them its owner's (SPEC 17.3).

A log signs with Ed25519, which every tool reads, and with ML-DSA-44; we believe a checkpoint
only with both. The keys are made for one log. What ties them to an organization is a
statement signed by its identity: a partner checks it against the pinned history before
believing anything that the log says.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from counterseal.crypto.notes import SEED_BYTES
from counterseal.errors import BadSignature, FormatError
from counterseal.ledger import note
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.note import Kind, NoteKey, NoteSigner
from counterseal.trust import signed
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Name, PrivateMessage, Timestamp
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["LOG_TYPE", "LogKeys", "LogSigner", "Seen", "WitnessSigner", "origin_of", "state"]

LOG_TYPE: Final = "application/vnd.counterseal.ledger.v1+json"


def origin_of(identity: str, name: str) -> str:
    """The origin of a log: nobody else's can have it."""
    return f"counterseal.ledger/{identity}/{name}"


class LogDocument(Message, frozen=True):
    """`card`: which card of `identity` signs this."""

    kind: Literal["ledger"]
    format: Literal[1]
    identity: Hex32
    card: Hex32
    name: Name
    keys: tuple[str, str]
    at: Timestamp


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint with good signatures of its log. `time`: when it was signed."""

    checkpoint: Checkpoint
    time: int
    note: bytes


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The public keys of a log: Ed25519, ML-DSA-44."""

    origin: str
    ed25519: NoteKey
    mldsa44: NoteKey

    def __post_init__(self) -> None:
        if (self.ed25519.kind, self.mldsa44.kind) != (Kind.ED25519, Kind.MLDSA44_COSIGNATURE) or (
            {self.ed25519.name, self.mldsa44.name} != {self.origin}
        ):
            raise FormatError("the keys of a log are not of its kinds, or not in its name")

    @property
    def texts(self) -> tuple[str, str]:
        return self.ed25519.text, self.mldsa44.text

    @classmethod
    def parse(cls, origin: str, texts: tuple[str, str]) -> LogKeys:
        return cls(origin, NoteKey.parse(texts[0]), NoteKey.parse(texts[1]))

    @classmethod
    def verify(cls, statement: bytes, *, of: History) -> LogKeys:
        """The keys that `of` states to be those of a log of theirs.

        A statement outlives rotations of the identity, but not the revocation of the card that
        signed it: its owner then signs the same keys again.
        """
        document = _stated(statement, of)
        return cls.parse(origin_of(of.identity, document.name), document.keys)

    def open(self, data: bytes) -> Seen:
        """A checkpoint of this log, with both signatures; else it is forged."""
        try:
            opened = note.open_note(data, known=[self.ed25519, self.mldsa44])
            checkpoint = Checkpoint.parse(opened.text)
        except (BadSignature, FormatError) as error:
            raise _forged(error.message) from None
        if len(opened.by) != 2:
            raise _forged("one of the log's two signatures is missing")
        if checkpoint.origin != self.origin:
            raise _forged("it is of another log")
        time = opened.by.get(self.mldsa44)
        if time is None:
            raise _forged("it has no time")
        return Seen(checkpoint, time, data)


def _stated(statement: bytes, of: History) -> LogDocument:
    envelope = canonical.decode(
        statement, Envelope, limit=limits.LEDGER_KEY_BYTES, what="statement of a ledger's key"
    )
    document = canonical.decode(
        envelope.payload,
        LogDocument,
        limit=limits.LEDGER_KEY_BYTES,
        what="statement of a ledger's key",
    )
    if document.identity != of.identity:
        raise BadSignature(f'this ledger is not one of "{of.name}"')
    signed.verify(envelope, LOG_TYPE, by=of.unrevoked(document.card).card.signing.key())
    return document


def _forged(why: str) -> BadSignature:
    return BadSignature(
        f"forged checkpoint: {why}", hint="it was not made with the keys that the owner states"
    )


_PrivateKind: TypeAlias = Literal["ledger-keys", "witness-private"]


class _Private(PrivateMessage, frozen=True):
    kind: _PrivateKind
    format: Literal[1]
    ed25519: bytes
    mldsa44: bytes


def _encode(kind: _PrivateKind, seeds: tuple[bytes, bytes]) -> bytes:
    return canonical.encode(_Private(kind=kind, format=1, ed25519=seeds[0], mldsa44=seeds[1]))


def _decode(kind: _PrivateKind, data: bytes) -> tuple[bytes, bytes]:
    private = canonical.decode(data, _Private, limit=limits.KIB, what="private keys")
    if private.kind != kind:
        raise FormatError("these are the private keys of something else")
    return private.ed25519, private.mldsa44


class LogSigner:
    """The private keys of one log."""

    __slots__ = ("_seeds", "_signers", "keys")

    def __init__(self, origin: str, ed25519: bytes, mldsa44: bytes) -> None:
        self._seeds = ed25519, mldsa44
        plain = NoteSigner(origin, Kind.ED25519, ed25519)
        pq = NoteSigner(origin, Kind.MLDSA44_COSIGNATURE, mldsa44)
        self._signers = plain, pq
        self.keys = LogKeys(origin, plain.key, pq.key)

    @classmethod
    def generate(cls, origin: str) -> LogSigner:
        return cls(origin, os.urandom(SEED_BYTES), os.urandom(SEED_BYTES))

    def encode(self) -> bytes:
        """The private keys, for `Identity.protect`; nothing else may call this."""
        return _encode("ledger-keys", self._seeds)

    @classmethod
    def parse(cls, origin: str, data: bytes) -> LogSigner:
        return cls(origin, *_decode("ledger-keys", data))

    def sign(self, checkpoint: Checkpoint, *, time: int) -> bytes:
        text = checkpoint.text
        return note.join(text, [signer.sign(text, time=time) for signer in self._signers])

    def __repr__(self) -> str:
        return f"<LogSigner {self.keys.origin}>"


class WitnessSigner:
    """The private keys of a witness: both kinds of cosignature."""

    __slots__ = ("_seeds", "_signers", "keys")

    def __init__(self, name: str, ed25519: bytes, mldsa44: bytes) -> None:
        self._seeds = ed25519, mldsa44
        plain = NoteSigner(name, Kind.ED25519_COSIGNATURE, ed25519)
        pq = NoteSigner(name, Kind.MLDSA44_COSIGNATURE, mldsa44)
        self._signers = plain, pq
        self.keys = plain.key, pq.key

    @classmethod
    def generate(cls, name: str) -> WitnessSigner:
        return cls(name, os.urandom(SEED_BYTES), os.urandom(SEED_BYTES))

    def encode(self) -> bytes:
        """The private keys, for `Identity.protect`; nothing else may call this."""
        return _encode("witness-private", self._seeds)

    @classmethod
    def parse(cls, name: str, data: bytes) -> WitnessSigner:
        return cls(name, *_decode("witness-private", data))

    def cosign(self, checkpoint: Checkpoint, *, time: int) -> bytes:
        """The signature lines to add to the checkpoint's note."""
        text = checkpoint.text
        return "".join(signer.sign(text, time=time).line for signer in self._signers).encode()

    def __repr__(self) -> str:
        return f"<WitnessSigner {self.keys[0].name}>"


def state(keys: LogKeys, name: str, *, by: Identity, at: datetime) -> bytes:
    """The statement of `by` that these are the keys of its log `name`."""
    document = LogDocument(
        kind="ledger",
        format=1,
        identity=by.history.identity,
        card=by.current(at=at).key_id,
        name=name,
        keys=keys.texts,
        at=canonical.timestamp(at),
    )
    return canonical.encode(by.sign(document, LOG_TYPE, at=at))
