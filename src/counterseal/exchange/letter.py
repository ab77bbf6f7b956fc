"""A letter: a small document, signed by its sender and sealed for its recipient (SPEC 12.3).

Rules for reading one, in order; `sender` is whose box it lay in:
1. It opens with our keys (`sealing`).
2. It is an envelope around a letter that says: from this sender, to us. Without the second,
   a partner could pass a letter that was meant for it on to us, sealed anew.
3. It has not ended. Before the signature: what says so of itself is of no use to anybody.
4. The signature is of a card of the sender that was in force when the letter was made. A card
   that we have not seen may come yet: that is UnknownPartner, not a forgery.
5. It is not from the future.
6. Its id was not processed before (`LetterBook`); ids are kept until the letter has ended.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.errors import (
    BadSignature,
    ExpiredKey,
    FormatError,
    ReplayedMessage,
    UnknownPartner,
)
from counterseal.exchange.sealing import open_sealed_message, seal_message
from counterseal.trust import signed
from counterseal.trust.history import CLOCK_SKEW
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from counterseal.crypto.agreement import SealKey
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity
    from counterseal.trust.store import Store

__all__ = [
    "LETTER_TYPE",
    "LIFETIME",
    "Ended",
    "Letter",
    "LetterBook",
    "LetterId",
    "LetterType",
    "read",
    "write",
]

LETTER_TYPE: Final = "application/vnd.counterseal.letter.v1+json"
LIFETIME: Final = timedelta(days=30)
MAX_LIFETIME: Final = timedelta(days=366)

LetterId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]
LetterType = Literal["shipment", "receipt", "message"]


class Ended(ExpiredKey):
    """Over for good: unlike a card that ended, it will not be renewed."""


class Letter(Message, frozen=True):
    """What is signed. `body` is a canonical document of the `type`."""

    kind: Literal["letter"]
    format: Literal[1]
    id: LetterId
    type: LetterType
    sender: Hex32
    card: Hex32
    recipient: Hex32
    created: Timestamp
    expires: Timestamp
    body: bytes


def write(
    type_: LetterType,
    body: bytes,
    *,
    by: Identity,
    to: History,
    at: datetime,
    prekey: tuple[str, SealKey] | None = None,
    lifetime: timedelta = LIFETIME,
) -> tuple[Letter, bytes]:
    """The letter and its sealed bytes. Raises if either card is not in force."""
    made = canonical.timestamp(at)
    letter = Letter(
        kind="letter",
        format=1,
        id=os.urandom(16).hex(),
        type=type_,
        sender=by.history.identity,
        card=by.current(at=at).key_id,
        recipient=to.identity,
        created=made,
        expires=made + lifetime,
        body=body,
    )
    envelope = by.sign(letter, LETTER_TYPE, at=at)
    sealed = seal_message(canonical.encode(envelope), to=to.current(at=at), prekey=prekey)
    return letter, sealed


def read(data: bytes, *, by: Identity, sender: History, at: datetime) -> Letter:
    """Rules 1 to 5. Raises Ended or a TamperError for one that will never be good."""
    plain = open_sealed_message(data, by=by, partner=sender.identity)
    envelope = canonical.decode(plain, Envelope, limit=limits.LETTER_BYTES, what="letter envelope")
    letter = canonical.decode(envelope.payload, Letter, limit=limits.LETTER_BYTES, what="letter")
    if letter.sender != sender.identity:
        raise BadSignature(f'this letter does not claim to be from "{sender.name}"')
    if letter.recipient != by.history.identity:
        raise BadSignature(f'"{sender.name}" wrote this letter to somebody else')
    if not letter.created < letter.expires <= letter.created + MAX_LIFETIME:
        raise FormatError("the times of a letter do not run forwards")
    if at > letter.expires:
        raise Ended(f'a letter of "{sender.name}" has ended', hint="ask them to send it again")
    if letter.card not in {dated.key_id for dated in sender.cards}:
        raise UnknownPartner(
            f'a letter is signed with a card of "{sender.name}" that is not here yet',
            hint=f"counterseal partner refresh {sender.name} CARD",
        )
    dated = sender.for_signature(letter.card, made=letter.created, at=at)
    signed.verify(envelope, LETTER_TYPE, by=dated.card.signing.key())
    if letter.created > at + CLOCK_SKEW:
        raise ExpiredKey(
            f'a letter of "{sender.name}" is from the future',
            hint="check the clocks of both machines",
        )
    return letter


class _Processed(Message, frozen=True):
    until: Timestamp


class LetterBook:
    """Which letters were processed; one record each until it has ended."""

    _KIND: Final = "letter"

    def __init__(self, store: Store, *, owner: str) -> None:
        """`owner`: our identity, because several may share a store."""
        self._store = store
        self._prefix = f"{owner}/"

    def check(self, letter: Letter) -> None:
        """Rule 6."""
        if self._store.get(self._KIND, self._key(letter)) is not None:
            raise ReplayedMessage("this letter was processed before")

    def commit(self, letter: Letter, *, at: datetime) -> None:
        """Remember it, and forget those that no clock would accept any more."""
        with self._store.exclusive():
            self.check(letter)
            until = letter.expires + 2 * CLOCK_SKEW
            self._store.put(
                self._KIND, self._key(letter), canonical.encode(_Processed(until=until))
            )
            for key, value in self._store.items(self._KIND):
                if key.startswith(self._prefix) and self._ended(value, at):
                    self._store.delete(self._KIND, key)

    @staticmethod
    def _ended(value: bytes, at: datetime) -> bool:
        record = canonical.decode(value, _Processed, limit=limits.KIB, what="record of a letter")
        return record.until < at

    def _key(self, letter: Letter) -> str:
        return f"{self._prefix}{letter.sender}/{letter.id}"
