"""What a gateway reads of its home: the charters that it serves, and whose cards are pinned.

Reading verifies signatures, which takes milliseconds; so nothing is read again whose bytes are
the same. Between the nodes of one gateway the charters travel through its state: what one node
takes from the partner the others find there.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from counterseal.charter.chain import Chain, ChainDocument
from counterseal.crypto.digest import sha256
from counterseal.errors import CountersealError, RolledBack
from counterseal.jobs.charters import parties_of
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.partner import PartnerBook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from counterseal.charter.document import Charter
    from counterseal.gateway.vault import Vault
    from counterseal.trust.store import Store

__all__ = ["HomeAgreements"]

_CHARTER: Final = "charter"
_CELL: Final = "chain-file"


class HomeAgreements:
    """See `gateway.desk.Agreements`. Thread-safe."""

    def __init__(
        self,
        us: History,
        store: Store,
        vault: Vault,
        identifiers: Sequence[str],
        *,
        narrower: Callable[[Charter, Charter], bool],
        card: Callable[[], bytes] | None = None,
    ) -> None:
        """`card`: ours as it stands now: revoked or replaced, it is for us as for others."""
        self._card = card
        self._us, self._store, self._vault = us, store.another(), vault
        self._identifiers, self._narrower = identifiers, narrower
        self._guard = threading.Lock()
        self._seen = b""
        self._cards = b""
        self._parties: Mapping[str, History] = {}
        self._chains: dict[str, tuple[bytes, Chain]] = {}

    def changed(self) -> bool:
        with self._guard:
            return self._digest() != self._seen

    def read(self) -> tuple[Mapping[str, Chain | CountersealError], Mapping[str, History]]:
        with self._guard:
            seen = self._digest()
            cards = self._cards_digest()
            if cards != self._cards:
                if self._card is not None:
                    document = CardDocument.parse(self._card())
                    self._us = History.verify(document, pinned=self._us)
                self._parties = parties_of(self._us, PartnerBook(self._store))
                self._cards = cards
                self._chains.clear()  # a card that was revoked signs nothing any more
            found = {one: self._chain_or_why(one) for one in self._identifiers}
            self._seen = seen
            return {key: chain for key, chain in found.items() if chain is not None}, self._parties

    def _chain_or_why(self, identifier: str) -> Chain | CountersealError | None:
        try:
            return self._chain(identifier)
        except CountersealError as error:  # a revoked card ends what it signed, and nothing else
            return error

    def _chain(self, identifier: str) -> Chain | None:
        if self._vault.is_shredded(identifier):
            return None  # of this one: the others go on
        data = self._at_home(identifier)
        held = self._chains.get(identifier)
        if data is not None and held is not None and held[0] == data:
            return held[1]
        if data is None:
            return None
        chain = Chain.verify(
            ChainDocument.parse(data), parties=self._parties, narrower=self._narrower
        )
        self._chains[identifier] = (data, chain)
        return chain

    def _at_home(self, identifier: str) -> bytes | None:
        """The newer one of what the home and the state of all nodes have."""
        place = f"{self._us.identity}/{identifier}"
        ours = self._store.get(_CHARTER, place)
        theirs = self._vault.get(identifier, _CELL)
        if ours == theirs or ours is None:
            return ours
        if theirs is not None:
            mine, other = (
                Chain.verify(
                    ChainDocument.parse(one), parties=self._parties, narrower=self._narrower
                )
                for one in (ours, theirs)
            )
            try:
                mine.newer(other)
            except RolledBack:
                pass  # ours is the newer one
            else:
                self._store.put(_CHARTER, place, theirs)
                return theirs
        self._vault.change(identifier, _CELL, lambda _: (ours, None))
        return ours

    def _digest(self) -> bytes:
        parts = [self._cards_digest()]
        for identifier in self._identifiers:
            home = self._store.get(_CHARTER, f"{self._us.identity}/{identifier}")
            shared = self._vault.get(identifier, _CELL)
            parts += [sha256(home or b""), sha256(shared or b"")]
        return sha256(*parts)

    def _cards_digest(self) -> bytes:
        ours = b"" if self._card is None else self._card()
        return sha256(ours, *(sha256(data) for _, data in self._store.items("partner")))
