"""counterseal charter"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from counterseal.cli.output import emit, say, table
from counterseal.cli.settings import Group, confirm, identity_option, passphrase_option, settings
from counterseal.errors import FormatError

if TYPE_CHECKING:
    from counterseal.charter.chain import Chain
    from counterseal.charter.document import Charter
    from counterseal.charter.states import Action
    from counterseal.jobs.charters import CharterBook

_TEMPLATES: Final = ("predict-only", "fine-tune", "research")  # those of charter.template
_SOURCES: Final = (".toml", ".yaml", ".yml")
_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_output = click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where it is written."
)
_reason = click.option("--reason", metavar="TEXT", help="Written into the step, for both to read.")


@click.group("charter", cls=Group)
def command() -> None:
    """Charters: write, sign and compare what a partner may do."""


@command.command("new")
@click.option("--partner", required=True, metavar="PARTNER", help="Who shall use the model.")
@click.option("--asset", required=True, metavar="NAME", help="What the model is called.")
@click.option(
    "--template", type=click.Choice(_TEMPLATES), default="predict-only", show_default=True
)
@click.option("--days", type=click.IntRange(1, 3660), default=365, show_default=True)
@_output
@identity_option
def new(
    partner: str, asset: str, template: str, days: int, output: Path | None, as_name: str | None
) -> None:
    """Write a commented charter to begin with. We are its owner."""
    from counterseal.charter import template as templates
    from counterseal.trust import atomic
    from counterseal.trust.identity import Identity

    home = settings().home
    us = Identity.load_history(as_name or home.only_identity(), home=home)
    them = settings().partners().get(partner)
    now = datetime.now(UTC)
    begins = now.replace(hour=0, minute=0, second=0)
    text = templates.fill(
        template,
        owner=(us.name, us.identity),
        partner=(them.name, them.identity),
        asset=asset,
        identifier=secrets.token_hex(16),
        created=now,
        begins=begins,
        ends=begins + timedelta(days=days),
    )
    path = output or Path(f"{asset}-{partner}.toml")
    _check_source(text.encode(), path.name)  # an odd asset name should show here
    atomic.write_whole(path, text.encode(), replace=False)
    emit({"path": str(path)}, str(path))
    say("read it, change it, then: counterseal charter check, counterseal charter sign")


@command.command("check")
@_file
def check(file: Path) -> None:
    """Say what a charter means, or which line of it means nothing. Nothing is signed."""
    from counterseal.cli.charter_text import chain_facts, chain_text, charter_text

    if file.suffix in _SOURCES:
        charter = _source(file)
        facts = {"id": charter.id, "version": charter.version, "digest": charter.digest}
        emit(facts, charter_text(charter))
        return
    chain = _book(None).read(_chain_bytes(file))
    now = datetime.now(UTC)
    emit(chain_facts(chain, now), chain_text(chain, now))


@command.command("sign")
@_file
@_output
@identity_option
@passphrase_option
def sign(
    file: Path, output: Path | None, as_name: str | None, passphrase_file: str | None
) -> None:
    """Sign a charter that we wrote: an offer, a counter-offer, or the next version.

    FILE is TOML or YAML. What is written, NAME.charter, goes to the partner, over any line.
    """
    from counterseal.trust import atomic

    charter = _source(file)
    identity = settings().identity(as_name, passphrase_file)
    chain = _book(as_name).offer(charter, by=identity, at=datetime.now(UTC))
    path = output or file.with_suffix(".charter")
    atomic.write_whole(path, chain.document.encode())
    _report(chain, path)


@command.command("countersign")
@_file
@identity_option
@passphrase_option
def countersign(file: Path, as_name: str | None, passphrase_file: str | None) -> None:
    """Sign what the partner signed: an offer, or a step that needs both.

    FILE.charter is verified, shown, and written again with our signature: send it back.
    """
    from counterseal.cli.charter_text import chain_text
    from counterseal.trust import atomic

    book = _book(as_name)
    chain = book.take(_chain_bytes(file))
    click.echo(chain_text(chain, datetime.now(UTC)), err=True)
    confirm("Sign this?")
    identity = settings().identity(as_name, passphrase_file)
    signed = book.countersign(chain, by=identity, at=datetime.now(UTC))
    atomic.write_whole(file, signed.document.encode())
    _report(signed, file)


@command.command("refresh")
@_file
@identity_option
def refresh(file: Path, as_name: str | None) -> None:
    """Take over what the partner sent: their signature, or a later step."""
    chain = _book(as_name).take(_chain_bytes(file))
    _report(chain, None)


@command.command("list")
@identity_option
def list_(as_name: str | None) -> None:
    """List the charters we hold, and where each stands."""
    now = datetime.now(UTC)
    chains = _book(as_name).list()
    emit(
        [
            {"id": c.charter.id, "title": c.charter.title, "state": c.standing.at(now)}
            for c in chains
        ],
        table({c.charter.id[:8]: f"{c.standing.at(now)}  {c.charter.title}" for c in chains})
        if chains
        else "no charter yet: counterseal charter new",
    )


@command.command("show")
@click.argument("charter")
@_output
@identity_option
def show(charter: str, output: Path | None, as_name: str | None) -> None:
    """Show a charter that we hold; CHARTER is its id, title, partner or asset.

    With --output the signed document is written, for the partner or an auditor.
    """
    from counterseal.cli.charter_text import chain_facts, chain_text
    from counterseal.trust import atomic

    chain = _book(as_name).find(charter)
    now = datetime.now(UTC)
    if output is not None:
        atomic.write_whole(output, chain.document.encode())
    emit(chain_facts(chain, now), chain_text(chain, now))


@command.command("suspend")
@click.argument("charter")
@_reason
@_output
@identity_option
@passphrase_option
def suspend(
    charter: str,
    reason: str | None,
    output: Path | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Suspend a charter, at once and alone. Resuming needs both."""
    _move(charter, "suspend", reason, output, as_name, passphrase_file)


@command.command("resume")
@click.argument("charter")
@_reason
@_output
@identity_option
@passphrase_option
def resume(
    charter: str,
    reason: str | None,
    output: Path | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Sign that a suspended charter goes on; the partner has to countersign."""
    _move(charter, "resume", reason, output, as_name, passphrase_file)


@command.command("exit")
@click.argument("charter")
@_reason
@_output
@identity_option
@passphrase_option
def exit_(
    charter: str,
    reason: str | None,
    output: Path | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Begin the end of a charter: from now on nothing is allowed under it."""
    _move(charter, "exit", reason, output, as_name, passphrase_file)


@command.command("close")
@click.argument("charter")
@_reason
@_output
@identity_option
@passphrase_option
def close(
    charter: str,
    reason: str | None,
    output: Path | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Sign that everything is wound down; the partner has to countersign."""
    _move(charter, "close", reason, output, as_name, passphrase_file)


def _move(
    charter: str,
    action: Action,
    reason: str | None,
    output: Path | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    from counterseal.trust import atomic

    book = _book(as_name)
    chain = book.find(charter)
    identity = settings().identity(as_name, passphrase_file)
    moved = book.move(chain, action, by=identity, at=datetime.now(UTC), reason=reason)
    path = output or Path(f"{moved.charter.id[:8]}.charter")
    atomic.write_whole(path, moved.document.encode())
    _report(moved, path)


def _report(chain: Chain, path: Path | None) -> None:
    from counterseal.cli.charter_text import chain_facts

    now = datetime.now(UTC)
    facts = {**chain_facts(chain, now), "path": None if path is None else str(path)}
    emit(facts, str(path) if path is not None else chain.charter.id)
    say(f'"{chain.charter.title}" is {chain.standing.at(now)}')
    if chain.document.pending is not None:
        say("your partner has to countersign: send them the file")
    elif path is not None:
        say("send the file to your partner")


def _book(as_name: str | None) -> CharterBook:
    from counterseal.jobs.charters import CharterBook
    from counterseal.trust.identity import Identity

    home = settings().home
    us = Identity.load_history(as_name or home.only_identity(), home=home)
    return CharterBook(us, settings().partners(), store=home.store, narrower=_narrower)


def _narrower(new: Charter, old: Charter) -> bool:
    """Only a proof counts; without the prover both have to sign."""
    from counterseal.charter.diff import compare

    return compare(old, new).narrows


def _source(file: Path) -> Charter:
    from counterseal.trust import atomic
    from counterseal.wire import limits

    if file.suffix not in _SOURCES:
        raise FormatError(
            f"{file} is not a charter as people write it", hint="a .toml, .yaml or .yml file"
        )
    return _check_source(
        atomic.read_bounded(file, limits.CHARTER_BYTES, what="charter"), file.name
    )


def _check_source(data: bytes, name: str) -> Charter:
    from counterseal.charter import source

    return source.read(data, name=name)


def _chain_bytes(file: Path) -> bytes:
    from counterseal.trust import atomic
    from counterseal.wire import limits

    return atomic.read_bounded(file, limits.CHARTER_CHAIN_BYTES, what="charter")
