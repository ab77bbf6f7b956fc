"""A card: the public keys an organization hands over, signed by themselves (SPEC 2.4).

A card is never changed. A new one (rotation) names the one before it and is signed by its
key, or by enough recovery keys; `history` decides what a chain of cards is worth.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.crypto.agreement import AgreementSuite, SealKey
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.crypto.signing import SigningSuite, VerifyKey
from counterseal.trust import atomic
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Name, Timestamp
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "CARD_TYPE",
    "REVOCATION_TYPE",
    "AgreementPublic",
    "Card",
    "CardDocument",
    "Recovery",
    "Revocation",
    "SigningPublic",
    "key_id",
]

CARD_TYPE: Final = "application/vnd.counterseal.card.v1+json"
REVOCATION_TYPE: Final = "application/vnd.counterseal.revocation.v1+json"
CARD_LIFETIME: Final = timedelta(days=365)  # a thief's or freezer's best case
MAX_LIFETIME: Final = timedelta(days=5 * 366)
GRACE_DAYS: Final = 14  # how long a package sealed just before a rotation may be on its way


class SigningPublic(Message, frozen=True):
    suite: SigningSuite
    classical: bytes
    pq: bytes

    @classmethod
    def of(cls, key: VerifyKey) -> SigningPublic:
        return cls(suite=key.suite, classical=key.classical, pq=key.pq)

    def key(self) -> VerifyKey:
        return VerifyKey(self.suite, self.classical, self.pq)


class AgreementPublic(Message, frozen=True):
    suite: AgreementSuite
    classical: bytes
    pq: bytes

    @classmethod
    def of(cls, key: SealKey) -> AgreementPublic:
        return cls(suite=key.suite, classical=key.classical, pq=key.pq)

    def key(self) -> SealKey:
        return SealKey(self.suite, self.classical, self.pq)


class Recovery(Message, frozen=True):
    """Keys kept offline, of which `threshold` together may replace a lost or stolen key."""

    threshold: Annotated[int, msgspec.Meta(ge=0, le=limits.RECOVERY_KEYS)]
    keys: Annotated[tuple[SigningPublic, ...], msgspec.Meta(max_length=limits.RECOVERY_KEYS)]


class Card(Message, frozen=True):
    """`identity` is the key id of the first card (null in it): it stays through rotations."""

    kind: Literal["card"]
    format: Literal[1]
    name: Name
    serial: Annotated[int, msgspec.Meta(ge=1, le=limits.CARDS)]
    identity: Hex32 | None
    previous: Hex32 | None
    created: Timestamp
    expires: Timestamp
    grace_days: Annotated[int, msgspec.Meta(ge=0, le=90)]
    signing: SigningPublic
    agreement: AgreementPublic
    statement: bytes
    recovery: Recovery

    def expired(self, *, at: datetime) -> bool:
        return at > self.expires


class Revocation(Message, frozen=True):
    """Withdraws the keys of one card, for good and for everything they ever signed.

    `newest` is the newest card when this was written: a successor that a thief makes later,
    however it is dated, cannot pretend to have been there before.
    """

    kind: Literal["revocation"]
    format: Literal[1]
    identity: Hex32
    key_id: Hex32
    newest: Hex32
    reason: Literal["compromised", "lost", "ended"]
    at: Timestamp


class CardDocument(Message, frozen=True):
    """What a card file holds: every card since the first, and every revocation."""

    kind: Literal["cards"]
    format: Literal[1]
    cards: Annotated[tuple[Envelope, ...], msgspec.Meta(min_length=1, max_length=limits.CARDS)]
    revocations: Annotated[tuple[Envelope, ...], msgspec.Meta(max_length=limits.REVOCATIONS)]

    @classmethod
    def parse(cls, data: bytes) -> CardDocument:
        return canonical.decode(data.strip(), cls, limit=limits.CARD_DOCUMENT_BYTES, what="card")

    @classmethod
    def load(cls, path: Path | str) -> CardDocument:
        """Read a card file. Nothing is trusted yet: `Partner.pin` decides."""
        return cls.parse(atomic.read_bounded(Path(path), limits.CARD_DOCUMENT_BYTES, what="card"))

    def encode(self) -> bytes:
        return canonical.encode(self) + b"\n"

    def save(self, path: Path | str) -> None:
        atomic.write_whole(Path(path), self.encode())


def key_id(card_payload: bytes) -> str:
    """The key id of a card: a digest of all that it says, so nothing in it can be swapped."""
    return sha256(bind("card", card_payload)).hex()
