"""counterseal session"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from counterseal.charter.document import Role
from counterseal.cli.charter_steps import book_of
from counterseal.cli.output import count_text, emit, say, table
from counterseal.cli.settings import Group, identity_option, passphrase_option, settings
from counterseal.errors import CharterDenied

if TYPE_CHECKING:
    from counterseal.gateway.client.opening import Opened

session_option = click.option(
    "--session",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default="session",
    show_default=True,
    envvar="COUNTERSEAL_SESSION",
    help="The folder of an open session.  [env: COUNTERSEAL_SESSION]",
)
role_option = click.option(
    "--role",
    type=click.Choice(get_args(Role)),
    help="As what we come.  [the first role that the charter lets do something]",
)


@click.group("session", cls=Group)
def command() -> None:
    """Sessions at a partner's gateway: open, show, close, verify what they left behind."""


@command.command("open")
@click.argument("url", metavar="https://PARTNER@HOST:PORT")
@click.option("--under", "charter", metavar="CHARTER", help="The charter that we call under.")
@click.option("--owner", is_flag=True, help="Our own gateway, to administer it.")
@click.option("--purpose", metavar="WORD", help="One of the charter's.  [the only one there is]")
@role_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default="session",
    show_default=True,
    help="Where the session is kept: as good as the session itself.",
)
@identity_option
@passphrase_option
def open_(
    url: str,
    charter: str | None,
    owner: bool,  # noqa: FBT001
    purpose: str | None,
    role: Role | None,
    output: Path,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Prove who we are once, and keep what other people's clients need for their calls.

    \b
      counterseal session open https://lab@lab.example:8443 --under scan
      counterseal call scan --input rows.npy
      curl -K session/curl.conf https://lab.example:8443/v2/models/scan
    """
    from counterseal.jobs import session

    if (charter is None) != owner:
        raise click.UsageError("say --under CHARTER, or --owner for our own gateway")
    book = book_of(as_name)
    agreed = None if charter is None else book.find(charter).charter
    if agreed is None:
        role, purpose = role or "owner", None
    else:
        role = role or agreed.permissions[0].roles[0]
        if purpose is None:
            if len(agreed.purpose.allowed) != 1:
                raise CharterDenied(
                    "the charter has several purposes, and a session has one",
                    hint=f"--purpose, one of {', '.join(agreed.purpose.allowed)}",
                )
            (purpose,) = agreed.purpose.allowed
    session.check_place(output)
    identity = settings().identity(as_name, passphrase_file)
    opened = session.open_at(
        url,
        by=identity,
        book=settings().partners(),
        charter=agreed,
        role=role,
        purpose=purpose,
    )
    session.keep(opened, output)
    if opened.charter is not None:
        from counterseal.jobs.witness import hand_out

        hand_out(identity.store, opened.us, opened.charter, opened.digest)
    emit({**_facts(opened), "path": str(output)}, str(output))
    say(f"open until {opened.grant.until:%Y-%m-%d %H:%M} UTC; whoever has {output} may call")


@command.command("show")
@session_option
def show(folder: Path) -> None:
    """What the session in a folder is."""
    from counterseal.jobs.session import read_session

    facts = _facts(read_session(folder))
    emit(facts, table({key: value for key, value in facts.items() if value is not None}))


@command.command("close")
@session_option
def close(folder: Path) -> None:
    """End the session at the gateway, and delete its folder."""
    from counterseal.gateway.client.calling import Session
    from counterseal.jobs.session import forget, read_session

    opened = read_session(folder)
    with Session(opened) as session:
        session.end()
    forget(folder)
    emit({"closed": opened.grant.session}, "closed")


@command.command("verify")
@click.argument("url", metavar="https://PARTNER@HOST:PORT")
@click.option("--under", "charter", required=True, metavar="CHARTER")
@identity_option
@passphrase_option
def verify(url: str, charter: str, as_name: str | None, passphrase_file: str | None) -> None:
    """Verify the charter's ledger against our own calls, and cosign what we saw.

    Every call that counterseal made for us has to stand there once and unaltered, nothing that
    we did not do, and all that we saw before. Calls of other programs within our sessions are
    counted. It opens a session of its own, as a role that may read the ledger.
    """
    from counterseal.gateway.client.calling import Session
    from counterseal.jobs import session, witness

    agreed = book_of(as_name).find(charter).charter
    readers = [one for one in agreed.partner.roles if one in agreed.audit.readers]
    if not readers:
        raise CharterDenied("the charter lets no role of ours read the ledger")
    identity = settings().identity(as_name, passphrase_file)
    partners = settings().partners()
    opened = session.open_at(
        url,
        by=identity,
        book=partners,
        charter=agreed,
        role=readers[0],
        purpose=agreed.purpose.allowed[0],
    )
    owner = partners.by_identity(agreed.owner.identity)
    with Session(opened) as line:
        if owner is None:
            raise CharterDenied("the owner of this charter is not pinned here")
        found = witness.verify(line, by=identity, owner=owner.history)
        line.end()
    emit(
        found,
        table(
            {
                "ledger": found.origin,
                "entries": found.entries,
                "root": found.root,
                "signed": f"{found.at:%Y-%m-%d %H:%M:%S} UTC",
                "ours": f"{count_text(found.settled, 'call')} found, {found.waiting} not in it yet",
                "others": f"{count_text(found.others, 'call')} by programs of ours",
            }
        ),
    )
    end = "cosigned" if found.cosigned else "not cosigned, for it went on meanwhile: try again"
    say(f"all of it verifies, and goes on from what we saw before; {end}")


def _facts(opened: Opened) -> dict[str, Any]:
    return {
        "url": f"https://{opened.host}:{opened.port}",
        "session": opened.grant.session,
        "charter": opened.charter,
        "role": opened.role,
        "purpose": opened.purpose,
        "until": f"{opened.grant.until:%Y-%m-%dT%H:%M:%SZ}",
        "idle_seconds": opened.grant.idle_seconds,
    }
