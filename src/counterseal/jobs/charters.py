"""Charters as we hold them: offered, signed, moved on; never replaced by older ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from counterseal.charter import signing
from counterseal.charter.chain import Chain, ChainDocument
from counterseal.errors import CharterDenied, TrustError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from counterseal.charter.document import Charter
    from counterseal.charter.states import Action
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import PartnerBook
    from counterseal.trust.store import Store

__all__ = ["CharterBook", "parties_of"]

_KIND: Final = "charter"


def parties_of(us: History, book: PartnerBook) -> dict[str, History]:
    """Whose signatures can count: ours, and those of pinned partners."""
    found = {partner.identity: partner.history for partner in book.list()}
    return found | {us.identity: us}


class CharterBook:
    """All charters of one identity. Reading one folds and verifies it anew."""

    def __init__(
        self,
        us: History,
        book: PartnerBook,
        *,
        store: Store,
        narrower: Callable[[Charter, Charter], bool],
    ) -> None:
        """`narrower(new, old)` proves that an amendment takes nothing but permissions away."""
        self._us, self._book, self._store = us, book, store
        self._narrower = narrower

    def list(self) -> list[Chain]:
        """In the order of their ids."""
        prefix = f"{self._us.identity}/"
        found = [data for key, data in self._store.items(_KIND) if key.startswith(prefix)]
        return sorted(map(self.read, found), key=lambda chain: chain.charter.id)

    def find(self, name: str) -> Chain:
        """By the beginning of its id, by its title, or by the partner's or the asset's name."""
        matching = [chain for chain in self.list() if _is_called(chain, name, self._us.identity)]
        if len(matching) == 1:
            return matching[0]
        if not matching:
            raise TrustError(f'no charter is called "{name}"', hint="counterseal charter list")
        ids = ", ".join(chain.charter.id[:8] for chain in matching)
        raise TrustError(f'several charters are called "{name}": {ids}', hint="use the id")

    def get(self, identifier: str) -> Chain | None:
        data = self._store.get(_KIND, f"{self._us.identity}/{identifier}")
        return None if data is None else self.read(data)

    def read(self, data: bytes) -> Chain:
        """Verify a chain that somebody gave us; nothing is kept."""
        document = ChainDocument.parse(data)
        return Chain.verify(document, parties=self._parties(), narrower=self._narrower)

    def take(self, data: bytes) -> Chain:
        """Verify and keep it, if it continues what we hold."""
        chain = self.read(data)
        signing.side_of(chain.charter, self._us.identity)
        return self._keep(chain)

    def offer(self, charter: Charter, *, by: Identity, at: datetime) -> Chain:
        """Sign a new charter, a counter-offer, or the next version of one in force."""
        held = self.get(charter.id)
        parties = self._parties()
        if held is None:
            return self._keep(Chain.begin(charter, by=by, parties=parties, at=at))
        envelope = signing.sign(charter, by=by, at=at)
        state = held.standing.at(at)
        if state in {"active", "suspended"}:
            signing.check_continues(charter, held.charter)
            us = signing.side_of(charter, by.history.identity)
            alone = us == "owner" and self._narrower(charter, held.charter)
            moved = held.moved(
                "amend", by=by, parties=parties, at=at, version=envelope, narrower=alone
            )
            return self._keep(moved)
        action: Action = "counter" if state == "offered" else "offer"
        return self._keep(held.moved(action, by=by, parties=parties, at=at, version=envelope))

    def countersign(self, chain: Chain, *, by: Identity, at: datetime) -> Chain:
        """Sign what the other side has signed: an offer, or a step that needs both."""
        parties = self._parties()
        if chain.document.pending is not None:
            return self._keep(chain.cosigned(by=by, parties=parties, at=at))
        state = chain.standing.at(at)
        if state not in {"offered", "countered"}:
            raise CharterDenied(
                f"a charter that is {state} waits for no signature",
                hint="counterseal charter show says where it stands",
            )
        return self._keep(chain.countersigned(by=by, parties=parties, at=at))

    def move(
        self, chain: Chain, action: Action, *, by: Identity, at: datetime, reason: str | None
    ) -> Chain:
        moved = chain.moved(action, by=by, parties=self._parties(), at=at, reason=reason)
        return self._keep(moved)

    def _parties(self) -> Mapping[str, History]:
        return parties_of(self._us, self._book)

    def _keep(self, chain: Chain) -> Chain:
        with self._store.exclusive():
            held = self.get(chain.charter.id)
            kept = chain if held is None else held.newer(chain)
            place = f"{self._us.identity}/{chain.charter.id}"
            self._store.put(_KIND, place, kept.document.encode())
        return kept


def _is_called(chain: Chain, name: str, us: str) -> bool:
    charter = chain.charter
    other = charter.partner if charter.owner.identity == us else charter.owner
    return (
        (len(name) >= 4 and charter.id.startswith(name))
        or name in {charter.title, other.name}
        or any(asset.name == name for asset in charter.assets)
    )
