"""Make the next document of a history: the first card, a rotation, a recovery, a revocation.

Pure: keys and times come in, a new signed document comes out; nothing is stored. What is made
here is checked by `History.verify`, the same code that a partner runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from counterseal.errors import RevokedKey, TrustError
from counterseal.trust import signed
from counterseal.trust.card import (
    CARD_LIFETIME,
    CARD_TYPE,
    GRACE_DAYS,
    REVOCATION_TYPE,
    AgreementPublic,
    Card,
    CardDocument,
    Recovery,
    Revocation,
    SigningPublic,
    key_id,
)
from counterseal.trust.history import History
from counterseal.wire import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from counterseal.crypto.signing import Signer
    from counterseal.trust.keystores.keyring import Generation

__all__ = ["first", "next_card", "revoke"]

Reason = Literal["compromised", "lost", "ended"]


def first(
    name: str,
    keys: Generation,
    *,
    recovery: Recovery,
    at: datetime,
    lifetime: timedelta = CARD_LIFETIME,
) -> tuple[str, History]:
    """The first card of a new identity: its key id and the history of one."""
    start = canonical.timestamp(at)
    card = _card(name, keys, recovery, start, start + lifetime, before=None)
    envelope = signed.sign(card, CARD_TYPE, by=[keys.signing])
    document = CardDocument(kind="cards", format=1, cards=(envelope,), revocations=())
    return key_id(envelope.payload), History.verify(document)


def next_card(
    history: History,
    keys: Generation,
    *,
    by: Sequence[Signer],
    at: datetime,
    recovery: Recovery | None = None,
    lifetime: timedelta = CARD_LIFETIME,
) -> tuple[str, History]:
    """A new card that replaces the newest, authorized by the old key or recovery keys `by`."""
    before = history.newest
    start = max(canonical.timestamp(at), before.card.created)
    chosen = before.card.recovery if recovery is None else recovery
    card = _card(history.name, keys, chosen, start, start + lifetime, before=history)
    envelope = signed.sign(card, CARD_TYPE, by=[keys.signing, *by])
    document = CardDocument(
        kind="cards",
        format=1,
        cards=(*history.document.cards, envelope),
        revocations=history.document.revocations,
    )
    return key_id(envelope.payload), History.verify(document, pinned=history)


def revoke(
    history: History, which: str, *, by: Sequence[Signer], reason: Reason, at: datetime
) -> History:
    """Withdraw the card with key id `which`; nothing signed with it counts any more."""
    dated = next((d for d in history.cards if d.key_id == which), None)
    if dated is None:
        raise TrustError("there is no such card in this history")
    if dated.revoked is not None:
        raise RevokedKey("that card is revoked already")
    revocation = Revocation(
        kind="revocation",
        format=1,
        identity=history.identity,
        key_id=which,
        newest=history.newest.key_id,
        reason=reason,
        at=canonical.timestamp(at),
    )
    envelope = signed.sign(revocation, REVOCATION_TYPE, by=by)
    document = CardDocument(
        kind="cards",
        format=1,
        cards=history.document.cards,
        revocations=(*history.document.revocations, envelope),
    )
    return History.verify(document, pinned=history)


def _card(
    name: str,
    keys: Generation,
    recovery: Recovery,
    created: datetime,
    expires: datetime,
    *,
    before: History | None,
) -> Card:
    return Card(
        kind="card",
        format=1,
        name=name,
        serial=1 if before is None else before.newest.card.serial + 1,
        identity=None if before is None else before.identity,
        previous=None if before is None else before.newest.key_id,
        created=created,
        expires=expires,
        grace_days=GRACE_DAYS,
        signing=SigningPublic.of(keys.signing.public),
        agreement=AgreementPublic.of(keys.agreement.public),
        statement=keys.statement.public,
        recovery=recovery,
    )
