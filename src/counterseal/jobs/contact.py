"""What happens at every contact: the partner's newest directory is looked up, ours is put up.

So a rotation, a revocation and fresh prekeys reach a partner with the next contact, over
whatever carries the mail. A directory is sealed for its one reader and believed by its own
rules (`trust.directory`), not because it lay there. Whoever holds it back or replays an old one
gains a week: then the partner is not usable any more (`Partner.usable`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import CountersealError, PeerMisbehaved
from counterseal.exchange.boxes import box
from counterseal.exchange.letter import LIFETIME
from counterseal.exchange.sealing import open_sealed_message, seal_message
from counterseal.exchange.sent import SentBook
from counterseal.trust.directory.bundle import DirectoryBundle
from counterseal.trust.prekeys import LAST_RESORT_ARRIVAL, prekey_id
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from counterseal.crypto.agreement import SealKey
    from counterseal.exchange.transports import Transport
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner, PartnerBook

__all__ = ["letter_lifetime", "letter_prekey", "look_up", "meet", "put_up"]

RENEWAL: Final = timedelta(hours=12)  # of seven days that a directory lasts
_PUT_UP: Final = "directory-put-up"

Warn: TypeAlias = "Callable[[str, CountersealError], None]"


class _PutUp(Message, frozen=True):
    """When and with which cards a directory was put up, so that not every contact makes one."""

    kind: Literal["put-up"]
    format: Literal[1]
    card: Hex32
    at: Timestamp


def meet(
    partners: Sequence[Partner],
    *,
    by: Identity,
    book: PartnerBook,
    via: Transport,
    address: str,
    warn: Warn,
    at: datetime | None = None,
) -> list[Partner]:
    """The partners as they are after a look at their directories; ours is put up for each.

    `warn` hears of directories that were not believed, and of what could not be put up: neither
    ends the contact. Raises Dropped or TimedOut when the way is lost.
    """
    at = at or datetime.now(UTC)
    met = []
    for partner in partners:
        try:
            known = look_up(partner, by=by, book=book, via=via, at=at)
        except PeerMisbehaved:
            raise
        except CountersealError as error:
            warn(partner.name, error)
            known = book.get(partner.name)
        met.append(known)
        try:
            put_up(known, by=by, via=via, address=address, at=at)
        except PeerMisbehaved:
            raise
        except CountersealError as error:
            warn(partner.name, error)
    return met


def look_up(
    partner: Partner, *, by: Identity, book: PartnerBook, via: Transport, at: datetime
) -> Partner:
    """Take over what their directory says; raises what refuses it, and then nothing changed."""
    data = via.lookup(box(partner.identity, by.history.identity))
    if data is None:
        return partner
    plain = open_sealed_message(data, by=by, partner=partner.identity)
    bundle = DirectoryBundle.parse(plain)
    _, after = book.update_directory(partner.name, bundle, us=by.history, at=at)
    return after


def put_up(
    partner: Partner, *, by: Identity, via: Transport, address: str, at: datetime, now: bool = False
) -> bool:
    """Put up our directory for them, if the one that is there is half a day old or of older cards.

    Returns whether it was; `now` does it in any case.
    """
    news = sha256(bind("put up", by.card().encode())).hex()
    place = f"{by.history.identity}/{partner.identity}/{address}"
    data = by.store.get(_PUT_UP, place)
    if data is not None and not now:
        last = canonical.decode(data, _PutUp, limit=limits.KIB, what="record of a directory")
        if last.card == news and last.at <= at < last.at + RENEWAL:
            return False
    from counterseal.trust.directory.publisher import make_directory

    bundle = make_directory(by, partner.history, at=at)
    sealed = seal_message(
        bundle.encode(),
        to=partner.history.current(at=at),
        prekey=letter_prekey(partner, by=by, at=at),
    )
    via.publish(box(by.history.identity, partner.identity), sealed)
    record = _PutUp(kind="put-up", format=1, card=news, at=canonical.timestamp(at))
    by.store.put(_PUT_UP, place, canonical.encode(record))
    return True


def letter_prekey(partner: Partner, *, by: Identity, at: datetime) -> tuple[str, SealKey] | None:
    """Their last-resort prekey: what gives letters forward secrecy without using any up."""
    last = SentBook(by).last_resort_for(partner, at=at)
    return None if last is None else (prekey_id(last), last.key())


def letter_lifetime(
    partner: Partner, prekey: tuple[str, SealKey] | None, *, at: datetime
) -> timedelta:
    """No letter outlives the prekey that opens it: its receiver deletes that in time."""
    bundle = partner.prekeys
    if prekey is None or bundle is None or bundle.last_resort is None:
        return LIFETIME
    return min(LIFETIME, bundle.last_resort.expires + LAST_RESORT_ARRIVAL - canonical.timestamp(at))
