"""A partner: them. Pinned once by comparing a key id, refreshed forwards ever after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from counterseal.errors import FormatError, RolledBack, UnknownPartner
from counterseal.trust import keyid, prekeys
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.identity import check_name
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message, Name, Timestamp
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.trust.prekeys import PrekeyBundle
    from counterseal.trust.store import Store

__all__ = ["Partner", "PartnerBook"]

_KIND: Final = "partner"


@dataclass(frozen=True, slots=True)
class Partner:
    """A pinned history under the name we call it by, with the prekeys it made for us."""

    name: str
    history: History
    pinned: datetime
    prekeys: PrekeyBundle | None = None
    prekeys_envelope: Envelope | None = None

    @classmethod
    def pin(
        cls,
        card: CardDocument | Path | str,
        *,
        key_id: str,
        name: str | None = None,
        at: datetime | None = None,
    ) -> Partner:
        """Trust a card whose key id was compared over a channel an attacker does not control.

        `key_id` is what the partner read aloud: words, digits or hex. Raises TrustError if it
        is another, RevokedKey or ExpiredKey if the card is not in force.
        """
        at = at or datetime.now(UTC)
        document = card if isinstance(card, CardDocument) else CardDocument.load(card)
        history = History.verify(document)
        keyid.matches(history.newest.key_id, key_id)
        history.current(at=at)
        name = name or history.name
        check_name(name)
        return cls(name, history, canonical.timestamp(at))

    @property
    def key_id(self) -> str:
        return self.history.newest.key_id

    @property
    def identity(self) -> str:
        return self.history.identity

    def refreshed(self, document: CardDocument) -> Partner:
        """With a newer history; raises RolledBack unless it continues the pinned one."""
        return replace(self, history=History.verify(document, pinned=self.history))

    def with_prekeys(self, envelope: Envelope, *, us: History, at: datetime) -> Partner:
        """With a prekey bundle that they made for us."""
        bundle = prekeys.verify(envelope, of=self.history, to=us.identity, at=at)
        if self.prekeys is not None and bundle.created < self.prekeys.created:
            raise RolledBack("a newer prekey bundle of this partner is here already")
        return replace(self, prekeys=bundle, prekeys_envelope=envelope)


class _Record(Message, frozen=True):
    kind: Literal["partner"]
    format: Literal[1]
    name: Name
    document: CardDocument
    pinned: Timestamp
    prekeys: Envelope | None


class PartnerBook:
    """The partners pinned in a store. `refresh` only ever moves forwards."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, partner: Partner) -> None:
        with self._store.exclusive():
            existing = self._store.get(_KIND, partner.name)
            if existing is not None:
                raise FormatError(
                    f'a partner named "{partner.name}" is pinned already',
                    hint=f"counterseal partner refresh {partner.name} CARD, or choose --name",
                )
            for other in self.list():
                if other.identity == partner.identity:
                    raise FormatError(f'this identity is pinned already as "{other.name}"')
            self._put(partner)

    def get(self, name: str) -> Partner:
        data = self._store.get(_KIND, name)
        if data is None:
            raise UnknownPartner(
                f'no key is pinned for "{name}"',
                hint=f"counterseal partner add {name}.card",
            )
        return self._read(data)

    def list(self) -> list[Partner]:
        return [self._read(data) for _, data in self._store.items(_KIND)]

    def by_identity(self, identity: str) -> Partner | None:
        return next((p for p in self.list() if p.identity == identity), None)

    def refresh(self, name: str, document: CardDocument) -> tuple[Partner, Partner]:
        """Take over a newer history; returns before and after."""
        with self._store.exclusive():
            before = self.get(name)
            after = before.refreshed(document)
            self._put(after)
        return before, after

    def add_prekeys(self, name: str, envelope: Envelope, *, us: History, at: datetime) -> Partner:
        with self._store.exclusive():
            partner = self.get(name).with_prekeys(envelope, us=us, at=at)
            self._put(partner)
        return partner

    def remove(self, name: str) -> None:
        with self._store.exclusive():
            self.get(name)
            self._store.delete(_KIND, name)

    def _put(self, partner: Partner) -> None:
        record = _Record(
            kind="partner",
            format=1,
            name=partner.name,
            document=partner.history.document,
            pinned=partner.pinned,
            prekeys=partner.prekeys_envelope,
        )
        self._store.put(_KIND, partner.name, canonical.encode(record))

    def _read(self, data: bytes) -> Partner:
        record = canonical.decode(
            data,
            _Record,
            limit=limits.CARD_DOCUMENT_BYTES + limits.PREKEY_BUNDLE_BYTES,
            what="partner record",
        )
        history = History.verify(record.document)
        bundle = None
        if record.prekeys is not None:
            # Verified when it was added; its time is checked when it is used.
            bundle = canonical.decode(
                record.prekeys.payload,
                prekeys.PrekeyBundle,
                limit=limits.PREKEY_BUNDLE_BYTES,
                what="prekey bundle",
            )
        return Partner(record.name, history, record.pinned, bundle, record.prekeys)
