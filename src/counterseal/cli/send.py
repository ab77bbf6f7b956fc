"""counterseal send"""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from counterseal.cli.journal import journal
from counterseal.cli.output import bytes_text, emit, progress, say, warn_of_directory, watched
from counterseal.cli.settings import (
    STALE,
    Command,
    identity_option,
    passphrase_option,
    settings,
    stale_option,
)
from counterseal.errors import TimedOut

if TYPE_CHECKING:
    from counterseal.exchange.outbox import Posted
    from counterseal.exchange.transports import Transport
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner

RECEIPT_SECONDS: Final = 5.0  # for a partner who had the last block just now


@click.command("send", cls=Command)
@click.argument("package", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--to", metavar="PARTNER", help="Whose it is.")
@click.option("--via", metavar="ADDRESS", help="What carries it.  [the partner's address]")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait so long for the partner's receipt; without one, exit with 7.",
)
@stale_option
@click.option("--list", "list_", is_flag=True, help="List what was sent, and what was confirmed.")
@identity_option
@passphrase_option
def command(
    package: str | None,
    to: str | None,
    via: str | None,
    wait: float | None,
    stale_directory: bool,  # noqa: FBT001
    list_: bool,  # noqa: FBT001
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Send a sealed package to a partner.

    \b
      counterseal send scan.sealed --to clinic --via https://relay@mail.example:8443
      counterseal send scan.sealed --to clinic --via mqtts://broker.example:8883
      counterseal send scan.sealed --to clinic --via /media/stick

    Whatever carries it learns sizes and a box number. Interrupted, it goes on where it stopped:
    repeat the command. ADDRESS is a folder, s3:// gs:// az://, https://NAME@HOST:PORT (a mailbox
    that partner NAME runs) or mqtts://[USER@]HOST:PORT?ca=FILE&password-file=FILE.
    """
    if list_:
        _list(as_name, passphrase_file)
        return
    if package is None or to is None:
        raise click.UsageError("counterseal send PACKAGE --to PARTNER")
    from counterseal.jobs.address import address_of, open_transport
    from counterseal.jobs.contact import meet
    from counterseal.jobs.receive import listen
    from counterseal.jobs.send import send

    partner = settings().partners().get(to)
    via = address_of(partner.name, via, store=settings().home.store)
    identity = settings().identity(as_name, passphrase_file)
    transport = open_transport(via, by=identity, book=settings().partners())
    try:
        (partner,) = meet(
            [partner],
            by=identity,
            book=settings().partners(),
            via=transport,
            address=via,
            warn=warn_of_directory,
        )
        partner.usable(at=datetime.now(UTC), overdue=STALE if stale_directory else timedelta(0))
        if wait is not None or transport.live:  # a broker brings a receipt to who listens already
            listen(by=identity, to=partner, via=transport)
        sent = send(
            package,
            by=identity,
            to=partner,
            via=transport,
            listing=progress("listing"),
            progress=watched("sending"),
            ledger=journal(identity),
        )
        emit({"event": "sent", "via": via, **dataclasses.asdict(sent)}, sent.letter)
        again = ", continuing an earlier attempt" if sent.continued else ""
        say(f"sent {sent.file} ({bytes_text(sent.bytes)}) to {to}{again}")
        if wait is not None:
            _await(sent.letter, partner, identity, transport, wait)
        elif transport.live:
            with contextlib.suppress(TimedOut):
                _await(sent.letter, partner, identity, transport, RECEIPT_SECONDS)
    finally:
        transport.close()


def _await(
    letter: str, partner: Partner, identity: Identity, transport: Transport, wait: float
) -> None:
    from counterseal.jobs.receive import await_receipt

    at = await_receipt(letter, by=identity, of=partner, via=transport, wait=wait)
    emit(
        {"event": "confirmed", "letter": letter, "at": at},
        f"{partner.name} has it since {at:%Y-%m-%d %H:%M:%S} UTC",
    )


def _state(one: Posted) -> str:
    if one.confirmed is not None:
        return f"confirmed {one.confirmed:%Y-%m-%d %H:%M}"
    return "sent" if one.state == "posted" else "not finished: send it again"


def _list(as_name: str | None, passphrase_file: str | None) -> None:
    from counterseal.exchange.outbox import Outbox

    identity = settings().identity(as_name, passphrase_file)
    names = {partner.identity: partner.name for partner in settings().partners().list()}
    posted = Outbox(identity).list()
    lines = [
        f"{one.at:%Y-%m-%d %H:%M}  {one.file} to {names.get(one.partner, one.partner[:16])}: "
        + _state(one)
        for one in posted
    ]
    emit(
        [
            {
                "letter": one.letter,
                "to": names.get(one.partner, one.partner),
                "file": one.file,
                "package": one.package,
                "bytes": one.bytes,
                "at": one.at,
                "confirmed": one.confirmed,
            }
            for one in posted
        ],
        "\n".join(lines) or "nothing was sent yet",
    )
