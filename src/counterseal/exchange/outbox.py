"""What a sender remembers of shipments: a letter to go on with, and what was confirmed.

A letter that was written stays until it is delivered. A second attempt uses the same letter
and the same encrypted front, so that a receiver who has half of it needs only the other half.
A shipment is noted before it leaves: its receipt may be here before we know that it arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError, TamperError
from counterseal.exchange.letter import LIFETIME, LetterId
from counterseal.exchange.shipment import FileName, Hex16, Notice, Outgoing
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, PrivateMessage, Timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.exchange.letter import Letter
    from counterseal.exchange.receipt import Receipt
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["Outbox", "Posted"]

_DRAFT: Final = "outbox"
_POSTED: Final = "shipment-sent"
_MAX_FRONT: Final = limits.MIB  # a front for hundreds of recipients is written anew instead
_LIMIT: Final = 2 * limits.LETTER_BYTES + 2 * _MAX_FRONT


class _Draft(PrivateMessage, frozen=True):
    """`cards`: ours that signed it, and theirs that it is sealed to. `until`: half its time."""

    id: LetterId
    cards: tuple[Hex32, Hex32]
    until: Timestamp
    letter: bytes
    notice: bytes
    front: bytes
    plain_front: Hex32


class Posted(Message, frozen=True):
    """One shipment. `sending` until the transport has all of it."""

    letter: LetterId
    partner: Hex32
    file: FileName
    package: Hex16
    notice: Hex32
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    at: Timestamp
    confirmed: Timestamp | None
    state: Literal["sending", "posted", "confirmed"]


class Outbox:
    """One identity's shipments, in its store."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._store = identity.store
        self._owner = identity.history.identity

    def keep(
        self, outgoing: Outgoing, *, letter: Letter, data: bytes, to: History, at: datetime
    ) -> None:
        """Keep a letter until `posted`. Forgets those that nobody came back for."""
        self._delete_ended(at)
        if len(outgoing.sealed_front) > _MAX_FRONT:
            return
        draft = _Draft(
            id=letter.id,
            cards=(letter.card, to.current(at=at).key_id),
            until=canonical.timestamp(letter.created + (letter.expires - letter.created) / 2),
            letter=data,
            notice=canonical.encode(outgoing.notice),
            front=outgoing.sealed_front,
            plain_front=_front_digest(outgoing),
        )
        protected = self._identity.protect(canonical.encode(draft), label=_DRAFT)
        self._store.put(_DRAFT, self._draft_key(to.identity, outgoing.notice.package), protected)

    def resume(
        self, fresh: Outgoing, *, to: History, at: datetime
    ) -> tuple[str, bytes, Outgoing] | None:
        """The unfinished letter about the same bytes to the same partner, if there is one.

        Not one under a card that was replaced since: its keys may be gone, or in a thief's
        hands. Nor one whose time is half over: the receiver needs some of it too.
        """
        protected = self._store.get(_DRAFT, self._draft_key(to.identity, fresh.notice.package))
        draft = None if protected is None else self._draft(protected)
        if draft is None:
            return None
        notice = Notice.parse(draft.notice)
        same = (
            notice.blocks == fresh.notice.blocks
            and draft.plain_front == _front_digest(fresh)
            and draft.cards == (self._identity.current(at=at).key_id, to.current(at=at).key_id)
            and at < draft.until
        )
        if not same:
            return None
        return draft.id, draft.letter, fresh.with_front(notice, draft.front)

    def sending(self, posted: Posted) -> None:
        """It is about to leave."""
        with self._store.exclusive():
            if self.get(posted.letter) is None:
                self._put(posted)

    def posted(self, letter: str, *, at: datetime) -> None:
        """The transport has all of it. The receipt may have been quicker."""
        with self._store.exclusive():
            posted = self.get(letter)
            if posted is None:
                raise RuntimeError("a letter that was never noted")
            self._finish(posted)
            if posted.state == "sending":
                now = canonical.timestamp(at)
                self._put(msgspec.structs.replace(posted, state="posted", at=now))

    def confirm(self, receipt: Receipt, *, partner: str) -> Posted | None:
        """Note a receipt; None if it is for nothing that we sent to this partner.

        The first one counts: after a crash its writer may have sent another.
        """
        with self._store.exclusive():
            posted = self.get(receipt.letter)
            if posted is None or (posted.partner, posted.notice) != (partner, receipt.notice):
                return None
            if posted.state == "confirmed":
                return posted
            self._finish(posted)
            confirmed = msgspec.structs.replace(posted, confirmed=receipt.at, state="confirmed")
            self._put(confirmed)
        return confirmed

    def get(self, letter: str) -> Posted | None:
        data = self._store.get(_POSTED, f"{self._owner}/{letter}")
        return None if data is None else self._read(data)

    def list(self) -> list[Posted]:
        """All shipments, oldest first."""
        mine = [
            self._read(data)
            for key, data in self._store.items(_POSTED)
            if key.startswith(f"{self._owner}/")
        ]
        return sorted(mine, key=lambda posted: posted.at)

    def _draft(self, protected: bytes) -> _Draft | None:
        try:
            secret = self._identity.unprotect(protected, label=_DRAFT)
            return canonical.decode(secret, _Draft, limit=_LIMIT, what="draft of a letter")
        except (TamperError, FormatError):
            return None  # kept under keys that a recovery replaced, or by another version

    def _finish(self, posted: Posted) -> None:
        self._store.delete(_DRAFT, self._draft_key(posted.partner, posted.package))

    def _delete_ended(self, at: datetime) -> None:
        """Drafts, and notes of what never left; what was posted is history, and stays."""
        for key, protected in self._store.items(_DRAFT):
            if key.startswith(f"{self._owner}/"):
                draft = self._draft(protected)
                if draft is None or draft.until < at:
                    self._store.delete(_DRAFT, key)
        for one in self.list():
            if one.state == "sending" and one.at + LIFETIME < at:
                self._store.delete(_POSTED, f"{self._owner}/{one.letter}")

    def _put(self, posted: Posted) -> None:
        self._store.put(_POSTED, f"{self._owner}/{posted.letter}", canonical.encode(posted))

    @staticmethod
    def _read(data: bytes) -> Posted:
        return canonical.decode(data, Posted, limit=64 * limits.KIB, what="record of a shipment")

    def _draft_key(self, recipient: str, package: str) -> str:
        return f"{self._owner}/{recipient}/{package}"


def _front_digest(outgoing: Outgoing) -> str:
    return sha256(bind("plain front", outgoing.plain_front)).hex()
