"""What a sender remembers of shipments: a letter to go on with, and what was confirmed.

A letter that was written stays until it is delivered. A second attempt uses the same letter
and the same encrypted front, so that a receiver who has half of it needs only the other half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import TamperError
from counterseal.exchange.letter import LetterId
from counterseal.exchange.shipment import FileName, Hex16, Notice, Outgoing
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, PrivateMessage, Timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.exchange.receipt import Receipt
    from counterseal.trust.identity import Identity

__all__ = ["Outbox", "Posted"]

_DRAFT: Final = "outbox"
_POSTED: Final = "shipment-sent"
_MAX_FRONT: Final = limits.MIB  # a front for hundreds of recipients is written anew instead
_LIMIT: Final = 2 * limits.LETTER_BYTES + 2 * _MAX_FRONT


class _Draft(PrivateMessage, frozen=True):
    id: LetterId
    expires: Timestamp
    letter: bytes
    notice: bytes
    front: bytes
    plain_front: Hex32


class Posted(Message, frozen=True):
    """One shipment that was handed to a transport."""

    letter: LetterId
    partner: Hex32
    file: FileName
    package: Hex16
    notice: Hex32
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    at: Timestamp
    confirmed: Timestamp | None
    state: Literal["posted", "confirmed"]


class Outbox:
    """One identity's shipments, in its store."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._store = identity.store
        self._owner = identity.history.identity

    def keep(
        self, outgoing: Outgoing, *, id_: str, letter: bytes, expires: datetime, recipient: str
    ) -> None:
        """Keep a letter until `posted`."""
        if len(outgoing.sealed_front) > _MAX_FRONT:
            return
        draft = _Draft(
            id=id_,
            expires=expires,
            letter=letter,
            notice=canonical.encode(outgoing.notice),
            front=outgoing.sealed_front,
            plain_front=_front_digest(outgoing),
        )
        protected = self._identity.protect(canonical.encode(draft), label=_DRAFT)
        self._store.put(_DRAFT, self._draft_key(recipient, outgoing.notice.package), protected)

    def resume(
        self, fresh: Outgoing, *, recipient: str, at: datetime
    ) -> tuple[str, bytes, Outgoing] | None:
        """The unfinished letter about the same bytes to the same partner, if there is one."""
        protected = self._store.get(_DRAFT, self._draft_key(recipient, fresh.notice.package))
        if protected is None:
            return None
        try:
            secret = self._identity.unprotect(protected, label=_DRAFT)
        except TamperError:
            return None  # kept under keys that were replaced by a recovery
        draft = canonical.decode(secret, _Draft, limit=_LIMIT, what="draft of a letter")
        notice = Notice.parse(draft.notice)
        same = (
            notice.blocks == fresh.notice.blocks
            and draft.plain_front == _front_digest(fresh)
            and at < draft.expires
        )
        if not same:
            return None
        return draft.id, draft.letter, fresh.with_front(notice, draft.front)

    def posted(self, posted: Posted) -> None:
        with self._store.exclusive():
            self._store.delete(_DRAFT, self._draft_key(posted.partner, posted.package))
            self._put(posted)

    def confirm(self, receipt: Receipt, *, partner: str) -> Posted | None:
        """Note a receipt; None if it is for nothing that we sent to this partner."""
        with self._store.exclusive():
            posted = self.get(receipt.letter)
            if posted is None or (posted.partner, posted.notice) != (partner, receipt.notice):
                return None
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

    def _put(self, posted: Posted) -> None:
        self._store.put(_POSTED, f"{self._owner}/{posted.letter}", canonical.encode(posted))

    @staticmethod
    def _read(data: bytes) -> Posted:
        return canonical.decode(data, Posted, limit=64 * limits.KIB, what="record of a shipment")

    def _draft_key(self, recipient: str, package: str) -> str:
        return f"{self._owner}/{recipient}/{package}"


def _front_digest(outgoing: Outgoing) -> str:
    return sha256(bind("plain front", outgoing.plain_front)).hex()
