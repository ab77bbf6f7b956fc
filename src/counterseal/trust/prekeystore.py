"""The private halves of our prekeys, in the store, until each has opened its one package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.trust.card import AgreementPublic
from counterseal.trust.prekeys import prekey_id
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, PrivateMessage, Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from counterseal.crypto.agreement import Opener
    from counterseal.trust.keystores.keyring import KeyRing
    from counterseal.trust.prekeys import PrekeyBundle
    from counterseal.trust.store import Store

__all__ = ["PrekeyStore"]

_KIND: Final = "prekey"


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
                classical, pq = key.seeds()
                secret = _Stored(
                    suite=key.public.suite,
                    classical=classical,
                    pq=pq,
                    partner=bundle.partner,
                    expires=bundle.expires,
                )
                identifier = prekey_id(AgreementPublic.of(key.public))
                protected = self._ring.protect(canonical.encode(secret), label=_KIND)
                self._store.put(_KIND, self._prefix + identifier, protected)

    def ids(self) -> list[str]:
        return [identifier for identifier, _ in self._items()]

    def opener(self, identifier: str, *, partner: str) -> Opener | None:
        """None if there is no such prekey made for `partner`, or not any more.

        Bundles are no secret: a third party that saw one could otherwise use its prekeys up.
        """
        protected = self._store.get(_KIND, self._prefix + identifier)
        if protected is None:
            return None
        stored = self._read(protected)
        if stored.partner != partner:
            return None
        return AgreementKey(stored.suite, stored.classical, stored.pq)

    def delete(self, identifier: str) -> bool:
        return self._store.delete(_KIND, self._prefix + identifier)

    def delete_expired(self, *, at: datetime) -> int:
        expired = [name for name, stored in self._all() if stored.expires < at]
        return sum(self.delete(name) for name in expired)

    def count(self, *, partner: str) -> int:
        return sum(stored.partner == partner for _, stored in self._all())

    def _all(self) -> Iterator[tuple[str, _Stored]]:
        for identifier, protected in self._items():
            yield identifier, self._read(protected)

    def _items(self) -> Iterator[tuple[str, bytes]]:
        for key, protected in self._store.items(_KIND):
            if key.startswith(self._prefix):
                yield key.removeprefix(self._prefix), protected

    def _read(self, protected: bytes) -> _Stored:
        secret = self._ring.unprotect(protected, label=_KIND)
        return canonical.decode(secret, _Stored, limit=limits.KEYSTORE_BYTES, what="prekey")
