"""Who we are, said once the other side has shown that it has the code (SPEC 2.9).

A card alone proves nothing: it is public. So its key signs what this pairing was, up to and with
this card, and in which role. Who types the code and sends the card of somebody else is noticed,
and no signature made here fits another pairing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.errors import BadSignature, ExpiredKey, RevokedKey, TrustError
from counterseal.trust import signed
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.pairing_messages import Role
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.crypto.signing import VerifyKey
    from counterseal.trust.identity import Identity
    from counterseal.trust.pairing_messages import Transcript

__all__ = ["PROOF_TYPE", "Introduction", "Proof", "introduce", "introduced"]

PROOF_TYPE: Final = "application/vnd.counterseal.pairing.v1+json"

_Contact = Annotated[bytes, msgspec.Meta(min_length=1, max_length=limits.PAIRING_CONTACT_BYTES)]


class Proof(Message, frozen=True):
    """What each side signs with the key of its card: I took part in this, in this role."""

    kind: Literal["pairing"]
    format: Literal[1]
    role: Role
    transcript: Hex32


class Introduction(Message, frozen=True):
    kind: Literal["introduction"]
    format: Literal[1]
    card: CardDocument
    contact: _Contact | None
    proof: Envelope


def introduce(
    role: Role, before: Transcript, us: Identity, contact: bytes | None, at: datetime
) -> tuple[bytes, Transcript]:
    """Our introduction, and the transcript with it."""
    seen = before.introducing(role, canonical.encode(us.card()), contact)
    document = Introduction(
        kind="introduction",
        format=1,
        card=us.card(),
        contact=contact,
        proof=us.sign(_proof(role, seen), PROOF_TYPE, at=at),
    )
    return canonical.encode(document), seen


def introduced(
    plain: bytes, role: Role, before: Transcript, us: Identity, at: datetime
) -> tuple[History, bytes | None, Transcript]:
    """Who introduces themselves in `plain`, what they sent along, the transcript with it.

    Raises what `History` raises for a card that is not good or not in force, BadSignature
    unless its key signed this pairing, TrustError if it is our own.
    """
    document = canonical.decode(
        plain, Introduction, limit=limits.PAIRING_MESSAGE_BYTES, what="introduction"
    )
    history = History.verify(document.card)
    if history.identity == us.history.identity:
        raise TrustError("this is our own card", hint="the code is for a partner to type")
    signed.verify(document.proof, PROOF_TYPE, by=_key_in_force(history, at))
    seen = before.introducing(role, canonical.encode(document.card), document.contact)
    if document.proof.payload != canonical.encode(_proof(role, seen)):
        raise BadSignature("the key of this card signed another pairing")
    return history, document.contact, seen


def _proof(role: Role, transcript: Transcript) -> Proof:
    return Proof(kind="pairing", format=1, role=role, transcript=transcript.digest.hex())


def _key_in_force(history: History, at: datetime) -> VerifyKey:
    """As `History.current`, whose hints are for partners that are pinned already."""
    hint = "ask them for: counterseal id rotate; then pair with a new code"
    try:
        return history.current(at=at).card.signing.key()
    except RevokedKey as error:
        raise RevokedKey(error.message, hint=hint) from error
    except ExpiredKey as error:
        raise ExpiredKey(error.message, hint=hint) from error
