"""Serve models under charters: put a gateway together from a home and run its workers.

What can be wrong is found before the first worker starts, and each worker builds everything
anew: no connection, thread or key crosses a fork.
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.crypto.tls_authority import Authority
from counterseal.errors import CharterDenied, CountersealError, FormatError
from counterseal.gateway import session as tokens
from counterseal.gateway.administration import Administration
from counterseal.gateway.clock import SteadyClock
from counterseal.gateway.desk import Desk
from counterseal.gateway.metrics import Metrics
from counterseal.gateway.observer import ThreadObserver
from counterseal.gateway.office import Office
from counterseal.gateway.quota import Quotas
from counterseal.gateway.registry import Registry
from counterseal.gateway.relay import Listener, RelayObserver
from counterseal.gateway.sessions import Sessions
from counterseal.gateway.shared import Shared
from counterseal.gateway.state import NO_CHARTER
from counterseal.gateway.tensors import Limits
from counterseal.gateway.vault import Vault
from counterseal.jobs.agreements import HomeAgreements
from counterseal.jobs.gateway import gateway_folder, ledger_store, narrower, open_state
from counterseal.jobs.ledger import open_ledger
from counterseal.jobs.model_source import ModelSource
from counterseal.jobs.roots import publish_roots
from counterseal.trust import atomic
from counterseal.wire import limits

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from counterseal.charter.chain import Chain
    from counterseal.gateway.reference import Reference
    from counterseal.jobs.charters import CharterBook
    from counterseal.ledger.entry import Record
    from counterseal.ledger.ledger import Ledger
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity

__all__ = ["ModelSource", "Plan", "check", "run_worker"]

GROUP_SECONDS: Final = 0.05
LEASE: Final = 256  # of quotas: requests at a time
LEASE_SECONDS: Final = 1.5  # after which a node that is cut off allows nothing
PUBLISH_SECONDS: Final = 1.0  # or sooner, if the charter says so


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a gateway that is the same for every worker."""

    models: Sequence[ModelSource]
    charters: Sequence[str]
    references: dict[str, Path]
    hosts: Sequence[str]
    workers: int
    threads: int
    state: str | None
    node: str
    trusted: Sequence[str] = ()
    upstream_key: Path | None = None
    limits: Limits = field(default_factory=Limits)


def check(plan: Plan, book: CharterBook, *, us: str, at: datetime) -> list[Chain]:
    """Everything that can be known before a worker starts. Raises CountersealError."""
    require("uvicorn", extra="serve")
    chains = [book.find(name) for name in plan.charters]
    served = {model.name for model in plan.models}
    for chain in chains:
        charter = chain.charter
        if charter.owner.identity != us:
            raise CharterDenied(
                f'"{charter.title}" is about a model of {charter.owner.name}',
                hint="its owner serves it",
            )
        state = chain.standing.at(at)
        if state in {"draft", "offered", "countered", "accepted", "exiting", "closed"}:
            raise CharterDenied(
                f'"{charter.title}" is {state}: nothing can be served under it',
                hint="both sides sign first: counterseal charter show",
            )
        missing = {asset.name for asset in charter.assets} - served
        if missing == {asset.name for asset in charter.assets}:
            raise FormatError(
                f'no model of "{charter.title}" is served',
                hint=f"it is about {', '.join(sorted(missing))}: NAME=MODEL",
            )
        if charter.monitoring.detectors:
            for name in sorted(served & {asset.name for asset in charter.assets}):
                if name not in plan.references:
                    raise FormatError(
                        f'"{charter.title}" promises detectors, which compare calls with rows '
                        f"that are normal for {name}",
                        hint=f"--reference {name}=rows.npy: some hundred rows that it was not "
                        "trained on",
                    )
    for model in plan.models:
        model.check()
    return chains


def run_worker(
    plan: Plan,
    chains: Sequence[Chain],
    *,
    by: Identity,
    home: Home,
    number: int,
    sock: socket.socket,
    ready: Callable[[], None],
) -> None:
    """Build one worker and serve until it is told to end."""
    from counterseal.gateway.http.server import run
    from counterseal.gateway.http.tls import server_context

    desk, office, authority, closing = build(plan, chains, by=by, home=home, number=number)

    def roots() -> None:
        publish_roots(home, by)

    try:
        run(
            desk,
            office,
            sock=sock,
            tls=server_context(authority, plan.hosts, at=datetime.now(UTC)),
            limits=plan.limits,
            threads=plan.threads,
            ready=ready,
            every_minute=roots if number == 0 and plan.state is None else lambda: None,
        )
    finally:
        for close in closing:
            close()


def build(
    plan: Plan, chains: Sequence[Chain], *, by: Identity, home: Home, number: int
) -> tuple[Desk, Office, Authority, list[Callable[[], None]]]:
    """One worker, everything but its server. The last are to be called at the end, in order."""
    folder = gateway_folder(home, by.name, plan.node)
    state = open_state(plan.state, home=home, owner=by.name)
    vault = Vault(state, protect=by.protect, unprotect=by.unprotect)
    shared = Shared.open(folder / "shared", worker=number, alone=plan.workers == 1)
    clock = SteadyClock(vault)
    agreements = HomeAgreements(
        by.history,
        home.store,
        vault,
        [chain.charter.id for chain in chains],
        narrower=narrower,
        card=lambda: _own_card(by, home),
    )

    def announce() -> None:
        shared.bump()
        state.bump()

    def changed() -> None:
        shared.bump()

    observer: ThreadObserver | RelayObserver
    if number == 0:
        observer = ThreadObserver(
            vault,
            shared,
            us=by.history.identity,
            announce=announce,
            references=_references(plan, vault),
            report=report,
        )
    else:
        observer = RelayObserver(folder / "rows")
    desk = Desk(
        us=by.history.identity,
        vault=vault,
        shared=shared,
        watch=state.watch(changed, lease_seconds=LEASE_SECONDS),
        clock=clock,
        sessions=Sessions(vault),
        registry=_registry(plan, vault),
        agreements=agreements,
        ledger_of=lambda chain: _ledger(chain, by=by, home=home, plan=plan),
        quotas_of=lambda chain: Quotas(vault, chain.charter, workers=plan.workers, lease=LEASE),
        observer=observer,
        metrics=Metrics(folder / "metrics" if plan.workers > 1 else None, number),
        report=report,
    )
    desk.sync()
    closing: list[Callable[[], None]] = [observer.close]
    if isinstance(observer, ThreadObserver) and plan.workers > 1:
        closing.insert(0, Listener(folder / "rows", _taker(desk, observer)).close)
    administration = Administration(
        us=by.history.identity,
        vault=vault,
        charters=lambda: [served.charter for served in desk.served.values()],
        write=lambda charter, record: _note(desk, charter, record),
        announce=announce,
    )
    at = datetime.now(UTC)
    authority = _authority(vault, at)
    office = Office(
        desk,
        us=by.history,
        authority=authority,
        statement=tokens.state(authority.certificate, by=by, at=at),
        administration=administration,
    )
    return desk, office, authority, [*closing, desk.watch.close, shared.close, state.close]


def report(error: BaseException) -> None:
    """What went wrong inside, for whoever runs the gateway; partners see nothing of it."""
    if isinstance(error, CountersealError):
        sys.stderr.write(f"counterseal: error: {error.message}\n")
    else:
        traceback.print_exception(error)


def _own_card(by: Identity, home: Home) -> bytes:
    """As it stands now: a command may have replaced or revoked it."""
    path = home.identity_folder(by.name) / "card.json"
    if not path.exists():  # an identity in memory
        return by.card().encode()
    return atomic.read_bounded(path, limits.CARD_DOCUMENT_BYTES, what="card")


def _taker(desk: Desk, observer: ThreadObserver) -> Callable[[str, str, Any], None]:
    def take(charter: str, model: str, rows: Any) -> None:
        served = desk.served.get(charter)
        if served is not None and (rows is None or model in desk.registry.offers):
            observer.put(served, model, rows)

    return take


def _registry(plan: Plan, vault: Vault) -> Registry:
    registry = Registry(vault)
    for model in plan.models:
        digest, backend = model.load(trusted=plan.trusted, key_file=plan.upstream_key)
        registry.add(model.name, model.number, digest, backend)
    registry.refresh()
    return registry


def _references(plan: Plan, vault: Vault) -> dict[str, Reference]:
    from counterseal.gateway.reference import Reference

    np = require("numpy", extra="serve")
    found = {}
    for name, path in plan.references.items():
        try:
            rows = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise FormatError(
                f"{path} does not hold rows ({error})", hint="numpy.save(FILE, rows)"
            ) from None
        seed = vault.change(NO_CHARTER, f"reference/{name}", _kept_seed)
        found[name] = Reference.from_rows(rows, seed)
    return found


def _kept_seed(data: bytes | None) -> tuple[bytes, bytes]:
    seed = data or os.urandom(32)
    return seed, seed


def _ledger(chain: Chain, *, by: Identity, home: Home, plan: Plan) -> Ledger:
    audit = chain.charter.audit
    return open_ledger(
        chain.charter.id,
        by=by,
        home=home,
        store=ledger_store(plan.state, by, chain.charter.id),
        group_seconds=0 if audit.durability == "strict" else GROUP_SECONDS,
        publish_seconds=min(audit.checkpoint_seconds, PUBLISH_SECONDS),
    )


def _note(desk: Desk, charter: str, record: Record) -> None:
    served = desk.served.get(charter)
    if served is not None:
        served.ledger.record(record)


def _authority(vault: Vault, at: datetime) -> Authority:
    """One for all workers and nodes, as long as the state lasts."""

    def keep(data: bytes | None) -> tuple[bytes, bytes]:
        kept = data or Authority.create(at=at).encode()
        return kept, kept

    return Authority.parse(vault.change(NO_CHARTER, "authority", keep))
