"""Where a gateway keeps its things, and what the owner does to one from beside it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from counterseal.errors import FormatError, MissingExtraError
from counterseal.gateway.administration import Administration
from counterseal.gateway.shared import Shared
from counterseal.gateway.sqlite_state import SqliteState
from counterseal.gateway.vault import Vault
from counterseal.jobs.ledger import open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from counterseal.charter.chain import Chain
    from counterseal.charter.document import Charter
    from counterseal.gateway.state import State
    from counterseal.jobs.charters import CharterBook
    from counterseal.ledger.entry import Record
    from counterseal.ledger.store import Store
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity

__all__ = [
    "administration",
    "announce",
    "gateway_folder",
    "ledger_store",
    "narrower",
    "open_state",
    "usage",
]

_FOLDER: Final = "gateway"
_STATE: Final = "state.db"
POSTGRES: Final = ("postgresql", "postgres")


def gateway_folder(home: Home, owner: str, node: str) -> Path:
    """Of one node, for one identity: what its workers share. Only its owner can enter."""
    home.ensure()
    folder = home.path / _FOLDER / owner / node
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "metrics").mkdir(mode=0o700, exist_ok=True)
    return folder


def open_state(url: str | None, *, home: Home, owner: str) -> State:
    """SQLite in the home, or PostgreSQL by URL. Raises FormatError for anything else."""
    if url is None:
        folder = home.path / _FOLDER / owner
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SqliteState(folder / _STATE)
    if urlsplit(url).scheme not in POSTGRES:
        raise FormatError("the state is kept in SQLite, or by a URL postgresql://...")
    from counterseal.gateway.postgres_state import PostgresState

    return PostgresState(url)


def ledger_store(url: str | None, by: Identity, name: str) -> Store | None:
    """Where the ledger of a charter is, if not in the home."""
    if url is None:
        return None
    from counterseal.ledger.postgres import PostgresStore

    return PostgresStore(url, f"{by.history.identity}/{name}")


def narrower(new: Charter, old: Charter) -> bool:
    """Only a proof counts; without the prover both have to sign."""
    from counterseal.charter.diff import compare

    try:
        return compare(old, new).narrows
    except MissingExtraError:
        return False


def announce(home: Home) -> None:
    """Tell every running gateway of this home that something has changed."""
    for shared in (home.path / _FOLDER).glob("*/*/shared"):
        Shared.bump_at(shared)


@contextmanager
def administration(
    book: CharterBook, *, by: Identity, home: Home, url: str | None = None
) -> Iterator[Administration]:
    """For a command: the same as over HTTP, while a gateway runs or not."""
    state = open_state(url, home=home, owner=by.name)
    try:
        us = by.history.identity

        def announce_all() -> None:
            announce(home)
            state.bump()

        def write(charter: str, record: Record) -> None:
            store = ledger_store(url, by, charter)
            with open_ledger(charter, by=by, home=home, store=store) as ledger:
                ledger.record(record)

        yield Administration(
            us=us,
            vault=Vault(state, protect=by.protect, unprotect=by.unprotect),
            charters=lambda: [
                chain.charter for chain in book.list() if chain.charter.owner.identity == us
            ],
            write=write,
            announce=announce_all,
        )
    finally:
        state.close()


def usage(chain: Chain, *, by: Identity, home: Home, url: str | None = None) -> dict[str, Any]:
    """What was used under a charter of ours, as the gateway's own control plane says it."""
    from counterseal.gateway.quota import Quotas
    from counterseal.gateway.served import Served
    from counterseal.gateway.sessions import Sessions
    from counterseal.gateway.usage import usage_facts

    state = open_state(url, home=home, owner=by.name)
    try:
        vault = Vault(state, protect=by.protect, unprotect=by.unprotect)
        identifier = chain.charter.id
        store = ledger_store(url, by, identifier)
        with open_ledger(identifier, by=by, home=home, store=store) as ledger:
            quotas = Quotas(vault, chain.charter, workers=1)
            served = Served.of(chain, vault=vault, quotas=quotas, ledger=ledger)
            return usage_facts(served, Sessions(vault).list(identifier), at=datetime.now(UTC))
    finally:
        state.close()
