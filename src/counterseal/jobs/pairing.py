"""Meet a partner: drive a pairing over a slot, and pin who was met."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from counterseal.errors import Aborted, CountersealError, Dropped, TimedOut, TrustError
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.identity import check_name
from counterseal.trust.pairing import Accepter, Code, Invitation, Inviter, Paired
from counterseal.trust.partner import Partner
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Name, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from counterseal.exchange.rendezvous import Rendezvous
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import PartnerBook

__all__ = ["Contact", "Met", "accept", "invite", "new_invitation", "open_invitation"]

_INVITATION: Final = "invitation"
_PAIRED: Final = "pairing"
POLL_SECONDS: Final = 20.0
AGAIN_SECONDS: Final = 1.0


class Contact(Message, frozen=True):
    """What an inviter sends along: who runs the mailbox that both use."""

    kind: Literal["contact"]
    format: Literal[1]
    relay: Name | None
    card: CardDocument | None


class _Record(Message, frozen=True):
    """For the ledger: that, when and over which transcript we met."""

    kind: Literal["pairing"]
    format: Literal[1]
    identity: Hex32
    transcript: Hex32
    at: Timestamp


@dataclass(frozen=True, slots=True)
class Met:
    """Who was met. `relay`: the mailbox's operator, pinned on their word."""

    partner: Partner
    transcript: str
    relay: Partner | None


class _Steady:
    """A slot that has worked once is not given up for a connection that is lost."""

    def __init__(
        self,
        rendezvous: Rendezvous,
        *,
        until: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._rendezvous, self._until = rendezvous, until
        self._clock, self._sleep = clock, sleep
        self._worked = False

    def messages(self, *, wait: float) -> Iterator[bytes]:
        try:
            for message in self._rendezvous.messages(wait=wait):
                self._worked = True
                yield message
        except (Dropped, TimedOut):
            self._pause()
        self._worked = True

    def post(self, message: bytes) -> None:
        """Until it is there: the same message twice does no harm, a lost one ends the pairing."""
        while True:
            try:
                self._rendezvous.post(message)
            except (Dropped, TimedOut):
                self._pause()
            else:
                self._worked = True
                return

    def _pause(self) -> None:
        """Raises what is being handled if there is no hope."""
        if not self._worked or self._clock() + AGAIN_SECONDS > self._until:
            raise  # noqa: PLE0704 - in the handlers above
        self._sleep(AGAIN_SECONDS)


def new_invitation(us: Identity, *, at: datetime, words: int = 3) -> Invitation:
    """Make a code and remember it, encrypted, with its attempts."""
    invitation = Invitation.create(at=at, words=words)
    _save(us, invitation)
    return invitation


def open_invitation(us: Identity, slot: int) -> Invitation:
    """An invitation made earlier, with the attempts that are left; TrustError if there is none."""
    protected = us.store.get(_INVITATION, _key(us, slot))
    if protected is None:
        raise TrustError(
            f"there is no invitation with the number {slot}", hint="counterseal partner invite"
        )
    return Invitation.parse(us.unprotect(protected, label=_INVITATION))


def invite(
    invitation: Invitation,
    rendezvous: Rendezvous,
    *,
    us: Identity,
    book: PartnerBook,
    name: str | None = None,
    contact: Contact | None = None,
    wait: float,
    refused: Callable[[CountersealError], None],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Met:
    """Wait for the one who types the code. `refused` hears of messages that were not theirs.

    Raises TimedOut, or TrustError when the code has ended; neither a wrong guess nor a connection
    that is lost ends anything.
    """
    sent = canonical.encode(contact) if contact is not None else None
    inviter = Inviter(invitation, us=us, contact=sent)
    deadline = clock() + wait
    slot = _Steady(rendezvous, until=deadline, clock=clock, sleep=sleep)
    while (left := deadline - clock()) > 0:
        for message in slot.messages(wait=min(left, POLL_SECONDS)):
            at = now()
            before = inviter.invitation
            try:
                reply = inviter.receive(message, at=at)
            except CountersealError as error:
                refused(error)
                inviter.check_alive(at=at)
                continue
            # Before the answer leaves: neither a restart nor a second command gives it back.
            _count(us, before, reply.save)
            if reply.paired is not None:
                partner = _pin(reply.paired, us, book, name, at)
                slot.post(reply.send)
                us.store.delete(_INVITATION, _key(us, invitation.slot))
                return Met(partner, reply.paired.transcript, None)
            slot.post(reply.send)
    raise TimedOut(
        "nobody has typed the code yet",
        hint=f"go on waiting: counterseal partner invite --again {invitation.slot}",
    )


def accept(
    code: Code,
    rendezvous: Rendezvous,
    *,
    us: Identity,
    book: PartnerBook,
    name: str | None = None,
    wait: float,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Met:
    """Answer an invitation. Raises TrustError for a wrong code, TimedOut if nobody waits there."""
    accepter = Accepter(code, us=us, at=now())
    deadline = clock() + wait
    slot = _Steady(rendezvous, until=deadline, clock=clock, sleep=sleep)
    slot.post(accepter.hello)
    while (left := deadline - clock()) > 0:
        for message in slot.messages(wait=min(left, POLL_SECONDS)):
            at = now()
            try:
                result = accepter.receive(message, at=at)
            except Aborted as error:
                if error.check == "session":  # what an earlier pairing left in this slot
                    continue
                raise
            if isinstance(result, bytes):
                slot.post(result)
                continue
            partner = _pin(result, us, book, name, at)
            return Met(partner, result.transcript, _pin_relay(result.contact, book, at))
    raise TimedOut(
        "the inviter does not answer",
        hint="is `counterseal partner invite` still waiting there, over the same address?",
    )


def _pin(
    paired: Paired, us: Identity, book: PartnerBook, name: str | None, at: datetime
) -> Partner:
    """Pin them, or note that they are pinned already: the code has compared the key id."""
    history = paired.history
    known = book.by_identity(history.identity)
    if known is not None:
        book.refresh(known.name, history.document)
        partner = book.get(known.name)
    else:
        chosen = name or history.name
        check_name(chosen)
        partner = Partner.pin(history.document, key_id=history.newest.key_id, name=chosen, at=at)
        book.add(partner)
    record = _Record(
        kind="pairing",
        format=1,
        identity=history.identity,
        transcript=paired.transcript,
        at=canonical.timestamp(at),
    )
    us.store.put(_PAIRED, f"{us.history.identity}/{history.identity}", canonical.encode(record))
    return partner


def _pin_relay(contact: bytes | None, book: PartnerBook, at: datetime) -> Partner | None:
    if contact is None:
        return None
    what = canonical.decode(contact, Contact, limit=limits.PAIRING_CONTACT_BYTES, what="contact")
    if what.card is None or what.relay is None:
        return None
    history = History.verify(what.card)
    known = book.by_identity(history.identity)
    if known is not None:
        return known
    if any(partner.name == what.relay for partner in book.list()):
        return None  # somebody else has that name here: then they must be pinned by hand
    relay = Partner.pin(what.card, key_id=history.newest.key_id, name=what.relay, at=at)
    book.add(relay)
    return relay


def _count(us: Identity, before: Invitation, after: Invitation) -> None:
    with us.store.exclusive():
        if open_invitation(us, before.slot) != before:
            raise TrustError(
                "another command answers with this code", hint="one of them must make a new code"
            )
        _save(us, after)


def _save(us: Identity, invitation: Invitation) -> None:
    protected = us.protect(invitation.encode(), label=_INVITATION)
    us.store.put(_INVITATION, _key(us, invitation.slot), protected)


def _key(us: Identity, slot: int) -> str:
    return f"{us.history.identity}/{slot}"
