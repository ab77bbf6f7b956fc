"""The steps of a charter after it was signed, and what all charter commands share."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from counterseal.cli.output import emit, say
from counterseal.cli.settings import Command, identity_option, passphrase_option, settings
from counterseal.errors import MissingExtraError

if TYPE_CHECKING:
    from counterseal.charter.chain import Chain
    from counterseal.charter.document import Charter
    from counterseal.charter.states import Action
    from counterseal.jobs.charters import CharterBook
    from counterseal.trust.identity import Identity

output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where it is written."
)
STATE: Final = "COUNTERSEAL_STATE"  # where a gateway of several nodes keeps its ledgers
_STEPS: Final[dict[Action, str]] = {
    "suspend": "Suspend a charter, at once and alone. Resuming needs both.",
    "resume": "Sign that a suspended charter goes on; the partner has to countersign.",
    "exit": "Begin the end of a charter: from now on nothing is allowed under it.",
    "close": "Sign that everything is wound down; the partner has to countersign.",
}


def commands() -> list[click.Command]:
    """One for each step: they differ in nothing but its name."""
    return [_command(action, text) for action, text in _STEPS.items()]


def _command(action: Action, text: str) -> click.Command:
    @click.command(action, cls=Command, help=text)
    @click.argument("charter")
    @click.option("--reason", metavar="TEXT", help="Written into the step, for both to read.")
    @output_option
    @identity_option
    @passphrase_option
    def command(
        charter: str,
        reason: str | None,
        output: Path | None,
        as_name: str | None,
        passphrase_file: str | None,
    ) -> None:
        from counterseal.trust import atomic

        book = book_of(as_name)
        chain = book.find(charter)
        identity = settings().identity(as_name, passphrase_file)
        moved = book.move(chain, action, by=identity, at=datetime.now(UTC), reason=reason)
        path = output or Path(f"{moved.charter.id[:8]}.charter")
        atomic.write_whole(path, moved.document.encode())
        report(moved, path, identity)

    return command


def report(chain: Chain, path: Path | None, by: Identity | None) -> None:
    """Say where it stands; with our keys at hand, write down every step that is not yet.

    In this order: a ledger that fails undoes no step, and must not hide one. A gateway that runs
    is told first of all.
    """
    from counterseal.cli.charter_text import chain_facts
    from counterseal.jobs.gateway import announce

    announce(settings().home)
    now = datetime.now(UTC)
    facts = {**chain_facts(chain, now), "path": None if path is None else str(path)}
    emit(facts, str(path) if path is not None else chain.charter.id)
    say(f'"{chain.charter.title}" is {chain.standing.at(now)}')
    if chain.document.pending is not None:
        say("your partner has to countersign: send them the file")
    elif path is not None:
        say("send the file to your partner")
    if by is not None:
        from counterseal.jobs.charter_ledger import write_down
        from counterseal.jobs.charters import parties_of
        from counterseal.jobs.gateway import ledger_store

        parties = parties_of(by.history, settings().partners())
        store = ledger_store(os.environ.get(STATE), by, chain.charter.id)
        write_down(chain, by=by, home=settings().home, parties=parties, store=store)


def book_of(as_name: str | None) -> CharterBook:
    from counterseal.jobs.charters import CharterBook
    from counterseal.trust.identity import Identity

    home = settings().home
    us = Identity.load_history(as_name or home.only_identity(), home=home)
    return CharterBook(us, settings().partners(), store=home.store, narrower=_narrower)


def _narrower(new: Charter, old: Charter) -> bool:
    """Only a proof counts; without the prover both have to sign."""
    from counterseal.charter.diff import compare

    try:
        return compare(old, new).narrows
    except MissingExtraError:
        return False
