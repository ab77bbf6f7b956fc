"""counterseal partner"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from counterseal.cli import pairing
from counterseal.cli.inspect import _fields, card_text
from counterseal.cli.output import emit, say, table
from counterseal.cli.settings import Group, confirm, settings
from counterseal.cli.usage import resume_partner, suspend_partner
from counterseal.errors import FormatError, TrustError

if TYPE_CHECKING:
    from counterseal.trust.history import History
    from counterseal.wire.dsse import Envelope


@click.group("partner", cls=Group)
def command() -> None:
    """Partners: meet one, pin a card, refresh it, list."""


command.add_command(pairing.invite)
command.add_command(pairing.accept)
command.add_command(suspend_partner)
command.add_command(resume_partner)


@command.command("add")
@click.argument("card", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--key-id", metavar="WORDS", help="What the partner read aloud: words, digits or hex."
)
@click.option("--name", metavar="NAME", help="What we call them.  [the card's name]")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust the word of this CA (PEM) instead; CARD is a file of `id certify`.",
)
@click.option("--domain", metavar="NAME", help="Whose certificate --ca must have signed.")
def add(
    card: str, key_id: str | None, name: str | None, ca: Path | None, domain: str | None
) -> None:
    """Pin a partner's card, once.

    The card may come over any line. The key id must not: have the partner read it to you over
    the phone. Without --key-id it is shown for comparison and asked for. `partner invite` needs
    neither; with --ca and --domain a certificate authority vouches for the card.
    """
    if (ca is None) != (domain is None) or (ca is not None and key_id is not None):
        raise click.UsageError("--ca FILE goes with --domain NAME and without --key-id")
    if ca is not None and domain is not None:
        _pin_certified(Path(card), ca, domain, name)
        return
    from counterseal.trust import keyid
    from counterseal.trust.card import CardDocument
    from counterseal.trust.history import History
    from counterseal.trust.partner import Partner

    document = CardDocument.load(card)
    history = History.verify(document)
    offered = history.newest.key_id
    if key_id is None:
        if not sys.stdin.isatty():
            raise TrustError(
                "a card is trusted only after its key id was compared",
                hint="--key-id 'the words the partner read to you'",
            )
        click.echo(f"{keyid.words(offered)}\n{keyid.digits(offered)}", err=True)
        question = f"Does {history.name} read the same words or digits to you?"
        click.confirm(question, abort=True, err=True)
        key_id = offered
    partner = Partner.pin(document, key_id=key_id, name=name)
    settings().partners().add(partner)
    emit({"name": partner.name, "key_id": partner.key_id}, partner.name)
    say(f"{partner.name} is pinned until {history.newest.card.expires:%Y-%m-%d}")


@command.command("list")
def list_partners() -> None:
    """List pinned partners and the state of their keys."""
    partners = settings().partners().list()
    now = datetime.now(UTC)
    emit(
        [{"name": p.name, "key_id": p.key_id, "state": state(p.history, now)} for p in partners],
        table({p.name: state(p.history, now) for p in partners})
        if partners
        else "no partner yet: counterseal partner add CARD",
    )


@command.command("show")
@click.argument("name")
@click.option("--statement-key", is_flag=True, help="Print the PEM for `model_signing verify key`.")
def show(name: str, statement_key: bool) -> None:  # noqa: FBT001
    """Show a pinned partner's card and key id."""
    from counterseal.cli.id import print_statement_key
    from counterseal.jobs.inspect import card_facts

    partner = settings().partners().get(name)
    if statement_key:
        print_statement_key(partner.history)
        return
    facts = card_facts(partner.history)
    prekeys = len(partner.prekeys.keys) if partner.prekeys else 0
    emit(
        {**_fields(facts), "called": name, "prekeys": prekeys},
        f"{card_text(facts)}\nprekeys from them: {prekeys} (some may be used up)",
    )


@command.command("refresh")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def refresh(name: str, file: str) -> None:
    """Take over a partner's newer card (rotation, revocation) or a bundle of prekeys.

    Needs no new comparison: the new card must continue the pinned history. An older or a
    contradicting one is refused.
    """
    from counterseal.trust import atomic, prekeys
    from counterseal.trust.card import CardDocument
    from counterseal.wire import canonical, limits
    from counterseal.wire.dsse import Envelope

    book = settings().partners()
    book.get(name)
    data = atomic.read_bounded(Path(file), limits.CARD_DOCUMENT_BYTES, what="card").strip()
    if f'"payloadType":"{prekeys.PREKEYS_TYPE}"'.encode() in data[-65536:]:
        envelope = canonical.decode(
            data, Envelope, limit=limits.PREKEY_BUNDLE_BYTES, what="prekey bundle"
        )
        count = _add_prekeys(name, envelope)
        emit({"name": name, "prekeys": count}, name)
        say(f"{count} prekeys of {name}: as many packages get forward secrecy")
        return
    before, after = book.refresh(name, CardDocument.parse(data))
    now = datetime.now(UTC)
    emit(
        {"name": name, "key_id": after.key_id, "changed": before.key_id != after.key_id}
        | {"state": state(after.history, now)},
        name,
    )
    say(f"{name}: {state(after.history, now)}, card {after.history.newest.card.serial}")


@command.command("address")
@click.argument("name")
@click.argument("via", required=False, metavar="[ADDRESS]")
def address(name: str, via: str | None) -> None:
    """Show or set where a partner is reached, so that `--via` need not be typed.

    ADDRESS is a folder, s3:// gs:// az://, https://NAME@HOST:PORT or mqtts://HOST:PORT: see
    `counterseal send --help`. What answers there must prove who it is all the same.
    """
    from counterseal.cli.address import remember_address
    from counterseal.trust.addresses import AddressBook

    settings().partners().get(name)
    if via is not None:
        remember_address(name, via)
    known = AddressBook(settings().home.store).get(name)
    emit({"name": name, "via": known}, known or f"no address of {name} is known")


@command.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget a partner. Packages from them are refused from then on."""
    from counterseal.trust.addresses import AddressBook

    book = settings().partners()
    book.get(name)
    confirm(f"Forget {name}, and that we compared their key id?")
    book.remove(name)
    AddressBook(settings().home.store).remove(name)
    emit({"removed": name}, name)


def state(history: History, now: datetime) -> str:
    """One word or two about a history's newest card."""
    newest = history.newest
    if newest.revoked is not None:
        return f"REVOKED ({newest.revoked.reason})"
    if newest.card.expired(at=now):
        return f"EXPIRED on {newest.card.expires:%Y-%m-%d}"
    return f"good until {newest.card.expires:%Y-%m-%d}"


def _pin_certified(card: Path, ca: Path, domain: str, name: str | None) -> None:
    from counterseal.cli.certified import verified
    from counterseal.trust.partner import Partner

    history = verified(card, ca=ca, domain=domain)
    partner = Partner.pin(history.document, key_id=history.newest.key_id, name=name)
    settings().partners().add(partner)
    emit({"name": partner.name, "key_id": partner.key_id}, partner.name)
    say(f"{partner.name} is pinned on the word of the CA for {domain}")


def _add_prekeys(name: str, envelope: Envelope) -> int:
    """Find which of our identities the bundle was made for."""
    from counterseal.trust.identity import Identity

    home = settings().home
    now = datetime.now(UTC)
    failure: TrustError | None = None
    for ours in home.identities():
        us = Identity.load_history(ours, home=home)
        try:
            partner = settings().partners().add_prekeys(name, envelope, us=us, at=now)
        except TrustError as error:
            failure = error
        else:
            return len(partner.prekeys.keys) if partner.prekeys else 0
    raise failure or FormatError("there is no identity here the prekeys could be for")
