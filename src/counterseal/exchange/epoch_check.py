"""Is this an epoch of a group at all: rules 1, 3 and 4 of `groups` (SPEC 11.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from counterseal.errors import BadSignature, ExpiredKey, FormatError, TrustError, UnknownPartner
from counterseal.exchange.epoch import DOCUMENT_BYTES, EPOCH_TYPE, LIFETIME, EpochDocument
from counterseal.trust import signed
from counterseal.trust.history import CLOCK_SKEW
from counterseal.wire import canonical

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from counterseal.trust.history import History
    from counterseal.wire.dsse import Envelope

__all__ = ["Lookup", "check_roster", "check_times", "parse", "verified"]

Lookup: TypeAlias = "Callable[[str], History | None]"


def parse(envelope: Envelope) -> EpochDocument:
    return canonical.decode(envelope.payload, EpochDocument, limit=DOCUMENT_BYTES, what="epoch")


def verified(envelope: Envelope, *, owner: History, at: datetime) -> EpochDocument:
    """Rule 1."""
    document = parse(envelope)
    if document.owner != owner.identity:
        raise TrustError(f'this group is not of "{owner.name}"')
    dated = owner.for_signature(document.card, made=document.created, at=at)
    signed.verify(envelope, EPOCH_TYPE, by=dated.card.signing.key())
    return document


def check_times(document: EpochDocument, *, at: datetime) -> None:
    """Rule 3, but for the epoch before."""
    if document.created > at + CLOCK_SKEW:
        raise TrustError("this epoch was made in the future", hint="check the clock")
    if at > document.created + LIFETIME:
        raise ExpiredKey("this epoch of the group is over", hint="ask its owner for a new one")


def check_roster(document: EpochDocument, *, us: History, owner: History, partners: Lookup) -> None:
    """Rule 4."""
    names = [member.identity for member in document.roster]
    if names != sorted(set(names)) or owner.identity not in names:
        raise FormatError("the roster of a group is not in order")
    known = {us.identity: us, owner.identity: owner}
    for member in document.roster:
        history = known.get(member.identity) or partners(member.identity)
        if history is None:
            raise UnknownPartner(
                f"the group has a member whose card is not pinned here ({member.identity[:16]})",
                hint="counterseal partner add CARD, or ask the owner who that is",
            )
        try:
            history.unrevoked(member.card)
        except BadSignature:
            raise TrustError(
                f'the group has a card of "{history.name}" that is not known here',
                hint=f"counterseal partner refresh {history.name} CARD",
            ) from None
