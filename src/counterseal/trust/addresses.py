"""Where a partner is reached: one address each, remembered so that `--via` is typed once.

An address is a convenience, never a claim: whatever answers there must prove who it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message

if TYPE_CHECKING:
    from counterseal.trust.store import Store

__all__ = ["Address", "AddressBook"]

_KIND: Final = "address"

# Printable ASCII without a space: what a URL or a path in a shell may hold.
Address = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,1024}\Z", max_length=1024)]


class _Record(Message, frozen=True):
    kind: Literal["address"]
    format: Literal[1]
    via: Address


class AddressBook:
    """The addresses in a store, by the name we call the partner."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def set(self, partner: str, via: str) -> None:
        """Raises FormatError for what cannot be an address."""
        data = canonical.encode(_Record(kind="address", format=1, via=via))
        canonical.decode(data, _Record, limit=2 * limits.KIB, what="address")
        self._store.put(_KIND, partner, data)

    def get(self, partner: str) -> str | None:
        data = self._store.get(_KIND, partner)
        if data is None:
            return None
        return canonical.decode(data, _Record, limit=2 * limits.KIB, what="address").via

    def remove(self, partner: str) -> None:
        self._store.delete(_KIND, partner)
