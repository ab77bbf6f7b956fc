"""The private halves of our prekeys, in the store, until each has done what it was made for.

A one-time prekey goes with the package that it opened, a last-resort one when its time is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.trust.card import AgreementPublic
from counterseal.trust.prekeys import LAST_RESORT_ARRIVAL, LATEST_ARRIVAL, prekey_id
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, PrivateMessage, Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from counterseal.crypto.agreement import Opener
    from counterseal.trust.keystores.keyring import KeyRing
    from counterseal.trust.prekeys import PrekeyBundle
    from counterseal.trust.store import Store

__all__ = ["PrekeyKind", "PrekeyStore"]

PrekeyKind: TypeAlias = Literal["one-time", "last-resort"]

# What a record is called in the store, and the label that its protection is bound to.
_KINDS: Final[dict[PrekeyKind, str]] = {"one-time": "prekey", "last-resort": "last-resort"}
_ARRIVAL: Final = {"one-time": LATEST_ARRIVAL, "last-resort": LAST_RESORT_ARRIVAL}


class _Stored(PrivateMessage, frozen=True):
    suite: AgreementSuite
    classical: bytes
    pq: bytes
    partner: Hex32
    expires: Timestamp


class PrekeyStore:
    """Private prekeys, encrypted under the key ring's store key. Deleting one is for good."""

    def __init__(self, store: Store, ring: KeyRing, *, owner: str = "") -> None:
        """`owner`: our identity, because several may share a home, each with its own ring."""
        self._store = store
        self._ring = ring
        self._prefix = f"{owner}/"

    def add(self, bundle: PrekeyBundle, keys: Iterable[AgreementKey]) -> None:
        with self._store.exclusive():
            for key in keys:
                self.put(key, partner=bundle.partner, expires=bundle.expires)

    def put(
        self, key: AgreementKey, *, partner: str, expires: datetime, kind: PrekeyKind = "one-time"
    ) -> None:
        """Keep one private half. Several that belong together: inside `store.exclusive()`."""
        classical, pq = key.seeds()
        secret = _Stored(
            suite=key.public.suite, classical=classical, pq=pq, partner=partner, expires=expires
        )
        identifier = prekey_id(AgreementPublic.of(key.public))
        protected = self._ring.protect(canonical.encode(secret), label=_KINDS[kind])
        self._store.put(_KINDS[kind], self._prefix + identifier, protected)

    def ids(self) -> list[str]:
        """Of every prekey that can still open something, one-time ones first."""
        return [identifier for kind in _KINDS for identifier, _ in self._items(kind)]

    def opener(self, identifier: str, *, partner: str) -> Opener | None:
        """None if there is no such prekey made for `partner`, or not any more.

        Bundles are no secret: a third party that saw one could otherwise use its prekeys up.
        """
        stored = self._find(identifier)
        if stored is None or stored.partner != partner:
            return None
        return AgreementKey(stored.suite, stored.classical, stored.pq)

    def kind(self, identifier: str) -> PrekeyKind | None:
        for kind in _KINDS:
            if self._get(kind, identifier) is not None:
                return kind
        return None

    def expires(self, identifier: str) -> datetime | None:
        """Until when senders may use it; None if it is not here any more."""
        stored = self._find(identifier)
        return None if stored is None else stored.expires

    def delete(self, identifier: str) -> bool:
        """Delete a one-time prekey, which is spent. A last-resort one stays until its time."""
        return self._delete("one-time", identifier)

    def delete_expired(self, *, at: datetime) -> int:
        """Delete what no sender may use any more, though a package may still be on its way."""
        return sum(
            self._delete(kind, identifier)
            for kind in _KINDS
            for identifier, stored in self._all(kind)
            if stored.expires < at
        )

    def delete_outlived(self, *, at: datetime, kind: PrekeyKind) -> int:
        """Delete what was for packages that would have arrived by now."""
        return sum(
            self._delete(kind, identifier)
            for identifier, stored in self._all(kind)
            if stored.expires + _ARRIVAL[kind] < at
        )

    def delete_all(self) -> None:
        """For when nobody can read them any more."""
        for kind in _KINDS:
            for identifier, _ in list(self._items(kind)):
                self._delete(kind, identifier)

    def count(self, *, partner: str) -> int:
        """How many one-time prekeys made for `partner` are not used up."""
        return sum(stored.partner == partner for _, stored in self._all("one-time"))

    def _find(self, identifier: str) -> _Stored | None:
        for kind in _KINDS:
            protected = self._get(kind, identifier)
            if protected is not None:
                return self._read(kind, protected)
        return None

    def _get(self, kind: PrekeyKind, identifier: str) -> bytes | None:
        return self._store.get(_KINDS[kind], self._prefix + identifier)

    def _delete(self, kind: PrekeyKind, identifier: str) -> bool:
        return self._store.delete(_KINDS[kind], self._prefix + identifier)

    def _all(self, kind: PrekeyKind) -> Iterator[tuple[str, _Stored]]:
        for identifier, protected in self._items(kind):
            yield identifier, self._read(kind, protected)

    def _items(self, kind: PrekeyKind) -> Iterator[tuple[str, bytes]]:
        for key, protected in self._store.items(_KINDS[kind]):
            if key.startswith(self._prefix):
                yield key.removeprefix(self._prefix), protected

    def _read(self, kind: PrekeyKind, protected: bytes) -> _Stored:
        secret = self._ring.unprotect(protected, label=_KINDS[kind])
        return canonical.decode(secret, _Stored, limit=limits.KEYSTORE_BYTES, what="prekey")
