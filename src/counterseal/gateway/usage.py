"""What was used under a charter, for each side to see and, from the ledger, to count again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from counterseal.ledger import entry as entries
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.note import split
from counterseal.ledger.reader import TileReader
from counterseal.ledger.tiles import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from counterseal.gateway.served import Served
    from counterseal.gateway.sessions import SessionRecord

__all__ = ["is_open", "text_of", "usage_facts"]

RECENT: Final = 512  # published entries in which calls and refusals are counted


def usage_facts(
    served: Served, sessions: Sequence[SessionRecord], *, at: datetime
) -> dict[str, Any]:
    charter, rate = served.charter, served.rate
    recent = _recent(served)
    refused = [one for one in recent if one.event == "refused"]
    times = Counter(one.reason or "" for one in refused)
    last = {one.reason or "": one.at for one in refused}
    return {
        "charter": charter.id,
        "version": charter.version,
        "title": charter.title,
        "partner": charter.partner.name,
        "state": served.chain.standing.at(at),
        "ends": text_of(charter.ends),
        "rung": served.rung,
        "risk": served.standing.holds,
        "quotas": [
            {
                "unit": one.unit,
                "period": one.period,
                "used": one.used,
                "count": one.count,
                "resets_at": None if one.resets_at is None else text_of(one.resets_at),
            }
            for one in served.quotas.usage(at)
        ],
        "rate": None
        if rate is None
        else {"count": rate.count, "seconds": rate.seconds, "burst": rate.burst},
        "entries": served.ledger.size,
        "recent": len(recent),
        "calls": sum(one.event == "call" for one in recent),
        "refusals": [
            {"policy": policy, "times": count, "last": text_of(last[policy])}
            for policy, count in times.most_common()
        ],
        "sessions": sum(is_open(one, at) for one in sessions),
    }


def is_open(record: SessionRecord, at: datetime) -> bool:
    return record.ended is None and record.until > at


def text_of(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _recent(served: Served) -> list[entries.Entry]:
    """The last published entries."""
    text, _ = split(served.ledger.read(CHECKPOINT))
    reader = TileReader(served.ledger.read, Checkpoint.parse(text))
    start = max(0, reader.size - RECENT)
    found = []
    if start < reader.size:
        for _, some in reader.bundles(start, reader.size):
            found += [entries.decode(data) for data in some]
    return found
