"""What one worker knows: who may come, under which charters, with which models (SPEC 18.3).

Everything here was read from the state and the home, and is read again when the epoch has
changed: a command or another worker has revoked, suspended, amended or moved something. Every
request compares the epoch first. A node that cannot learn of changes any more (its lease has
ended) allows nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from counterseal.errors import CharterDenied, CountersealError, TrustError
from counterseal.gateway.outputs import laplace
from counterseal.gateway.refusals import CutOffError, NotServedError
from counterseal.gateway.revocations import Revoked, revocations
from counterseal.gateway.served import Served
from counterseal.gateway.work import Controls
from counterseal.ledger.entry import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from counterseal.charter.chain import Chain
    from counterseal.gateway.clock import SteadyClock
    from counterseal.gateway.metrics import Metrics
    from counterseal.gateway.quota import Quotas
    from counterseal.gateway.refusals import Refusal
    from counterseal.gateway.registry import Offer, Registry
    from counterseal.gateway.sessions import Held, Sessions
    from counterseal.gateway.shared import Shared
    from counterseal.gateway.state import Watch
    from counterseal.gateway.vault import Vault
    from counterseal.gateway.work import Work
    from counterseal.ledger.ledger import Ledger, Receipt
    from counterseal.ledger.log import Done
    from counterseal.trust.history import History

__all__ = ["Agreements", "Desk", "Observer"]

_NOISE: Final = laplace(os.urandom)
_ANEW: Final = -2  # no epoch: everything is to be read again
REFUSALS_A_SECOND: Final = 50  # written down for each charter, worker and second; then counted


class Agreements(Protocol):
    """What the home says: which charters stand how, and whose cards are pinned."""

    def changed(self) -> bool:
        """Whether anything was written since the last `read`. Cheap."""
        ...

    def read(
        self,
    ) -> tuple[Mapping[str, Chain | CountersealError], Mapping[str, History]]:
        """The chains that are served, by id, or why one cannot be; and all pinned histories, by
        identity."""
        ...


class Observer(Protocol):
    """Where detectors look at what was answered; never waits. `dropped`: what it could not take."""

    dropped: int

    def observe(self, served: Served, offer: Offer, rows: Any) -> None: ...

    def probe(self, served: Served) -> None:
        """A malformed request came."""
        ...


@dataclass(slots=True)
class _Quiet:
    """How many refusals were written in this second."""

    second: int = 0
    written: int = 0
    skipped: int = 0


@dataclass(slots=True)
class Desk:
    """Made by `jobs.serve`, for one worker. Belongs to its event loop."""

    us: str
    vault: Vault
    shared: Shared
    watch: Watch
    clock: SteadyClock
    sessions: Sessions
    registry: Registry
    agreements: Agreements
    ledger_of: Callable[[Chain], Ledger]
    quotas_of: Callable[[Chain], Quotas]
    observer: Observer
    metrics: Metrics
    report: Callable[[BaseException], None]
    served: dict[str, Served] = field(default_factory=dict)
    partners: Mapping[str, History] = field(default_factory=dict)
    revoked: Revoked = field(default_factory=lambda: Revoked({}))
    _epoch: int = -1
    _failed: int = -1  # the epoch whose failure was reported
    _quiet: dict[str, _Quiet] = field(default_factory=dict)

    def sync(self) -> None:
        """Learn what has changed. Raises CutOffError if nobody can say whether anything has."""
        if not self.watch.alive(time.monotonic()):
            raise CutOffError(
                "this node is cut off from the state of the gateway",
                hint="try again soon, or another node",
            )
        epoch = self.shared.epoch
        if epoch != self._epoch:
            try:
                self.refresh()
            except CountersealError as error:
                if self._epoch == -1:  # it has not even begun
                    raise
                self._report_once(epoch, error)  # why is not for everybody
                raise CutOffError("the gateway cannot say what is allowed") from error
            self._epoch = epoch  # last: after a failure the next request tries again

    def poll(self) -> None:
        """Once in a while, for changes that nobody announced."""
        self.metrics.dropped = self.observer.dropped
        if self.agreements.changed() or not all(
            one.ledger.alive for one in tuple(self.served.values())
        ):
            self.shared.bump()

    def refresh(self) -> None:
        """Read everything again that is not the same as before.

        A charter that cannot be served any more does not end the others.
        """
        self.sessions.forget()
        self.registry.refresh()
        self.revoked = Revoked.of(revocations(self.vault))
        chains, self.partners = self.agreements.read()
        failed: dict[str, CountersealError] = {}
        for identifier, chain in chains.items():
            try:
                if isinstance(chain, CountersealError):
                    raise chain
                self._take(identifier, chain)
            except CountersealError as error:
                failed[identifier] = error
        for identifier in self.served.keys() - (chains.keys() - failed.keys()):
            self._drop(identifier)
        for why in failed.values():
            if not self.served:
                raise why
            self.report(why)

    def _take(self, identifier: str, chain: Chain) -> None:
        held = self.served.get(identifier)
        if held is not None and not held.ledger.alive:
            with contextlib.suppress(CountersealError):  # what it could not write it said already
                self._drop(identifier)
            held = None
        if held is not None and held.chain is chain:
            held.reread(self.vault)
            return
        ledger = self.ledger_of(chain) if held is None else held.ledger
        if held is not None:
            held.quotas.close()  # its leases go back; the counters are the charter's
        self.served[identifier] = Served.of(
            chain, vault=self.vault, quotas=self.quotas_of(chain), ledger=ledger
        )

    def _report_once(self, epoch: int, error: CountersealError) -> None:
        if epoch != self._failed:
            self._failed = epoch
            self.report(error)

    def meet(
        self, token: str | None, certificate: str | None, *, at: datetime
    ) -> tuple[Held, Served]:
        """The session of a request and its charter."""
        self.sync()
        held = self.sessions.find(token, certificate, at=at)
        served = self.served.get(held.record.charter or "")
        if served is None:
            raise CharterDenied("this session calls no model here")
        if not served.ledger.alive:
            served = self._reopen(served)
        return held, served

    def _reopen(self, served: Served) -> Served:
        """Its ledger could not write: a disk was full, the database was away. Begin again."""
        self._epoch = _ANEW  # should this fail, the next request tries again
        self.sync()
        return self._now(served)

    def check(self, held: Held, served: Served, *, at: datetime) -> None:
        """Whether session and charter still count."""
        self.sync()
        self.revoked.check(
            session=held.record.id,
            charter=served.charter.id,
            partner=held.record.identity,
        )
        self.check_pinned(held)
        served = self._now(served)
        served.check_active(at)

    def check_running(
        self, held: Held, served: Served, offer: Offer | None, *, at: datetime
    ) -> None:
        """The same between the pieces of a stream: its model and its rung may be others by now."""
        self.check(held, served, at=at)
        if offer is not None:
            self.revoked.check_model(offer)
        self.check_rung(self._now(served))

    def _now(self, served: Served) -> Served:
        """As it stands now: a request keeps what it began under, also when that was amended."""
        found = self.served.get(served.charter.id)
        if found is None:
            raise CharterDenied("nothing is served under this charter any more")
        return found

    def check_pinned(self, held: Held) -> None:
        history = self.partners.get(held.record.identity)
        if history is None:
            raise TrustError("the partner of this session is no longer pinned here")
        for dated in history.cards:
            if dated.key_id == held.record.card:
                if dated.revoked is not None:
                    raise TrustError("the card that opened this session was revoked")
                return
        raise TrustError("the card that opened this session is not of this partner")

    def choose(self, model: str, wanted: str | None, served: Served, held: Held) -> Offer:
        if served.charter.asset(model) is None:  # what else is served here is not their business
            raise NotServedError(f"no model {model!a} is served under this charter")
        lot = int(held.digest[:8], 16) % 1000
        offer = self.registry.choose(model, wanted, charter=served.charter, lot=lot)
        self.revoked.check_model(offer)
        return offer

    def first_time(self, served: Served, record: bytes) -> bool:
        now = int(self.clock.seconds() * 1e9)
        return self.shared.first_time(served.slot + record, now=now)

    def admit(self, served: Served) -> float:
        """Seconds until the next request may come; 0 if this one may."""
        wait = self.shared.admit(served.slot, now_ns=time.monotonic_ns(), rate=served.rate)
        return wait / 1e9

    def check_rung(self, served: Served) -> None:
        """The risk gate. From "suspend" on the charter's own decision says no as well."""
        if served.standing.ended:
            raise CharterDenied(
                f'the owner\'s monitoring has reached "{served.rung}"',
                hint="talk to the owner: counterseal gateway clear lifts it",
            )

    def controls(self, served: Served) -> Controls:
        return Controls(served.charter.output, served.standing.tightened, _NOISE)

    async def write(self, served: Served, record: Record) -> Receipt:
        """Write a record down; it is durable when this returns."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def done(error: CountersealError | None, _index: int | None) -> None:
            loop.call_soon_threadsafe(_settle, written, error)

        receipt = self.note(served, record, done)
        try:
            await written
        except CountersealError as error:
            raise self._unwritten(error) from error
        return receipt

    def note(self, served: Served, record: Record, done: Done | None = None) -> Receipt:
        """Write a record down soon. What cannot be written down does not happen."""
        try:
            return served.ledger.note(record, done)
        except CountersealError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: CountersealError) -> CutOffError:
        self._report_once(self._epoch, error)
        return CutOffError("the gateway cannot write its ledger", hint="try again soon")

    def refused(self, served: Served, said: Refusal, record: Record) -> None:
        """Write a refusal down. A flood of them is counted: it must not fill the disk."""
        quiet = self._quiet.setdefault(served.charter.id, _Quiet())
        second = int(self.clock.seconds())
        if second != quiet.second:
            skipped, quiet.second, quiet.written, quiet.skipped = quiet.skipped, second, 0, 0
            if skipped:
                self._note_refusal(served, _summary(record, skipped))
        if quiet.written >= REFUSALS_A_SECOND:
            quiet.skipped += 1
        else:
            quiet.written += 1
            self._note_refusal(served, record)
        self.metrics.refused(served, said)
        if said.status == 400 and served.charter.monitoring.ladder:
            self.observer.probe(served)

    def overused(self, served: Served, held: Held, beyond: Mapping[Any, int]) -> None:
        """A model used more than anybody could know before: an incident, for both to see."""
        for (unit, period), count in beyond.items():
            served.ledger.note(
                Record(
                    event="incident",
                    actor=self.us,
                    partner=served.charter.partner.identity,
                    charter=served.ref,
                    action="beyond-quota",
                    reason=f"{unit}/{period}",
                    rows=count,
                    session=held.digest,
                )
            )

    def _note_refusal(self, served: Served, record: Record) -> None:
        with contextlib.suppress(CutOffError):  # refused it is, also if nobody can write that down
            self.note(served, record)

    def observe(self, served: Served, offer: Offer, rows: Any) -> None:
        if rows is not None and served.charter.monitoring.detectors:
            self.observer.observe(served, offer, rows)

    def compare(self, work: Work, shadow: Offer) -> None:
        """In a thread: what another version would have said. Nobody waits for it."""
        try:
            same = work.agrees(shadow)
        except Exception as error:  # noqa: BLE001 - it is being tried out
            self.report(error)
            same = False
        if same is not None:
            self.metrics.shadow(shadow, same=same)

    @property
    def most_bytes(self) -> int:
        """Of a body: what the most generous charter allows, and room for its JSON."""
        return max(
            (one.charter.limits.bytes_per_request for one in self.served.values()), default=0
        )

    def ready(self) -> bool:
        return self.watch.alive(time.monotonic())

    def close(self) -> None:
        for identifier in [*self.served]:
            self._drop(identifier)

    def _drop(self, identifier: str) -> None:
        gone = self.served.pop(identifier)
        try:
            gone.quotas.close()
        finally:
            gone.ledger.close()


def _settle(future: asyncio.Future[None], error: CountersealError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _summary(record: Record, skipped: int) -> Record:
    return msgspec.structs.replace(
        record, reason="more-refusals", rows=skipped, input=None, id=None
    )
