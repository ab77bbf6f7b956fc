"""counterseal charter usage, partner suspend, partner resume: what belongs to other nouns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from counterseal.cli.output import count_text, emit
from counterseal.cli.serve import state_option
from counterseal.cli.settings import Command, identity_option, passphrase_option, settings

__all__ = ["resume_partner", "suspend_partner", "usage"]


@click.command("usage", cls=Command)
@click.argument("charter", required=False)
@click.option(
    "--session",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Ask the partner's gateway, within this session.",
)
@state_option
@identity_option
@passphrase_option
def usage(
    charter: str | None,
    folder: Path | None,
    state: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """What was used under a charter: quotas, rate, refusals with where the charter says so.

    \b
      owner:    counterseal charter usage scan
      partner:  counterseal charter usage --session session
    """
    if (charter is None) == (folder is None):
        raise click.UsageError("say which CHARTER of ours, or --session DIR at a partner's gateway")
    if folder is not None:
        from counterseal.gateway.client.calling import Session
        from counterseal.jobs.session import read_session

        with Session(read_session(folder)) as session:
            facts = dict(session.usage.facts)
    else:
        from counterseal.cli.charter_steps import book_of
        from counterseal.jobs import gateway

        chain = book_of(as_name).find(str(charter))
        identity = settings().identity(as_name, passphrase_file)
        facts = gateway.usage(chain, by=identity, home=settings().home, url=state)
    emit(facts, _text(facts))


@click.command("suspend", cls=Command)
@click.argument("partner")
@click.option("--reason", metavar="TEXT", help="Shown to the partner.")
@state_option
@identity_option
@passphrase_option
def suspend_partner(
    partner: str,
    reason: str | None,
    state: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Refuse everything that a partner asks of our gateway, from the next request on."""
    from counterseal.cli.gateway import take_back

    take_back("partner", partner, reason, state, as_name, passphrase_file)


@click.command("resume", cls=Command)
@click.argument("partner")
@state_option
@identity_option
@passphrase_option
def resume_partner(
    partner: str, state: str | None, as_name: str | None, passphrase_file: str | None
) -> None:
    """Let a suspended partner go on."""
    from counterseal.cli.gateway import give_back

    give_back("partner", partner, state, as_name, passphrase_file)


def _text(facts: dict[str, Any]) -> str:
    lines = [f"{facts['title']}: {facts['state']}, until {facts['ends']}"]
    for one in facts["quotas"]:
        left = max(0, one["count"] - one["used"])
        again = f", again at {one['resets_at']}" if one["resets_at"] else ""
        lines.append(f"{one['unit']} a {one['period']}: {left} of {one['count']} left{again}")
    rate = facts["rate"]
    if rate is not None:
        lines.append(f"{rate['count']} requests in {rate['seconds']} s, {rate['burst']} at once")
    if facts["rung"] is not None:
        lines.append(f"monitoring: {facts['rung']}, at a risk of {facts['risk']}")
    lines.append(
        f"{count_text(facts['entries'], 'entry').replace('entrys', 'entries')} in the ledger, "
        f"{facts['calls']} calls among the last {facts['recent']}"
    )
    lines += [
        f"refused {count_text(one['times'], 'time')}: {one['policy']}, last at {one['last']}"
        for one in facts["refusals"]
    ]
    return "\n".join(lines)
