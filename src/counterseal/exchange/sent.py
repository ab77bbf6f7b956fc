"""What a sender remembers: versions given out, prekeys spent, content keys kept for later.

The content key is kept in the *store*, protected by the key ring, and not in the package:
a stanza for the sender would let whoever steals the sender's long-term key open everything
that was ever recorded on the wire. `forget` deletes it; then no recipient can be added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from counterseal.errors import CountersealError, RolledBack, TrustError
from counterseal.exchange.keys import ContentKey
from counterseal.trust.prekeys import prekey_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from counterseal.exchange.plan import Sealed
    from counterseal.trust.card import AgreementPublic
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner
    from counterseal.trust.prekeys import PrekeyBundle

__all__ = ["SentBook"]

_VERSION: Final = "sent-version"
_SPENT: Final = "spent-prekey"
_KEY: Final = "sent-key"


class SentBook:
    """The sender's side of one identity's store."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._store = identity.store

    def next_version(self, model: str) -> int:
        return self._last_version(model) + 1

    def prekey_for(self, partner: Partner, *, at: datetime) -> int | None:
        """Position of the first unspent prekey in the partner's bundle; None if there is none."""
        bundle = _bundle(partner, at=at)
        if bundle is None:
            return None
        for index, key in enumerate(bundle.keys):
            if self._store.get(_SPENT, prekey_id(key)) is None:
                return index
        return None

    def last_resort_for(self, partner: Partner, *, at: datetime) -> AgreementPublic | None:
        """The partner's last-resort prekey, while it is in time. It is never marked as spent."""
        bundle = _bundle(partner, at=at)
        if bundle is None or bundle.last_resort is None or at > bundle.last_resort.expires:
            return None
        return bundle.last_resort.key

    def commit(self, sealed: Sealed, *, prekeys: Iterable[str], keep_key: bool) -> None:
        """Remember a sealing just before it becomes visible: all of it or nothing.

        Raises if another process took the version or a prekey in the meantime.
        """
        document = sealed.manifest.document
        with self._store.exclusive():
            if document.version <= self._last_version(document.model):
                raise RolledBack(
                    f'version {document.version} of "{document.model}" was given out before',
                    hint="leave out --model-version to take the next one",
                )
            key = f"{self._identity.history.identity}/{document.model}"
            self._store.put(_VERSION, key, str(document.version).encode())
            self._spend(prekeys)
            if keep_key:
                self.keep(sealed.content_key)

    def spend(self, prekeys: Iterable[str]) -> None:
        with self._store.exclusive():
            self._spend(prekeys)

    def keep(self, key: ContentKey) -> None:
        protected = self._identity.protect(key.secret(), label=_KEY)
        self._store.put(_KEY, key.package, protected)

    def content_key(self, package: str) -> ContentKey:
        protected = self._store.get(_KEY, package)
        if protected is None:
            raise TrustError(
                "the key of this package is not kept here",
                hint="seal the model again for all recipients; only its sender can add one, and "
                "not after --forget-key",
            )
        return ContentKey(self._identity.unprotect(protected, label=_KEY), package)

    def forget(self, package: str) -> bool:
        return self._store.delete(_KEY, package)

    def _spend(self, prekeys: Iterable[str]) -> None:
        for prekey in prekeys:
            if self._store.get(_SPENT, prekey) is not None:
                raise CountersealError(
                    "another command used the same one-time prekey", hint="try again"
                )
            self._store.put(_SPENT, prekey, b"1")

    def _last_version(self, model: str) -> int:
        data = self._store.get(_VERSION, f"{self._identity.history.identity}/{model}")
        return 0 if data is None else int(data)


def _bundle(partner: Partner, *, at: datetime) -> PrekeyBundle | None:
    bundle = partner.prekeys
    if bundle is None or at > bundle.expires:
        return None
    if bundle.card != partner.history.newest.key_id:
        return None  # made under keys that were replaced since
    return bundle
