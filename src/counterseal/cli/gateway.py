"""counterseal gateway"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from counterseal.cli.charter_steps import book_of
from counterseal.cli.output import emit, say
from counterseal.cli.serve import state_option
from counterseal.cli.settings import Group, identity_option, passphrase_option, settings


@click.group("gateway", cls=Group)
def command() -> None:
    """Our gateway, while it runs or not: revocation, versions, monitoring.

    What is changed here is in force with the next request, and stands in the ledger of every
    charter that it touches.
    """


@command.command("suspend")
@click.argument("grain", type=click.Choice(["session", "charter", "model", "version", "partner"]))
@click.argument("subject")
@click.option("--reason", metavar="TEXT", help="Shown to the partner.")
@state_option
@identity_option
@passphrase_option
def suspend(
    grain: str,
    subject: str,
    reason: str | None,
    state: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Take back a session, charter, model, version (NAME@1.4.0) or partner, at once.

    \b
      counterseal gateway suspend version scan@1.4.0 --reason "wrong on children"
      counterseal gateway suspend session 5f0c...
    """
    take_back(grain, subject, reason, state, as_name, passphrase_file)


def take_back(
    grain: str,
    subject: str,
    reason: str | None,
    state: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """The same for `partner suspend`, which names a partner."""
    from counterseal.jobs.gateway import administration

    named, subject = subject, _identified(grain, subject, as_name)
    identity = settings().identity(as_name, passphrase_file)
    with administration(book_of(as_name), by=identity, home=settings().home, url=state) as owner:
        failed = owner.revoke(grain, subject, reason=reason, at=datetime.now(UTC))
    emit({"suspended": grain, "subject": subject}, f"{grain} {named} is suspended")
    for error in failed:
        say(f"but its ledger could not be written: {error.message}")


@command.command("resume")
@click.argument("grain", type=click.Choice(["charter", "model", "version", "partner"]))
@click.argument("subject")
@state_option
@identity_option
@passphrase_option
def resume(
    grain: str,
    subject: str,
    state: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Give back what `suspend` took. A charter suspended by a signed step needs both sides."""
    give_back(grain, subject, state, as_name, passphrase_file)


def give_back(
    grain: str, subject: str, state: str | None, as_name: str | None, passphrase_file: str | None
) -> None:
    from counterseal.jobs.gateway import administration

    named, subject = subject, _identified(grain, subject, as_name)
    identity = settings().identity(as_name, passphrase_file)
    with administration(book_of(as_name), by=identity, home=settings().home, url=state) as owner:
        changed = owner.lift(grain, subject)
    said = "may go on" if changed else "was not suspended"
    emit({"resumed": grain, "subject": subject, "changed": changed}, f"{grain} {named} {said}")


def _identified(grain: str, subject: str, as_name: str | None) -> str:
    """Partners and charters may be named as everywhere else."""
    if grain == "partner" and len(subject) != 64:
        return settings().partners().get(subject).identity
    if grain == "charter":
        return book_of(as_name).find(subject).charter.id
    return subject


@command.command("clear")
@click.argument("charter")
@state_option
@identity_option
@passphrase_option
def clear(
    charter: str, state: str | None, as_name: str | None, passphrase_file: str | None
) -> None:
    """Take a charter off the ladder of its monitoring, after somebody has looked."""
    from counterseal.jobs.gateway import administration

    book = book_of(as_name)
    agreed = book.find(charter).charter
    identity = settings().identity(as_name, passphrase_file)
    with administration(book, by=identity, home=settings().home, url=state) as owner:
        owner.clear(agreed)
    emit({"cleared": agreed.id}, f'"{agreed.title}" is off the ladder')


@command.command("alias")
@click.argument("model")
@click.argument("alias", default="default")
@click.option("--to", metavar="VERSION", help="Where it points from now on.")
@click.option("--back", is_flag=True, help="Where it pointed before.")
@state_option
@identity_option
@passphrase_option
def alias(
    model: str,
    alias: str,
    to: str | None,
    back: bool,  # noqa: FBT001
    state: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Point a name at a version; `default` is for calls that name none.

    \b
      counterseal gateway alias scan --to 1.5.0
      counterseal gateway alias scan --back            roll back
    """
    from counterseal.jobs.gateway import administration

    if (to is None) != back:
        raise click.UsageError("say --to VERSION, or --back")
    identity = settings().identity(as_name, passphrase_file)
    with administration(book_of(as_name), by=identity, home=settings().home, url=state) as owner:
        version = owner.point(model, alias, to)
    emit({"model": model, "alias": alias, "version": version}, f"{model} {alias}: {version}")


@command.command("canary")
@click.argument("model")
@click.option("--to", metavar="VERSION", help="Try this version.")
@click.option("--percent", type=click.FloatRange(0, 100), default=5, show_default=True)
@click.option("--shadow", is_flag=True, help="It sees a copy of every call; nobody its answers.")
@click.option("--end", is_flag=True, help="No more.")
@state_option
@identity_option
@passphrase_option
def canary(
    model: str,
    to: str | None,
    percent: float,
    shadow: bool,  # noqa: FBT001
    end: bool,  # noqa: FBT001
    state: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Let a share of the sessions call another version, or a shadow see what they call."""
    from counterseal.jobs.gateway import administration

    if (to is None) != end:
        raise click.UsageError("say --to VERSION, or --end")
    identity = settings().identity(as_name, passphrase_file)
    with administration(book_of(as_name), by=identity, home=settings().home, url=state) as owner:
        owner.try_out(model, to, permille=round(percent * 10), shadow=shadow)
    text = f"{model}: nothing is tried out" if to is None else f"{model}: {to} is tried out"
    emit({"model": model, "version": to, "percent": percent, "shadow": shadow}, text)
