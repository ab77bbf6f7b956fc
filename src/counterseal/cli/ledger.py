"""counterseal ledger"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from counterseal.cli.journal import journal
from counterseal.cli.output import count_text, emit, say, table
from counterseal.cli.settings import (
    Group,
    check_folder_exists,
    check_output_exists,
    identity_option,
    passphrase_option,
    settings,
)
from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from counterseal.jobs.ledger import Facts
    from counterseal.ledger.entry import Entry
    from counterseal.ledger.reader import Fetch
    from counterseal.trust.history import History


@click.group("ledger", cls=Group)
def command() -> None:
    """Ledgers: show, verify, prove and export what happened."""


_partner = click.option("--from", "partner", metavar="PARTNER", help="Whose ledger it is.")
_card = click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Whose ledger it is, by a card that is not pinned here.",
)


@command.command("show")
@click.argument("name", required=False)
@click.option(
    "--last",
    type=click.IntRange(min=0, max=100_000),
    default=20,
    show_default=True,
    help="How many entries.",
)
@identity_option
def show(name: str | None, last: int, as_name: str | None) -> None:
    """Show a ledger of ours: its last checkpoint and entries. Without NAME: which there are.

    Needs no passphrase, and works while somebody records in it.
    """
    from counterseal.jobs import ledger as jobs

    history = _ours(as_name)
    if name is None:
        found = jobs.names(settings().home, history.name)
        emit(found, "\n".join(found) if found else "no ledger yet")
        return
    with jobs.local(name, home=settings().home, owner=history.name) as fetch:
        facts, entries = jobs.show(fetch, owner=history, last=last)
    lines = [_line(index, entry) for index, entry in entries]
    data = {
        **_facts(facts),
        "last": [{"index": index, **_entry(entry)} for index, entry in entries],
    }
    emit(data, "\n".join([_text(facts), *lines]))


@command.command("verify")
@click.argument("ledger", required=False)
@_partner
@_card
@click.option(
    "--since",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="A checkpoint kept from earlier, or an earlier export: it must go on from that.",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The key.json of the ledger that a .tlog-proof is of.",
)
@click.option("--root", is_flag=True, help="All of ours, against what our root ledger says.")
@identity_option
def verify(
    ledger: str | None,
    partner: str | None,
    card: Path | None,
    since: Path | None,
    key: Path | None,
    root: bool,  # noqa: FBT001
    as_name: str | None,
) -> None:
    """Verify a ledger of ours, an exported folder, or a proof file.

    \b
      counterseal ledger verify scan                        one of ours
      counterseal ledger verify ./scan-ledger --from lab    what lab has exported
      counterseal ledger verify call.tlog-proof --from lab --key key.json

    Every signature, tile and entry is checked; nothing that the folder says is believed. With
    --since nothing that was there before may be gone or changed.
    """
    from counterseal.jobs import ledger as jobs

    if root:
        if ledger is not None:
            raise click.UsageError("--root goes without LEDGER: it is about all of ours")
        _verify_roots(as_name)
        return
    if ledger is None:
        raise click.UsageError("which one? counterseal ledger verify NAME, or --root")
    path = Path(ledger)
    if path.is_file():
        if key is None or since is not None:
            raise click.UsageError("a proof file is verified with --key FILE and without --since")
        statement = _statement(key)
        facts, index, entry = jobs.check_proof(path, statement, owner=_owner(partner, card))
        emit({**_facts(facts), "index": index, "entry": _entry(entry)}, _line(index, entry))
        say(f"entry {index} stands in the ledger {facts.origin}")
        return
    if key is not None:
        raise click.UsageError("--key goes with a .tlog-proof file")
    with _source(ledger, partner, card, as_name) as (fetch, owner):
        facts = jobs.verify_ledger(fetch, owner=owner, earlier=since)
    emit(_facts(facts), _text(facts))
    say("every entry is what was signed" + ("" if since is None else ", and nothing is gone"))


def _verify_roots(as_name: str | None) -> None:
    from counterseal.jobs.roots import verify_roots

    count = verify_roots(settings().home, _ours(as_name))
    emit({"ledgers": count}, f"{count_text(count, 'ledger')} as the root has them")


@command.command("prove")
@click.argument("name")
@click.argument("index", type=click.IntRange(min=0))
@click.option(
    "-o", "--output", type=click.Path(), metavar="FILE", help="Where to.  [NAME-INDEX.tlog-proof]"
)
@identity_option
def prove(name: str, index: int, output: str | None, as_name: str | None) -> None:
    """Write the proof that an entry stands in a ledger of ours (c2sp.org/tlog-proof)."""
    from counterseal.jobs import ledger as jobs

    target = output or f"{name}-{index}.tlog-proof"
    check_output_exists(target)
    history = _ours(as_name)
    with jobs.local(name, home=settings().home, owner=history.name) as fetch:
        facts, _ = jobs.prove(fetch, index, Path(target), owner=history)
    emit({**_facts(facts), "index": index, "output": target}, target)


@command.command("export")
@click.argument("name")
@click.argument("folder", type=click.Path())
@identity_option
@passphrase_option
def export(name: str, folder: str, as_name: str | None, passphrase_file: str | None) -> None:
    """Write a ledger of ours as files, for a partner or a web server (c2sp.org/tlog-tiles).

    It needs no keys. With the passphrase, that it was done is written into `main`.
    """
    from counterseal.jobs import ledger as jobs

    check_folder_exists(folder)
    history = _ours(as_name)
    with jobs.local(name, home=settings().home, owner=history.name) as fetch:
        facts = jobs.export(fetch, Path(folder), owner=history)
    emit({**_facts(facts), "output": folder}, folder)
    say(f"{facts.entries} entries; a partner verifies them: counterseal ledger verify {folder}")
    if passphrase_file is not None:
        identity = settings().identity(as_name, passphrase_file)
        journal(identity).key("ledger", event="export", reason=facts.origin, key=facts.root)


@contextmanager
def _source(
    ledger: str, partner: str | None, card: Path | None, as_name: str | None
) -> Iterator[tuple[Fetch, History]]:
    """A folder of somebody's, or by name one of ours."""
    from counterseal.jobs import ledger as jobs

    path = Path(ledger)
    if path.is_dir():
        owner = _ours(as_name) if as_name is not None else _owner(partner, card)
        yield jobs.folder(path), owner
        return
    if partner is not None or card is not None:
        raise FileNotFoundError(2, "no such folder", ledger)
    history = _ours(as_name)
    with jobs.local(ledger, home=settings().home, owner=history.name) as fetch:
        yield fetch, history


def _ours(as_name: str | None) -> History:
    from counterseal.trust.identity import Identity

    home = settings().home
    return Identity.load_history(as_name or home.only_identity(), home=home)


def _owner(partner: str | None, card: Path | None) -> History:
    from counterseal.trust.card import CardDocument
    from counterseal.trust.history import History

    if (partner is None) == (card is None):
        raise CountersealError(
            "whose ledger is it?", hint="--from PARTNER, or --card FILE if they are not pinned here"
        )
    if partner is not None:
        return settings().partners().get(partner).history
    from counterseal.trust import keyid

    history = History.verify(CardDocument.load(str(card)))
    say(f"the card says it is of {keyid.words(history.newest.key_id)}: nobody has compared that")
    return history


def _statement(path: Path) -> bytes:
    from counterseal.trust import atomic
    from counterseal.wire import limits

    return atomic.read_bounded(path, limits.LEDGER_KEY_BYTES, what="statement of a ledger's key")


def _facts(facts: Facts) -> dict[str, Any]:
    return {
        "origin": facts.origin,
        "entries": facts.entries,
        "root": facts.root,
        "at": facts.at,
        "signatures": facts.signatures,
        "keys": facts.keys,
    }


def _text(facts: Facts) -> str:
    return table(
        {
            "ledger": facts.origin,
            "entries": facts.entries,
            "root": facts.root,
            "signed": f"{facts.at:%Y-%m-%d %H:%M:%S} UTC, {facts.signatures} signatures",
        }
    )


def _entry(entry: Entry) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(entry)
    return plain


def _line(index: int, entry: Entry) -> str:
    """One entry for people: what is not there is not shown."""
    what = [entry.event, entry.action, entry.purpose, entry.decision]
    if entry.charter is not None:
        what.append(f"under {entry.charter.id} v{entry.charter.version}")
    if entry.package is not None:
        what.append(f"package {entry.package}")
    if entry.quota is not None:
        what.append(f"{entry.quota} left")
    if entry.reason is not None:
        what.append(entry.reason)
    said = " ".join(str(one) for one in what if one is not None)
    return f"{index}  {entry.at:%Y-%m-%d %H:%M:%S}  {entry.actor[:8]}  {said}"
