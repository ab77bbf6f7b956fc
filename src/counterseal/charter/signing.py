"""Both parties' signatures under one version of a charter, and the chain of versions (SPEC 16.2).

Rules for an envelope, in order; nothing of it is used before all hold:
1. Its payload is a charter of this version of counterseal, in canonical form.
2. Every signature is by a card of its owner or its partner, pinned here, which is not revoked;
   each party signs once. A card that was replaced since still counts: charters outlive keys.
3. A version continues the one before: same id, same parties, the next number, its digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from counterseal.charter import document
from counterseal.charter.document import CHARTER_TYPE, Charter
from counterseal.errors import BadSignature, RolledBack, TamperError, TrustError
from counterseal.trust import signed
from counterseal.wire import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from counterseal.crypto.signing import VerifyKey
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity
    from counterseal.wire.dsse import Envelope

__all__ = ["Side", "SignedCharter", "check_continues", "countersign", "keys_of", "sign", "verify"]

Side = Literal["owner", "partner"]


@dataclass(frozen=True, slots=True)
class SignedCharter:
    """A verified envelope. Make one only with `verify`."""

    charter: Charter
    envelope: Envelope
    sides: frozenset[Side]

    @property
    def complete(self) -> bool:
        return self.sides == {"owner", "partner"}


def side_of(charter: Charter, identity: str) -> Side:
    """Raises TrustError for somebody who is no party."""
    if charter.owner.identity == identity:
        return "owner"
    if charter.partner.identity == identity:
        return "partner"
    raise TrustError(
        f'"{charter.title}" is an agreement between others',
        hint="its owner or partner has to be one of our identities: --as",
    )


def sign(charter: Charter, *, by: Identity, at: datetime) -> Envelope:
    """The first signature."""
    side_of(charter, by.history.identity)
    return by.sign(charter, CHARTER_TYPE, at=at)


def countersign(
    envelope: Envelope, *, by: Identity, parties: Mapping[str, History], at: datetime
) -> Envelope:
    """Verify what is there, and add ours."""
    there = verify(envelope, parties=parties)
    if side_of(there.charter, by.history.identity) in there.sides:
        raise TrustError("we signed this version already", hint="the other side has to sign it")
    ours = by.sign(there.charter, CHARTER_TYPE, at=at)
    return type(envelope)(
        payload=envelope.payload,
        payloadType=envelope.payloadType,
        signatures=(*envelope.signatures, *ours.signatures),
    )


def verify(envelope: Envelope, *, parties: Mapping[str, History]) -> SignedCharter:
    """Rules 1 and 2. `parties`: pinned histories by identity, ours among them."""
    charter = document.parse(envelope.payload)
    known = keys_of(charter, parties)
    found = signed.signers(envelope, CHARTER_TYPE, known=list(known))
    sides = [known[key] for key in found]
    if len(set(sides)) != len(sides):
        raise BadSignature("one party signed this charter twice")
    return SignedCharter(charter, envelope, frozenset(sides))


def keys_of(charter: Charter, parties: Mapping[str, History]) -> dict[VerifyKey, Side]:
    """The keys that may sign for each side."""
    found: dict[VerifyKey, Side] = {}
    sides: tuple[tuple[Side, str], ...] = (
        ("owner", charter.owner.identity),
        ("partner", charter.partner.identity),
    )
    for side, identity in sides:
        history = parties.get(identity)
        if history is None:
            raise TrustError(
                f'the {side} of "{charter.title}" is not pinned here',
                hint="counterseal partner add CARD, or partner invite",
            )
        for dated in history.cards:
            if dated.revoked is None:
                found[dated.card.signing.key()] = side
    return found


def check_continues(new: Charter, old: Charter) -> None:
    """Rule 3. Raises RolledBack for an older version, TamperError for another chain."""
    if new.id != old.id:
        raise TamperError("this is another charter", hint="its id differs")
    if new.version <= old.version and canonical.encode(new) != canonical.encode(old):
        raise RolledBack(
            f"version {new.version} of this charter is older than what is kept (version "
            f"{old.version}), or another text of it",
            hint="ask your partner which version they hold",
        )
    parties = (new.owner.identity, new.partner.identity)
    if parties != (old.owner.identity, old.partner.identity):
        raise TamperError("a charter cannot change hands", hint="make a new one")
    if new.version > old.version and (new.version != old.version + 1 or new.previous != old.digest):
        raise TamperError(
            f"version {new.version} does not continue version {old.version}",
            hint="a version in between is missing: ask for the whole charter",
        )
