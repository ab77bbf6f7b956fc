"""Where detectors look at what was answered: beside the requests, never in their way (SPEC 18.7).

One thread of the node looks at the rows of all its workers, in the order in which they come:
an attack that is spread over workers is one stream again. What it finds moves the charter on
its ladder: the standing is kept, an incident stands in the ledger, the epoch changes, and the
next request of any worker meets it.

If rows come faster than it can look, the surplus is dropped and counted: rate and quota limit
what a partner can hide so.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from counterseal.errors import CountersealError
from counterseal.gateway.sentinel import Probe, Sentinel
from counterseal.gateway.served import read_standing, write_standing
from counterseal.gateway.tensors import numpy
from counterseal.ledger.entry import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from counterseal.gateway.ladder import Standing
    from counterseal.gateway.reference import Reference
    from counterseal.gateway.registry import Offer
    from counterseal.gateway.served import Served
    from counterseal.gateway.shared import Shared
    from counterseal.gateway.vault import Vault

__all__ = ["ThreadObserver"]

WAITING: Final = 4096
PAUSE_SECONDS: Final = 0.05
_KEEP_EVERY: Final = 256  # observations after which the state of a detector is written down
_CELL: Final = "sentinel/"


class ThreadObserver:
    """Looks in a thread of this process."""

    def __init__(
        self,
        vault: Vault,
        shared: Shared,
        *,
        us: str,
        announce: Callable[[], None],
        references: Mapping[str, Reference],
        report: Callable[[BaseException], None],
    ) -> None:
        self._vault, self._shared, self._us = vault, shared, us
        self._references = references
        self._announce, self._report = announce, report
        self._sentinels: dict[tuple[str, str], Sentinel] = {}
        self._unkept: dict[tuple[str, str], int] = {}
        self._standings: dict[str, Standing] = {}
        self._probes: dict[str, Probe] = {}
        self._epoch = -1
        self._waiting: queue.Queue[tuple[Served, str, Any]] = queue.Queue(WAITING)
        self._ended = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def observe(self, served: Served, offer: Offer, rows: Any) -> None:
        self.put(served, offer.model, rows)

    def put(self, served: Served, model: str, rows: Any) -> None:
        try:
            self._waiting.put_nowait((served, model, rows))
        except queue.Full:
            self.dropped += 1

    def probe(self, served: Served) -> None:
        """A malformed request: many of them are somebody who looks for a way in."""
        self.put(served, "", None)

    def settle(self) -> None:
        """Return when everything so far was looked at."""
        self._waiting.join()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for charter, model in self._sentinels:
            self._keep(charter, model)

    def _run(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS) or not self._waiting.empty():
            self._look_at_all()

    def _look_at_all(self) -> None:
        """What came since the last time, the rows for one model together: that is much cheaper,
        and an attack is no shorter for it."""
        rows: dict[tuple[str, str, Any], tuple[Served, list[Any]]] = {}
        count = 0
        while count < WAITING and not self._waiting.empty():
            served, model, some = self._waiting.get_nowait()
            count += 1
            # Rows of another shape fail alone: they must not hide those that came with them.
            shape = None if some is None else some.shape[1:]
            place = rows.setdefault((served.charter.id, model, shape), (served, []))
            place[1].append(some)
        for (_, model, _), (served, parts) in rows.items():
            try:
                self._look(served, model, parts)
            except Exception as error:  # noqa: BLE001 - one bad row must not end the watch
                self._report(error)
        for _ in range(count):
            self._waiting.task_done()

    def _look(self, served: Served, model: str, parts: list[Any]) -> None:
        charter = served.charter.id
        probe = self._probes.setdefault(charter, Probe())
        now = time.monotonic()
        if model:
            risk = max(probe.risk(at=now), self._look_at(served, model, parts))
        else:
            risk = max([probe.note(at=now) for _ in parts])
        before = self._standing(charter)
        after, steps = before.after(served.charter.monitoring, risk)
        if not steps:
            return
        write_standing(self._vault, charter, after)
        self._announce()
        for step in steps:
            self._write_down(served, step.do, step.risk, lifted=step.lifted)

    def _look_at(self, served: Served, model: str, parts: list[Any]) -> int:
        key = served.charter.id, model
        sentinel = self._sentinels.get(key)
        if sentinel is None:
            sentinel = self._sentinels[key] = self._begin(served, model)
        rows = parts[0] if len(parts) == 1 else numpy().concatenate(parts)
        seen = sentinel.observe(rows)
        self._unkept[key] = self._unkept.get(key, 0) + len(rows)
        if self._unkept[key] >= _KEEP_EVERY:
            self._keep(*key)
        # Of all models of the charter: a quiet one must not lift what another has raised.
        others = [one.risk for (other, _), one in self._sentinels.items() if other == key[0]]
        return max(seen.risk, *others)

    def _standing(self, charter: str) -> Standing:
        if self._epoch != self._shared.epoch:  # somebody may have moved it
            self._epoch = self._shared.epoch
            self._standings.clear()
        if charter not in self._standings:
            self._standings[charter] = read_standing(self._vault, charter)
        return self._standings[charter]

    def _begin(self, served: Served, model: str) -> Sentinel:
        """Go on from what was kept: a restart resets no risk."""
        reference = self._references[model]
        detectors = served.charter.monitoring.detectors
        kept = self._vault.get(served.charter.id, f"{_CELL}{model}")
        if kept is None:
            return Sentinel(reference, detectors)
        return Sentinel.decode(kept, reference=reference, detectors=detectors)

    def _write_down(self, served: Served, do: str, risk: int, *, lifted: bool) -> None:
        try:
            served.ledger.note(
                Record(
                    event="incident",
                    actor=self._us,
                    partner=served.charter.partner.identity,
                    charter=served.ref,
                    action=f"{do}-lifted" if lifted else do,
                    risk=risk,
                    reason="monitoring.ladder",
                )
            )
        except CountersealError as error:
            self._report(error)

    def _keep(self, charter: str, model: str) -> None:
        data = self._sentinels[charter, model].encode()
        self._unkept[charter, model] = 0
        self._vault.change(charter, f"{_CELL}{model}", lambda _: (data, None))
