"""One epoch of a group: a signed roster, and a key that exactly these members receive (SPEC 11).

    document (signed by the owner)   group, number, previous, roster, commitment
    share    (one for each member)   0x01 | sealed 1168 or 1201 | wrapped 48
                                     0x02 | prekey hint 16 | sealed | sealed | wrapped 48

The epoch key is random, never derived from the one before: a removed member cannot compute
the next, a new one not the last. Each share is sealed for the digest of the whole document,
so it fits no other group, number, roster, member or card. Shares are not signed: the
commitment in the document is, and all members hold the key behind it or notice.
A member needs the document and its own share only: the cost of a share is HPKE's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.crypto import wrap
from counterseal.crypto.derive import KEY_BYTES, bind, derive, derive_from_shares
from counterseal.crypto.digest import equal, sha256
from counterseal.errors import BadCiphertext, FormatError
from counterseal.wire import canonical
from counterseal.wire.canonical import Hex32, Message, Timestamp
from counterseal.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from counterseal.crypto.agreement import Opener, SealKey
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity
    from counterseal.wire.dsse import Envelope

__all__ = [
    "EPOCH_TYPE",
    "Epoch",
    "EpochDocument",
    "Member",
    "Seat",
    "epoch_digest",
    "make",
    "open_share",
]

EPOCH_TYPE: Final = "application/vnd.counterseal.epoch.v1+json"
LIFETIME: Final = timedelta(days=30)  # how long a frozen group can be made to talk
MOST_MEMBERS: Final = 4096
DOCUMENT_BYTES: Final = 2 * MIB  # a member is 160 bytes, and 213 in the envelope's base64
HINT_BYTES: Final = 16
_PLAIN, _WITH_PREKEY = b"\x01", b"\x02"


class Member(Message, frozen=True):
    identity: Hex32
    card: Hex32


class EpochDocument(Message, frozen=True):
    """`previous` is the digest of the epoch before, null in the first."""

    kind: Literal["epoch"]
    format: Literal[1]
    group: Hex32
    number: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
    previous: Hex32 | None
    owner: Hex32
    card: Hex32
    created: Timestamp
    roster: Annotated[tuple[Member, ...], msgspec.Meta(min_length=1, max_length=MOST_MEMBERS)]
    commitment: Hex32

    def seat(self, identity: str) -> int | None:
        """The place of a member in the roster, None if it has none."""
        return next((i for i, m in enumerate(self.roster) if m.identity == identity), None)


@dataclass(frozen=True, slots=True)
class Seat:
    """Who is to be in the next epoch; a prekey (its id, the key) makes the share forward secret."""

    history: History
    prekey: tuple[str, SealKey] | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """What the owner hands out: the document to all, to each identity its share."""

    document: EpochDocument
    envelope: Envelope
    shares: Mapping[str, bytes] = field(repr=False)


def make(
    us: Identity,
    seats: Sequence[Seat],
    *,
    group: str,
    number: int,
    previous: str | None,
    at: datetime,
) -> Epoch:
    """Make an epoch for `seats` and ourselves, with a new key."""
    everybody = {seat.history.identity: seat for seat in [*seats, Seat(us.history)]}
    if len(everybody) != len(seats) + 1:
        raise FormatError("a member is listed twice")
    cards = {name: seat.history.current(at=at) for name, seat in everybody.items()}
    key = os.urandom(KEY_BYTES)
    document = EpochDocument(
        kind="epoch",
        format=1,
        group=group,
        number=number,
        previous=previous,
        owner=us.history.identity,
        card=us.current(at=at).key_id,
        created=canonical.timestamp(at),
        roster=tuple(Member(identity=name, card=cards[name].key_id) for name in sorted(cards)),
        commitment=commitment(key, group, number).hex(),
    )
    envelope = us.sign(document, EPOCH_TYPE, at=at)
    digest = epoch_digest(envelope)
    shares = {
        name: _seal_share(key, digest, cards[name].key_id, cards[name].card.agreement.key(), seat)
        for name, seat in everybody.items()
    }
    return Epoch(document, envelope, shares)


def epoch_digest(envelope: Envelope) -> bytes:
    """Names an epoch in the one after it, in its shares and in its messages."""
    return sha256(bind("epoch", envelope.payload))


def open_share(
    share: bytes, document: EpochDocument, digest: bytes, *, us: Identity
) -> tuple[bytes, str | None]:
    """(epoch key, id of the prekey that was used). Raises BadCiphertext or FormatError."""
    seat = document.seat(us.history.identity)
    card = "" if seat is None else document.roster[seat].card
    opener = dict(us.openers()).get(card)
    if opener is None:
        raise BadCiphertext("this share is for a card whose keys are not here any more")
    prekey_id, prekey, sealed = "", None, share[1:]
    if share[:1] == _WITH_PREKEY:
        found, sealed = sealed[:HINT_BYTES], sealed[HINT_BYTES:]
        prekey_id, prekey = _find_prekey(us, digest, found, document.owner)
    elif share[:1] != _PLAIN:
        raise FormatError("a share of an epoch is of no known kind")
    length = opener.public.suite.sealed_bytes(KEY_BYTES)
    if len(sealed) != length * (1 if prekey is None else 2) + wrap.WRAPPED_KEY_BYTES:
        raise FormatError("a share of an epoch has the wrong length")
    info = _info(digest, card, prekey_id)
    secrets = opener.open(sealed[:length], info=info)
    if prekey is not None:
        secrets += prekey.open(sealed[length : 2 * length], info=info)
    under = _kek(secrets, digest, card, prekey_id)
    key = wrap.unwrap_key(sealed[-wrap.WRAPPED_KEY_BYTES :], under=under)
    # Without it an owner could give members different keys, and anybody a share of their own.
    expected = commitment(key, document.group, document.number)
    if not equal(expected, bytes.fromhex(document.commitment)):
        raise BadCiphertext("this share is not of the key that the owner signed")
    return key, prekey_id or None


def commitment(key: bytes, group: str, number: int) -> bytes:
    return derive(key, "epoch commitment", bytes.fromhex(group), number.to_bytes(4, "big"))


def _seal_share(key: bytes, digest: bytes, card: str, to: SealKey, seat: Seat) -> bytes:
    prekey_id = "" if seat.prekey is None else seat.prekey[0]
    info = _info(digest, card, prekey_id)
    secrets = os.urandom(KEY_BYTES)
    parts = [_PLAIN, to.seal(secrets, info=info)]
    if seat.prekey is not None:
        if seat.prekey[1].suite is not to.suite:
            raise FormatError("a prekey of another suite than its owner's card")
        second = os.urandom(KEY_BYTES)
        hint = _hint(digest, prekey_id)
        parts = [_WITH_PREKEY, hint, parts[1], seat.prekey[1].seal(second, info=info)]
        secrets += second
    parts.append(wrap.wrap_key(key, under=_kek(secrets, digest, card, prekey_id)))
    return b"".join(parts)


def _find_prekey(us: Identity, digest: bytes, hint: bytes, owner: str) -> tuple[str, Opener]:
    for identifier in us.prekeys.ids():
        if equal(_hint(digest, identifier), hint):
            opener = us.prekeys.opener(identifier, partner=owner)
            if opener is not None:
                return identifier, opener
    raise BadCiphertext(
        "the prekey of this share is not here any more", hint="ask the owner for a new epoch"
    )


def _hint(digest: bytes, prekey_id: str) -> bytes:
    return sha256(bind("epoch prekey hint", digest, bytes.fromhex(prekey_id)))[:HINT_BYTES]


def _info(digest: bytes, card: str, prekey_id: str) -> bytes:
    return bind("epoch share", digest, bytes.fromhex(card), bytes.fromhex(prekey_id))


def _kek(secrets: bytes, digest: bytes, card: str, prekey_id: str) -> bytes:
    parts = bytes.fromhex(card), bytes.fromhex(prekey_id)
    return derive_from_shares(secrets, "epoch kek", *parts, salt=digest)
