"""A ledger for each charter: every step of it, ours and the partner's, as we came to know it.

The ledger is called as the charter's id. What the partner did while we held no key open is
written down with our next step: how many are written is kept beside, and an entry's id is the
beginning of its step's digest, so that one written twice after a crash is seen to be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from counterseal.jobs.ledger import open_alone
from counterseal.ledger.entry import ID_BYTES, CharterRef, Record
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterseal.charter.chain import Chain, Taken
    from counterseal.ledger.store import Store
    from counterseal.trust.history import History
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity

__all__ = ["write_down"]

_KIND: Final = "charter-written"


class _Written(Message, frozen=True):
    kind: Literal["charter-written"]
    format: Literal[1]
    steps: int


def write_down(
    chain: Chain,
    *,
    by: Identity,
    home: Home,
    parties: Mapping[str, History],
    store: Store | None = None,
) -> int:
    """Write down the steps that are not yet; durable and signed when it returns. How many.

    A gateway that has this ledger open waits meanwhile; another command finds nothing to do.
    `store`: where the ledger is, if not in the home. It is closed.
    """
    place = f"{by.history.identity}/{chain.charter.id}"
    steps = chain.taken(parties=parties)
    if _done(by, place) >= len(steps):
        if store is not None:
            store.close()
        return 0
    with open_alone(chain.charter.id, by=by, home=home, store=store) as ledger:
        done = _done(by, place)
        new = steps[done:]
        if new:
            ledger.record_all([_record(taken) for taken in new])
            written = _Written(kind="charter-written", format=1, steps=done + len(new))
            by.store.put(_KIND, place, canonical.encode(written))
    return len(new)


def _done(by: Identity, place: str) -> int:
    data = by.store.get(_KIND, place)
    if data is None:
        return 0
    return canonical.decode(data, _Written, limit=limits.KIB, what="record of steps").steps


def _record(taken: Taken) -> Record:
    """A step of both has the owner as its actor and the partner as the other side."""
    charter = taken.charter
    names = {"owner": charter.owner.identity, "partner": charter.partner.identity}
    actor, *other = (names[side] for side in sorted(taken.sides))
    return Record(
        event="charter",
        actor=actor,
        partner=other[0] if other else None,
        charter=CharterRef(id=charter.id, version=charter.version),
        action=taken.step.action,
        document=taken.step.digest,
        id=bytes.fromhex(taken.step.digest)[:ID_BYTES],
    )
