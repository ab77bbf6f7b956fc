"""The root of an operator's ledgers: a ledger `root` that has their checkpoints as entries.

Whoever watches it alone sees that any of them vanished, went back or was begun again, although
they cannot read it. An entry is a `note` with the action `checkpoint`; `reason` is the origin of
the ledger, `rows` its size, `document` the digest of its checkpoint's body.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final, Literal

from counterseal.crypto.digest import sha256
from counterseal.errors import LedgerBroken, RevokedKey, UnknownPartner
from counterseal.jobs import ledger as jobs
from counterseal.ledger import entry as entries
from counterseal.ledger import verify
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.entry import Record
from counterseal.ledger.keys import LogKeys, origin_of
from counterseal.ledger.reader import TileReader, fetch_bounded
from counterseal.ledger.tiles import CHECKPOINT, KEY
from counterseal.ledger.tree import EMPTY_ROOT
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from counterseal.ledger.reader import Fetch
    from counterseal.trust.history import History
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity

__all__ = ["ROOT", "publish_roots", "verify_roots"]

ROOT: Final = "root"
_KIND: Final = "root-written"


class _Written(Message, frozen=True):
    """The digest of the checkpoint of a ledger that the root has last."""

    kind: Literal["root-written"]
    format: Literal[1]
    document: Hex32


def publish_roots(home: Home, by: Identity) -> int:
    """Write the newest checkpoints of all our ledgers into the root, and publish it. How many."""
    if not _new(home, by):
        return 0
    with closing(jobs.open_alone(ROOT, by=by, home=home)) as ledger:
        new = _new(home, by)  # another process may have been quicker
        us = by.history.identity
        ledger.record_all([_record(one, us) for one in new])
        for one in new:
            written = _Written(kind="root-written", format=1, document=_digest(one))
            by.store.put(_KIND, one.origin, canonical.encode(written))
    return len(new)


def verify_roots(home: Home, owner: History) -> int:
    """Return how many ledgers the root vouches for, if each goes on from all that it says.

    Raises LedgerBroken for a ledger that is gone, has shrunk or was rewritten.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    with jobs.local(ROOT, home=home, owner=owner.name) as fetch:
        for entry in _entries(fetch, owner):
            if entry.action == "checkpoint" and None not in {entry.reason, entry.rows}:
                known = found.setdefault(str(entry.reason), [])
                known.append((entry.rows or 0, str(entry.document)))
    prefix = origin_of(owner.identity, "")
    for origin, known in found.items():
        name = origin.removeprefix(prefix)
        try:
            with jobs.local(name, home=home, owner=owner.name) as fetch:
                _check(fetch, owner, origin, known)
        except UnknownPartner:
            raise LedgerBroken(
                f'the ledger "{name}" is gone, but the root has a checkpoint of it',
                hint="bring back its newest copy",
            ) from None
    return len(found)


def _check(fetch: Fetch, owner: History, origin: str, known: list[tuple[int, str]]) -> None:
    keys = LogKeys.verify(fetch_bounded(fetch, KEY), of=owner)
    last = keys.open(fetch_bounded(fetch, CHECKPOINT)).checkpoint
    reader = TileReader(fetch, last)
    for size, digest in known:
        if size > last.size:
            raise LedgerBroken(f"{origin} has {last.size} entries, but the root has {size} of it")
        root = reader.root_of(0, size) if size else EMPTY_ROOT
        if _digest(Checkpoint(origin, size, root)) != digest:
            raise LedgerBroken(f"{origin} is not the ledger that the root has: rewritten")


def _entries(fetch: Fetch, owner: History) -> Iterator[entries.Entry]:
    seen = verify.verify(fetch, LogKeys.verify(fetch_bounded(fetch, KEY), of=owner))
    reader = TileReader(fetch, seen.checkpoint)
    for _, some in reader.bundles(0, reader.size):
        yield from map(entries.decode, some)


def _new(home: Home, by: Identity) -> list[Checkpoint]:
    """The checkpoints that the root does not have."""
    found: list[Checkpoint] = []
    for name in jobs.names(home, by.name):
        if name == ROOT:
            continue
        with jobs.local(name, home=home, owner=by.name) as fetch:
            try:
                keys = LogKeys.verify(fetch_bounded(fetch, KEY), of=by.history)
            except RevokedKey:  # nobody writes it until its keys are stated again
                continue
            made = keys.open(fetch_bounded(fetch, CHECKPOINT)).checkpoint
        data = by.store.get(_KIND, made.origin)
        if data is None or _parse(data).document != _digest(made):
            found.append(made)
    return found


def _parse(data: bytes) -> _Written:
    return canonical.decode(data, _Written, limit=limits.KIB, what="record of a root")


def _record(made: Checkpoint, us: str) -> Record:
    return Record(
        event="note",
        actor=us,
        action="checkpoint",
        reason=made.origin,
        rows=made.size,
        document=_digest(made),
    )


def _digest(made: Checkpoint) -> str:
    return sha256(made.text.encode()).hex()
