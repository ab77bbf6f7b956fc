"""How fast a whole ledger is verified: by us and, if it can be built, by Go's own reader."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from counterseal.bench.go_verifier import GoVerifier
from counterseal.errors import CountersealError
from counterseal.jobs.ledger import export, folder, local, open_ledger, verify_ledger
from counterseal.ledger.keys import LogKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from counterseal.ledger.entry import Record
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity

    Turns = list[dict[str, float]]

__all__ = ["verification"]

_AT_ONCE: Final = 1024


def verification(
    place: Path,
    us: Identity,
    home: Home,
    records: Sequence[Record],
    *,
    runs: int,
    missing: list[str],
    say: Callable[[str], None],
) -> dict[str, Turns]:
    """Of an exported ledger with these records; readers take turns."""
    say("writing the ledger that is verified")
    with open_ledger("verified", by=us, home=home) as ledger:
        for start in range(0, len(records), _AT_ONCE):
            ledger.record_all(records[start : start + _AT_ONCE])
    exported = place / "exported"
    with local("verified", home=home, owner=us.name) as fetch:
        export(fetch, exported, owner=us.history)
    key = LogKeys.verify((exported / "key.json").read_bytes(), of=us.history).texts[0]
    found: dict[str, Turns] = {"counterseal": []}
    peer = None
    try:
        say("building the verifier in Go")
        peer = GoVerifier.build(place / "go")
        found["go"] = []
    except CountersealError as error:
        missing.append(f"without the verifier in Go: {error.message}")
    for turn in range(runs):
        say(f"verifying {turn + 1}/{runs}")
        wall, cpu = time.perf_counter(), time.process_time()
        size = verify_ledger(folder(exported), owner=us.history).entries
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        found["counterseal"].append({"entries": size, **took})
        if peer is not None:
            found["go"].append({"entries": size, **peer.verify(exported, key)})
    return found
