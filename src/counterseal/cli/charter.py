"""counterseal charter"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from counterseal.cli import charter_steps
from counterseal.cli.charter_steps import book_of, output_option, report
from counterseal.cli.output import emit, say, table
from counterseal.cli.settings import Group, confirm, identity_option, passphrase_option, settings
from counterseal.cli.usage import usage
from counterseal.errors import CharterDenied, FormatError

if TYPE_CHECKING:
    from counterseal.charter.diff import Example
    from counterseal.charter.document import Charter

_TEMPLATES: Final = ("predict-only", "fine-tune", "research")  # those of charter.template
_SOURCES: Final = (".toml", ".yaml", ".yml")
_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group("charter", cls=Group)
def command() -> None:
    """Charters: write, sign and compare what a partner may do."""


for _step in charter_steps.commands():
    command.add_command(_step)
command.add_command(usage)


@command.command("new")
@click.option("--partner", required=True, metavar="PARTNER", help="Who shall use the model.")
@click.option("--asset", required=True, metavar="NAME", help="What the model is called.")
@click.option(
    "--template", type=click.Choice(_TEMPLATES), default="predict-only", show_default=True
)
@click.option("--days", type=click.IntRange(1, 3660), default=365, show_default=True)
@output_option
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
        _rules(charter)
        facts = {"id": charter.id, "version": charter.version, "digest": charter.digest}
        emit(facts, charter_text(charter))
        return
    chain = book_of(None).read(_chain_bytes(file))
    now = datetime.now(UTC)
    emit(chain_facts(chain, now), chain_text(chain, now))


@command.command("sign")
@_file
@output_option
@identity_option
@passphrase_option
def sign(file: Path, output: Path | None, as_name: str | None, passphrase_file: str | None) -> None:
    """Sign a charter that we wrote: an offer, a counter-offer, or the next version.

    FILE is TOML or YAML. What is written, NAME.charter, goes to the partner, over any line.
    """
    from counterseal.trust import atomic

    charter = _source(file)
    _rules(charter)
    identity = settings().identity(as_name, passphrase_file)
    chain = book_of(as_name).offer(charter, by=identity, at=datetime.now(UTC))
    path = output or file.with_suffix(".charter")
    atomic.write_whole(path, chain.document.encode())
    report(chain, path, identity)


@command.command("countersign")
@_file
@identity_option
@passphrase_option
def countersign(file: Path, as_name: str | None, passphrase_file: str | None) -> None:
    """Sign what the partner signed: an offer, or a step that needs both.

    FILE.charter is verified, shown, and written again with our signature: send it back.
    """
    from counterseal.charter.diff import compare
    from counterseal.cli.charter_text import chain_text, difference_text
    from counterseal.trust import atomic

    book = book_of(as_name)
    chain = book.take(_chain_bytes(file))
    click.echo(chain_text(chain, datetime.now(UTC)), err=True)
    if chain.waiting is not None and chain.waiting[1].charter != chain.charter:
        difference = compare(chain.charter, chain.waiting[1].charter)
        click.echo(f"\ncompared with now: {difference_text(difference)}", err=True)
    confirm("Sign this?")
    identity = settings().identity(as_name, passphrase_file)
    signed = book.countersign(chain, by=identity, at=datetime.now(UTC))
    atomic.write_whole(file, signed.document.encode())
    report(signed, file, identity)


@command.command("refresh")
@_file
@identity_option
def refresh(file: Path, as_name: str | None) -> None:
    """Take over what the partner sent: their signature, or a later step."""
    chain = book_of(as_name).take(_chain_bytes(file))
    report(chain, None, None)


@command.command("list")
@identity_option
def list_(as_name: str | None) -> None:
    """List the charters we hold, and where each stands."""
    now = datetime.now(UTC)
    chains = book_of(as_name).list()
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
@output_option
@identity_option
def show(charter: str, output: Path | None, as_name: str | None) -> None:
    """Show a charter that we hold; CHARTER is its id, title, partner or asset.

    With --output the signed document is written, for the partner or an auditor.
    """
    from counterseal.cli.charter_text import chain_facts, chain_text
    from counterseal.trust import atomic

    chain = book_of(as_name).find(charter)
    now = datetime.now(UTC)
    if output is not None:
        atomic.write_whole(output, chain.document.encode())
    emit(chain_facts(chain, now), chain_text(chain, now))


@command.command("diff")
@click.argument("old")
@click.argument("new")
@click.option(
    "--expect",
    type=click.Choice(("equal", "narrower", "wider", "incomparable")),
    help="Exit with 5 if it is anything else; an equal one counts as narrower.",
)
@identity_option
def diff(old: str, new: str, expect: str | None, as_name: str | None) -> None:
    """Prove what NEW allows that OLD refused, and the other way round.

    Each is a file (TOML, YAML or .charter), or a charter that we hold. What is found comes with
    a request that shows it; "narrower" means that there is none, of all requests that there are.
    """
    from counterseal.charter.diff import compare
    from counterseal.cli.charter_text import difference_text

    found = compare(_charter(old, as_name), _charter(new, as_name))
    facts = {
        "relation": found.relation,
        "narrows": found.narrows,
        "newly_allowed": _example(found.newly_allowed),
        "newly_refused": _example(found.newly_refused),
        "wider": found.wider,
        "narrower": found.narrower,
        "other_terms": found.other_terms,
    }
    emit(facts, difference_text(found))
    if expect is not None and not (
        found.relation == expect or (expect == "narrower" and found.relation == "equal")
    ):
        raise CharterDenied(f"the new version is {found.relation}, not {expect}")


def _example(example: Example | None) -> dict[str, Any] | None:
    if example is None:
        return None
    used = {f"{unit} per {period}": count for (unit, period), count in example.usage.used.items()}
    return {
        "request": msgspec.to_builtins(example.request),
        "concurrent": example.usage.concurrent,
        "risk": example.usage.risk,
        "used": used,
        "at": example.at,
    }


@command.command("export")
@click.argument("charter")
@click.option("--odrl", is_flag=True, required=True, help="As an ODRL 2.2 agreement (JSON-LD).")
@output_option
@identity_option
def export(charter: str, odrl: bool, output: Path | None, as_name: str | None) -> None:  # noqa: FBT001
    """Write a charter in the form of other people's tools. It carries no signatures."""
    del odrl  # the only form so far
    from counterseal.charter.odrl import export as to_odrl
    from counterseal.trust import atomic

    text = json.dumps(to_odrl(_charter(charter, as_name)), indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
        return
    atomic.write_whole(output, f"{text}\n".encode())
    emit({"path": str(output)}, str(output))


def _charter(name: str, as_name: str | None) -> Charter:
    """A file as people write it, a signed one, or one that we hold."""
    path = Path(name)
    if path.suffix in _SOURCES:
        return _source(path)
    if path.is_file():
        return book_of(as_name).read(_chain_bytes(path)).charter
    return book_of(as_name).find(name).charter


def _source(file: Path) -> Charter:
    from counterseal.trust import atomic
    from counterseal.wire import limits

    if file.suffix not in _SOURCES:
        raise FormatError(
            f"{file} is not a charter as people write it", hint="a .toml, .yaml or .yml file"
        )
    return _check_source(atomic.read_bounded(file, limits.CHARTER_BYTES, what="charter"), file.name)


def _rules(charter: Charter) -> None:
    """What is signed has to be what can be enforced: it compiles, and Cedar accepts it."""
    from counterseal.charter.decision import Rules

    Rules(charter)


def _check_source(data: bytes, name: str) -> Charter:
    from counterseal.charter import source

    return source.read(data, name=name)


def _chain_bytes(file: Path) -> bytes:
    from counterseal.trust import atomic
    from counterseal.wire import limits

    return atomic.read_bounded(file, limits.CHARTER_CHAIN_BYTES, what="charter")
