"""counterseal partner invite, accept"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from counterseal.cli.output import emit, say
from counterseal.cli.settings import Command, identity_option, passphrase_option, settings

if TYPE_CHECKING:
    from counterseal.errors import CountersealError
    from counterseal.jobs.pairing import Contact, Met

_via = click.option(
    "--via",
    required=True,
    metavar="ADDRESS",
    help="Where both sides meet: a folder, s3://, https://NAME@HOST:PORT, mqtts://HOST:PORT.",
)
_name = click.option("--name", metavar="NAME", help="What we call them.  [the card's name]")
_wait = click.option(
    "--wait",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    default=600.0,
    show_default=True,
    help="How long to wait for the other side.",
)


@click.command("invite", cls=Command)
@_via
@click.option(
    "--words", type=click.Choice(["3", "4"]), default="3", show_default=True, help="In the code."
)
@click.option("--again", type=int, metavar="NUMBER", help="Go on waiting with an earlier code.")
@_name
@_wait
@identity_option
@passphrase_option
def invite(
    via: str,
    words: str,
    again: int | None,
    name: str | None,
    wait: float,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Meet a partner: print a short code, read it to them, wait until they typed it.

    \b
      lab:     counterseal partner invite --via ADDRESS        prints 4711-hobby-valid-actor
      clinic:  counterseal partner accept 4711-hobby-valid-actor --via ADDRESS

    Then both have pinned the other's card; no key ids need comparing. The code is good for one
    partner, three attempts and one hour. Say it over the phone, or face to face: whoever hears
    it in time can answer in your partner's place.
    """
    from counterseal.jobs import pairing
    from counterseal.jobs.address import open_rendezvous

    identity = settings().identity(as_name, passphrase_file)
    if again is None:
        invitation = pairing.new_invitation(identity, at=datetime.now(UTC), words=int(words))
    else:
        invitation = pairing.open_invitation(identity, again)
    book = settings().partners()
    slot, transport = open_rendezvous(via, invitation.slot, us="inviter", by=identity, book=book)
    try:
        emit({"event": "invited", "code": invitation.code.spoken}, invitation.code.spoken)
        say("read this to your partner, who types: counterseal partner accept CODE --via ...")
        met = pairing.invite(
            invitation,
            slot,
            us=identity,
            book=book,
            name=name,
            contact=_contact(via),
            wait=wait,
            refused=_refused,
        )
        slot.close()
    finally:
        transport.close()
    _report(met, via)


@click.command("accept", cls=Command)
@click.argument("code", nargs=-1, required=True)
@_via
@_name
@_wait
@identity_option
@passphrase_option
def accept(
    code: tuple[str, ...],
    via: str,
    name: str | None,
    wait: float,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Answer an invitation: type the code that the partner read to you.

    A word that is none is told at once. A wrong code costs one of three attempts.
    """
    from counterseal.jobs import pairing
    from counterseal.jobs.address import open_rendezvous
    from counterseal.trust.pairing_code import Code

    parsed = Code.parse(" ".join(code))
    identity = settings().identity(as_name, passphrase_file)
    book = settings().partners()
    slot, transport = open_rendezvous(via, parsed.slot, us="accepter", by=identity, book=book)
    try:
        met = pairing.accept(parsed, slot, us=identity, book=book, name=name, wait=wait)
    finally:
        transport.close()
    _report(met, via)


def _contact(via: str) -> Contact | None:
    """Who runs the mailbox, so that the partner can use it from now on."""
    from counterseal.jobs.address import parse
    from counterseal.jobs.pairing import Contact

    place = parse(via)
    if place.scheme != "https" or place.user is None:
        return None
    relay = settings().partners().get(place.user)
    return Contact(kind="contact", format=1, relay=relay.name, card=relay.history.document)


def _refused(error: CountersealError) -> None:
    say(f"somebody tried: {error.message}" + (f" ({error.hint})" if error.hint else ""))


def _report(met: Met, via: str) -> None:
    from counterseal.cli.address import remember_address

    partner = met.partner
    remember_address(partner.name, via, relay=met.relay.name if met.relay else None)
    emit(
        {
            "event": "met",
            "name": partner.name,
            "key_id": partner.key_id,
            "transcript": met.transcript,
            "relay": met.relay.name if met.relay else None,
        },
        partner.name,
    )
    relay = f"; the mailbox is run by {met.relay.name}, pinned as well" if met.relay else ""
    say(f"{partner.name} is pinned until {partner.history.newest.card.expires:%Y-%m-%d}{relay}")
