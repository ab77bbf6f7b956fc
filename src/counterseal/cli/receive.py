"""counterseal receive"""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from counterseal.cli.journal import journal
from counterseal.cli.output import bytes_text, emit, fail, say, warn_of_directory, watched
from counterseal.cli.settings import Command, identity_option, passphrase_option, settings
from counterseal.errors import Dropped, TimedOut, UnknownPartner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from counterseal.exchange.transports import Transport
    from counterseal.jobs.receive import Event
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner

PATIENCE: Final = 25.0  # seconds that a follower waits for a letter before it asks again
PAUSE: Final = 5.0  # after a lost way, or when only letters wait that are not good (yet)


@click.command("receive", cls=Command)
@click.option("--from", "sender", multiple=True, metavar="PARTNER", help="[every partner]")
@click.option("--via", metavar="ADDRESS", help="What carries it.  [the partners' address]")
@click.option("-o", "--output", metavar="DIR", default=".", help="Where packages appear.  [.]")
@click.option("--once", is_flag=True, help="Take what is there now.  [this is the default]")
@click.option("--follow", is_flag=True, help="Stay, and take what comes, until interrupted.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=0.0,
    help="If nothing is there, wait so long for something.",
)
@identity_option
@passphrase_option
def command(
    sender: tuple[str, ...],
    via: str | None,
    output: str,
    once: bool,  # noqa: FBT001
    follow: bool,  # noqa: FBT001
    wait: float,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Receive packages, and receipts for what we sent.

    A package appears when it is whole, was sealed by this partner and for us. Interrupted, it
    goes on where it stopped: repeat the command. Then `counterseal open` it. What is refused is
    said, and makes the exit code of what was wrong with it.
    """
    if once and follow:
        raise click.UsageError("--once or --follow, not both")
    from counterseal.jobs.address import addresses_of, open_transport

    folder = Path(output)
    if not folder.is_dir():
        raise FileNotFoundError(2, "no such folder", output)
    book = settings().partners()
    partners = [book.get(name) for name in sender] or book.list()
    if not partners:
        raise UnknownPartner("there is no partner yet", hint="counterseal partner add CARD")
    routes = addresses_of(partners, via, store=settings().home.store)
    identity = settings().identity(as_name, passphrase_file)
    transports = {
        address: (open_transport(address, by=identity, book=book, keep_letters=True), who)
        for address, who in routes.items()
    }
    try:
        if follow:
            _follow(transports, folder, identity)
        else:
            found = 0
            for address, (transport, who) in transports.items():
                found += _pass(transport, who, folder, identity, address=address, wait=wait)
            if not found and not _CODES:
                say("nothing new")
    finally:
        for transport, _ in transports.values():
            transport.close()
    if _CODES:  # something was refused: a script must not take that for success
        click.get_current_context().exit(_CODES[-1])


def _follow(
    transports: Mapping[str, tuple[Transport, Sequence[Partner]]], folder: Path, identity: Identity
) -> None:
    """One way after the other; with a single one, letters are seen at once."""
    patience = PATIENCE if len(transports) == 1 else 0.0
    say("waiting for letters; Ctrl-C ends it")
    while True:
        found = 0
        for address, (transport, who) in transports.items():
            try:
                found += _pass(transport, who, folder, identity, address=address, wait=patience)
            except (Dropped, TimedOut) as error:
                say(f"{error.message}; trying again")
                time.sleep(PAUSE)
        if not found and not patience:
            time.sleep(PAUSE)


LOOK_AGAIN: Final = 600.0  # seconds until a follower looks at the directories again
_NEXT_LOOK: dict[str, float] = {}
_CODES: list[int] = []
_REFUSED: set[tuple[str, str]] = set()


def _pass(
    transport: Transport,
    partners: Sequence[Partner],
    folder: Path,
    identity: Identity,
    *,
    address: str,
    wait: float,
) -> int:
    """Process what waits; returns how many letters were good."""
    from counterseal.jobs.contact import meet
    from counterseal.jobs.receive import receive

    if time.monotonic() >= _NEXT_LOOK.get(address, 0.0):
        partners = meet(
            partners,
            by=identity,
            book=settings().partners(),
            via=transport,
            address=address,
            warn=warn_of_directory,
        )
        _NEXT_LOOK[address] = time.monotonic() + LOOK_AGAIN
    else:
        partners = [settings().partners().get(partner.name) for partner in partners]
    good = 0
    begun = time.monotonic()
    for event in receive(
        folder,
        by=identity,
        partners=partners,
        via=transport,
        wait=wait,
        progress=watched("receiving"),
        ledger=journal(identity),
    ):
        good += _report(event)
    if not good and time.monotonic() - begun < min(wait, PAUSE):
        time.sleep(PAUSE)  # letters that stay, also silently, would be looked at without a pause
    return good


def _report(event: Event) -> int:
    from counterseal.jobs.receive import Arrived, Confirmed

    data = {field.name: getattr(event, field.name) for field in fields(event)}
    if isinstance(event, Arrived):
        emit({"event": "arrived", **data, "path": str(event.path)}, str(event.path))
        kept = f", {bytes_text(event.kept)} of it earlier" if event.kept else ""
        say(f"received {event.path.name} ({bytes_text(event.bytes)}{kept}) from {event.sender}")
        if not event.receipt_sent:
            say(f"{event.sender} does not know yet: the next counterseal receive tries again")
        return 1
    if isinstance(event, Confirmed):
        emit({"event": "confirmed", **data}, f"{event.partner} has {event.file}")
        return 1
    key = (event.sender, event.error.message)
    if event.removed or key not in _REFUSED:  # what stays is refused again with every pass
        _REFUSED.add(key)
        _CODES.append(event.error.exit_code)
        fail(event.error, as_json=settings().json)
    return 0
