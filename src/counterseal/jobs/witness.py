"""Verify a partner's ledger against what we did there ourselves, and cosign what we saw.

What is kept in the home, for each charter: the witness's state (the last checkpoint that we
believed, and calls that are not in it yet), our calls since, and which of our sessions were
handed to other programs: their calls are counted, for nobody here knows what they sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from counterseal.errors import PeerMisbehaved, TrustError
from counterseal.jobs.session import CallBook
from counterseal.ledger import cosign
from counterseal.ledger.keys import WitnessSigner
from counterseal.ledger.reader import fetch_bounded
from counterseal.ledger.tiles import CHECKPOINT, KEY
from counterseal.ledger.witness import PATIENCE, Witness

if TYPE_CHECKING:
    from collections.abc import Iterable

    from counterseal.gateway.client.calling import Session
    from counterseal.ledger.keys import Seen
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity
    from counterseal.trust.store import Store

__all__ = ["Verified", "hand_out", "verify"]

_STATE: Final = "witness"
_KEYS: Final = "witness-keys"
_OTHERS: Final = "session-handed-out"
_TURNS: Final = 5
_LABEL: Final = "witness keys"


@dataclass(frozen=True, slots=True)
class Verified:
    """`settled`: calls of ours that were found, each once and unaltered; `waiting`: not yet in a
    checkpoint; `others`: calls of other programs within sessions that we handed to them."""

    origin: str
    entries: int
    root: str
    at: datetime
    settled: int
    waiting: int
    others: int
    cosigned: bool


def hand_out(store: Store, us: str, charter: str, session: str) -> None:
    """Remember that other programs call within this session. `session`: as ledgers name it."""
    store.put(_OTHERS, f"{us}/{charter}/{session}", b"")


def verify(session: Session, *, by: Identity, owner: History, patience: int = PATIENCE) -> Verified:
    """Look at the newest checkpoint of the charter's ledger. Nothing is kept unless all is well.

    Raises LedgerBroken for a split view, a missing, altered or foreign entry; BadSignature for a
    forged checkpoint.
    """
    charter = session.opened.charter
    if charter is None:
        raise TrustError("the owner's own session has no ledger to verify")
    us, store = by.history.identity, by.store
    place = f"{us}/{charter}"
    statement = fetch_bounded(session.fetch, KEY)
    kept = store.get(_STATE, place)
    if kept is None:
        witness = Witness.begin(statement, owner=owner, us=us)
    else:
        witness = Witness.restore(kept)
        witness.restated(statement, owner=owner)
    book = CallBook(store, us, charter)
    calls = book.all()
    for call in calls:
        witness = witness.expect(call)
    at = datetime.now(UTC)
    signer = _signer(by, us)
    settled = others = 0
    cosigned = False
    for turn in range(_TURNS):
        if cosigned:
            break
        sight = witness.update(
            session.fetch,
            by=signer,
            time=int(at.timestamp()),
            patience=patience,
            others=_others(store, place),
        )
        witness, seen = sight.witness, sight.seen
        settled += len(sight.settled)
        others += sight.others
        store.put(_STATE, place, witness.encode())
        for call in calls if turn == 0 else ():  # from here on the state has them
            book.settle(call)
        lines = cosign.body(cosign.state(signer.keys, by=by, at=at), sight.cosignature)
        cosigned = _hand_in(session, charter, lines, seen)
    return Verified(
        origin=witness.keys.origin,
        entries=seen.checkpoint.size,
        root=seen.checkpoint.root.hex(),
        at=datetime.fromtimestamp(seen.time, UTC),
        settled=settled,
        waiting=len(witness.calls),
        others=others,
        cosigned=cosigned,
    )


def _hand_in(session: Session, charter: str, lines: bytes, seen: Seen) -> bool:
    """False if there is a newer checkpoint by now: where much is called, there often is."""
    try:
        session.send("POST", f"/counterseal/v1/ledgers/{charter}/cosignature", lines)
    except PeerMisbehaved:
        if fetch_bounded(session.fetch, CHECKPOINT) == seen.note:
            raise
        return False
    return True


def _others(store: Store, place: str) -> frozenset[str]:
    keys: Iterable[str] = (key for key, _ in store.items(_OTHERS))
    return frozenset(key.rpartition("/")[2] for key in keys if key.startswith(f"{place}/"))


def _signer(by: Identity, us: str) -> WitnessSigner:
    """Our witness's keys; made once."""
    name = cosign.name_of(us)
    protected = by.store.get(_KEYS, us)
    if protected is not None:
        return WitnessSigner.parse(name, by.unprotect(protected, label=_LABEL))
    signer = WitnessSigner.generate(name)
    by.store.put(_KEYS, us, by.protect(signer.encode(), label=_LABEL))
    return signer
