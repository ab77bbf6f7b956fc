"""Which keys speak for an organization: a pure state machine over its cards and revocations.

Rules, in order (SPEC 2.5); the first that fails raises, and nothing is learnt from the rest:
1. The cards are numbered from 1 without a gap; each names the key id of the one before it,
   and all name the first as their identity and carry the same name.
2. Every card is signed by its own signing key: whoever made it had the key.
3. Every card after the first is also signed by the signing key of the one before, unless
   that was revoked while it was the newest (then it has no say over its successor), or by
   `threshold` of the recovery keys of the one before.
4. Times run forwards: no card starts before the one before it, ends before it starts or
   lives longer than five years; no two of a card's signing and recovery keys are the same.
5. A revocation names a card of this history and is signed by that card's signing key, by
   a later card's, or by `threshold` of that card's recovery keys.
6. Against what was pinned before: the pinned cards must be the beginning of the new ones
   (fewer is a rollback, other ones a fork), and no revocation may be gone or be replaced by
   another one: a thief of the revoked key could sign one that bars less.
7. `current`: the newest card, if it is neither revoked nor expired nor from the future.
   Expiry is what notices a freeze: a thief of the line can hold back news only until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from counterseal.crypto.digest import equal
from counterseal.errors import (
    BadSignature,
    ExpiredKey,
    FormatError,
    RevokedKey,
    RolledBack,
    TrustError,
)
from counterseal.trust import signed
from counterseal.trust.card import (
    CARD_TYPE,
    MAX_LIFETIME,
    REVOCATION_TYPE,
    Card,
    CardDocument,
    Revocation,
    key_id,
)
from counterseal.wire import canonical, limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from counterseal.crypto.signing import VerifyKey
    from counterseal.wire.dsse import Envelope

__all__ = ["CLOCK_SKEW", "DatedCard", "History"]

CLOCK_SKEW: Final = timedelta(minutes=10)
STATEMENT_PUBLIC_BYTES: Final = 65  # an uncompressed P-256 point


@dataclass(frozen=True, slots=True)
class DatedCard:
    """A card with its key id and what became of it."""

    card: Card
    key_id: str
    revoked: Revocation | None


@dataclass(frozen=True, slots=True)
class History:
    """A verified history. Make one only with `verify`."""

    cards: tuple[DatedCard, ...]
    document: CardDocument

    @classmethod
    def verify(cls, document: CardDocument, *, pinned: History | None = None) -> History:
        """Check a card document by rules 1 to 6."""
        cards = [
            canonical.decode(envelope.payload, Card, limit=limits.CARD_DOCUMENT_BYTES, what="card")
            for envelope in document.cards
        ]
        ids = [key_id(envelope.payload) for envelope in document.cards]
        revocations, barred = _revocations(document.revocations, cards, ids)
        for index, (card, envelope) in enumerate(zip(cards, document.cards, strict=True)):
            _check_place(card, index, cards, ids)
            if index == 0:
                signed.verify(envelope, CARD_TYPE, by=card.signing.key())
            else:
                _check_succession(card, envelope, cards[index - 1], barred=ids[index - 1] in barred)
        dated = [
            DatedCard(card, identifier, revocations.get(identifier))
            for card, identifier in zip(cards, ids, strict=True)
        ]
        history = cls(tuple(dated), document)
        if pinned is not None:
            _check_advance(history, pinned)
        return history

    @property
    def identity(self) -> str:
        """The key id of the first card: the name that stays through rotations."""
        return self.cards[0].key_id

    @property
    def name(self) -> str:
        return self.cards[0].card.name

    @property
    def newest(self) -> DatedCard:
        """The newest card, whatever its state; to seal or trust, use `current`."""
        return self.cards[-1]

    def current(self, *, at: datetime) -> DatedCard:
        """The card whose keys are in force (rule 7)."""
        newest = self.newest
        if newest.revoked is not None:
            raise RevokedKey(
                f'the key of "{self.name}" was revoked ({newest.revoked.reason})',
                hint="ask your partner for their new card, and: "
                f"counterseal partner refresh {self.name} CARD",
            )
        if newest.card.expired(at=at):
            raise ExpiredKey(
                f'the card of "{self.name}" ended on {newest.card.expires:%Y-%m-%d}',
                hint=f"ask for a fresh one, and: counterseal partner refresh {self.name} CARD",
            )
        if newest.card.created > at + CLOCK_SKEW:
            raise TrustError(
                f'the card of "{self.name}" starts in the future',
                hint="check the clock of this machine",
            )
        return newest

    def for_signature(self, identifier: str, *, made: datetime, at: datetime) -> DatedCard:
        """The card with key id `identifier`, if what it signed at `made` still counts now.

        A replaced key's signature counts for the grace time after its replacement: longer
        would let a thief of an old key date new packages back. There is no grace once a
        later key was revoked: one keystore held both, and whoever had it may hold the old.
        """
        for place, dated in enumerate(self.cards):
            if not equal(dated.key_id.encode(), identifier.encode()):
                continue
            if dated.revoked is not None:
                raise RevokedKey(f'this was signed with a revoked key of "{self.name}"')
            if place == len(self.cards) - 1:
                return self.current(at=at)
            later = self.cards[place + 1 :]
            if any(card.revoked is not None for card in later):
                raise RevokedKey(
                    f'this was signed with a key that "{self.name}" replaced, and a later key '
                    "is revoked",
                    hint="ask for a package sealed with the new key",
                )
            successor = later[0].card
            end = successor.created + timedelta(days=dated.card.grace_days)
            last = min(successor.created, dated.card.expires) + CLOCK_SKEW
            if at > end or made > last:
                raise ExpiredKey(
                    f'this was signed with a key that "{self.name}" replaced '
                    f"on {successor.created:%Y-%m-%d}",
                    hint="ask for a package sealed with the new key",
                )
            return dated
        raise BadSignature(
            f'the signing key is not one of "{self.name}"',
            hint=f"if they rotated: counterseal partner refresh {self.name} CARD",
        )

    def unrevoked(self, identifier: str) -> DatedCard:
        """The card with key id `identifier`, however old, unless it was revoked.

        For what should outlive rotations: our own packages, an owner's statement.
        """
        for dated in self.cards:
            if equal(dated.key_id.encode(), identifier.encode()):
                if dated.revoked is not None:
                    raise RevokedKey(f'this was signed with a revoked key of "{self.name}"')
                return dated
        raise BadSignature(f'the signing key is not one of "{self.name}"')


def _check_place(card: Card, index: int, cards: Sequence[Card], ids: Sequence[str]) -> None:
    first = index == 0
    if (
        card.serial != index + 1
        or card.previous != (None if first else ids[index - 1])
        or card.identity != (None if first else ids[0])
        or card.name != cards[0].name
    ):
        raise FormatError("the cards do not form one history")
    if card.recovery.threshold > len(card.recovery.keys) or (
        (card.recovery.threshold == 0) != (len(card.recovery.keys) == 0)
    ):
        raise FormatError("the recovery threshold does not fit the number of recovery keys")
    lifetime = card.expires - card.created
    if not timedelta(0) < lifetime <= MAX_LIFETIME or (
        not first and card.created < cards[index - 1].created
    ):
        raise FormatError("the times of the cards do not run forwards")
    _check_keys(card)


def _check_keys(card: Card) -> None:
    """Every key has its form, and no two signing keys of a card share a half.

    A recovery key listed twice would count twice with one signature; one that is also the
    signing key would let a thief of that key be their own recovery.
    """
    card.agreement.key()
    if len(card.statement) != STATEMENT_PUBLIC_BYTES:
        raise FormatError("the statement key has the wrong length")
    signing = [card.signing.key(), *(public.key() for public in card.recovery.keys)]
    halves = [half for key in signing for half in key.key_ids]
    if len(set(halves)) != len(halves):
        raise FormatError("a card names a signing key twice")


def _check_succession(card: Card, envelope: Envelope, before: Card, *, barred: bool) -> None:
    own = card.signing.key()
    old = before.signing.key()
    recovery = [public.key() for public in before.recovery.keys]
    found = signed.signers(envelope, CARD_TYPE, known=[own, old, *recovery])
    if own not in found:
        raise BadSignature("a card is not signed by its own key")
    if old in found and not barred and own != old:
        return
    if not _enough(found, recovery, before.recovery.threshold):
        raise BadSignature("a new card is signed neither by the old key nor for recovery")


def _enough(found: Sequence[VerifyKey], recovery: Sequence[VerifyKey], threshold: int) -> bool:
    # A threshold of zero means "no recovery keys", never "no signatures needed".
    return 0 < threshold <= sum(key in found for key in recovery)


def _revocations(
    envelopes: Sequence[Envelope], cards: Sequence[Card], ids: Sequence[str]
) -> tuple[dict[str, Revocation], set[str]]:
    """The revocation of each revoked key id, and those revoked while they were the newest."""
    revocations: dict[str, Revocation] = {}
    barred: set[str] = set()
    for envelope in envelopes:
        revocation = canonical.decode(
            envelope.payload, Revocation, limit=limits.CARD_DOCUMENT_BYTES, what="revocation"
        )
        if revocation.identity != ids[0] or not {
            revocation.key_id,
            revocation.newest,
        } <= set(ids):
            raise FormatError("a revocation is for a card that is not in this history")
        place = ids.index(revocation.key_id)
        entitled = [card.signing.key() for card in cards[place:]]
        recovery = [public.key() for public in cards[place].recovery.keys]
        found = signed.signers(envelope, REVOCATION_TYPE, known=[*entitled, *recovery])
        if not any(key in found for key in entitled) and not _enough(
            found, recovery, cards[place].recovery.threshold
        ):
            raise BadSignature("a revocation is not signed by anyone entitled to it")
        revocations.setdefault(revocation.key_id, revocation)
        if ids.index(revocation.newest) <= place:
            barred.add(revocation.key_id)
    return revocations, barred


def _check_advance(history: History, pinned: History) -> None:
    known = [dated.key_id for dated in pinned.cards]
    offered = [dated.key_id for dated in history.cards]
    if offered[: len(known)] != known:
        if known[: len(offered)] == offered:
            raise RolledBack(
                f'this card of "{pinned.name}" is older than the one already pinned',
                hint="ask for the newest card; someone may be replaying an old one",
            )
        raise RolledBack(
            f'this card of "{pinned.name}" contradicts the one already pinned',
            hint="two different histories exist: talk to your partner before anything else",
        )
    # By what they say, not by whom they revoke: `newest` decides about the successor (rule 3).
    seen = {envelope.payload for envelope in pinned.document.revocations}
    if not seen <= {envelope.payload for envelope in history.document.revocations}:
        raise RolledBack(f'this card of "{pinned.name}" hides a revocation already seen')
