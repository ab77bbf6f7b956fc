"""A partner: them. Pinned once by comparing a key id, refreshed forwards ever after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from counterseal.errors import ExpiredKey, FormatError, RolledBack, UnknownPartner
from counterseal.trust import keyid, prekeys
from counterseal.trust.card import CardDocument
from counterseal.trust.directory.known import Known
from counterseal.trust.history import History
from counterseal.trust.identity import check_name
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message, Name, Timestamp
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.trust.directory.bundle import DirectoryBundle
    from counterseal.trust.prekeys import PrekeyBundle
    from counterseal.trust.store import Store

__all__ = ["Partner", "PartnerBook"]

_KIND: Final = "partner"
_DIRECTORY: Final = "directory"


@dataclass(frozen=True, slots=True)
class Partner:
    """A pinned history under the name we call it by, with the prekeys it made for us.

    `fresh_until`: when the last directory of theirs ends; None if they never gave one. `urls`:
    where they said in it that they receive mail.
    """

    name: str
    history: History
    pinned: datetime
    prekeys: PrekeyBundle | None = None
    prekeys_envelope: Envelope | None = None
    fresh_until: datetime | None = None
    urls: tuple[str, ...] = ()

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

    def usable(self, *, at: datetime, overdue: timedelta = timedelta(0)) -> None:
        """Raise ExpiredKey if their directory ended more than `overdue` ago.

        They promised news within that time. It may be a revocation that somebody holds back, so
        silence is not taken for good news. Partners who never gave a directory are not judged.
        """
        if self.fresh_until is not None and at >= self.fresh_until + overdue:
            raise ExpiredKey(
                f'there is no news of "{self.name}": their directory ended on '
                f"{self.fresh_until:%Y-%m-%d %H:%M} UTC",
                hint="counterseal receive brings the newest; if there is none, talk to them",
            )

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
    fresh_until: Timestamp | None
    urls: tuple[str, ...]


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

    def update_directory(
        self, name: str, bundle: DirectoryBundle, *, us: History, at: datetime
    ) -> tuple[Partner, Partner]:
        """Take over a directory that they made for us; returns before and after.

        All of it or nothing: a newer card, prekeys, addresses, and the marks against older ones.
        """
        from counterseal.trust.directory import reader

        with self._store.exclusive():
            before = self.get(name)
            place = f"{before.identity}/{us.identity}"
            stored = self._store.get(_DIRECTORY, place)
            update = reader.update(
                bundle,
                us=us.identity,
                pinned=before.history,
                known=None if stored is None else Known.parse(stored),
                at=at,
            )
            after = replace(before, history=update.history)
            if update.prekeys is not None and not _older(update.prekeys, before.prekeys):
                after = after.with_prekeys(update.prekeys, us=us, at=at)
            if update.known is not None:
                # Several of our identities may share this home: the freshest news counts for all.
                known = [update.known.fresh_until, before.fresh_until or update.known.fresh_until]
                urls = () if update.contact is None else update.contact.urls
                after = replace(after, fresh_until=max(known), urls=urls)
                self._store.put(_DIRECTORY, place, update.known.encode())
            self._put(after)
        return before, after

    def usable(self, name: str, *, at: datetime, overdue: timedelta = timedelta(0)) -> Partner:
        """`get`, and raise ExpiredKey if news of them is overdue."""
        partner = self.get(name)
        partner.usable(at=at, overdue=overdue)
        return partner

    def remove(self, name: str) -> None:
        with self._store.exclusive():
            partner = self.get(name)
            self._store.delete(_KIND, name)
            for place, _ in self._store.items(_DIRECTORY):
                if place.startswith(f"{partner.identity}/"):
                    self._store.delete(_DIRECTORY, place)

    def _put(self, partner: Partner) -> None:
        record = _Record(
            kind="partner",
            format=1,
            name=partner.name,
            document=partner.history.document,
            pinned=partner.pinned,
            prekeys=partner.prekeys_envelope,
            fresh_until=partner.fresh_until,
            urls=partner.urls,
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
        return Partner(
            record.name,
            history,
            record.pinned,
            bundle,
            record.prekeys,
            record.fresh_until,
            record.urls,
        )


def _older(envelope: Envelope, held: PrekeyBundle | None) -> bool:
    """A bundle handed over by other means may be newer than the one in a directory."""
    offered = canonical.decode(
        envelope.payload,
        prekeys.PrekeyBundle,
        limit=limits.PREKEY_BUNDLE_BYTES,
        what="prekey bundle",
    )
    return held is not None and offered.created < held.created
