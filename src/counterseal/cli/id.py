"""counterseal id"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from counterseal.cli import certified, id_safety, init
from counterseal.cli.inspect import card_text
from counterseal.cli.journal import journal
from counterseal.cli.ours import (
    changed,
    check_named,
    check_recovery,
    own_history,
    recovery_files,
    recovery_keys,
    recovery_passphrase,
    unlock,
)
from counterseal.cli.output import count_text, emit
from counterseal.cli.settings import (
    Group,
    check_folder_exists,
    check_output_exists,
    confirm,
    identity_option,
    keystore_option,
    passphrase_option,
    place_of,
    read_new_secret,
    read_passphrase,
    settings,
)

if TYPE_CHECKING:
    from counterseal.trust.history import History
    from counterseal.trust.succession import Reason


@click.group("id", cls=Group)
def command() -> None:
    """Our identity: show, rotate, revoke, back up."""


for verb in id_safety.VERBS:
    command.add_command(verb)
command.add_command(init.command, "create")
command.add_command(certified.certify)


@command.command("list")
def list_identities() -> None:
    """List the identities in this home."""
    from counterseal.trust import keyid

    histories = [own_history(name) for name in settings().home.identities()]
    emit(
        [{"name": h.name, "key_id": h.newest.key_id} for h in histories],
        "\n".join(f"{h.name}  {keyid.words(h.newest.key_id)}" for h in histories)
        or "no identity yet: counterseal init NAME",
    )


@command.command("show")
@identity_option
def show(as_name: str | None) -> None:
    """Show our card, key id and where the keys are."""
    from counterseal.cli.inspect import _fields
    from counterseal.jobs.inspect import card_facts

    facts = card_facts(own_history(as_name))
    place = place_of(facts.name)
    emit({**_fields(facts), "keystore": place}, f"{card_text(facts)}\nkept in        {place}")


@command.command("card")
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="[NAME.card]")
@click.option("--statement-key", is_flag=True, help="Print the PEM for `model_signing verify key`.")
@identity_option
def card(output: str | None, statement_key: bool, as_name: str | None) -> None:  # noqa: FBT001
    """Write our card: what partners pin."""
    history = own_history(as_name)
    if statement_key:
        print_statement_key(history)
        return
    if output == "-":
        click.echo(history.document.encode(), nl=False)
        return
    path = Path(output or f"{history.name}.card")
    check_folder_exists(str(path))
    history.document.save(path)
    emit({"card": str(path), "key_id": history.newest.key_id}, str(path))


@command.command("rotate")
@recovery_files
@recovery_passphrase
@keystore_option
@click.option("--new-passphrase-file", type=click.Path(), metavar="FILE", help="With --keystore.")
@identity_option
@passphrase_option
def rotate(
    recovery_files: tuple[str, ...],
    recovery_passphrase_file: str | None,
    keystore: str | None,
    new_passphrase_file: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Replace our keys; the old key signs the new card.

    Partners take it over with `counterseal partner refresh`. What was sealed to the old key
    can still be opened; what we sealed with it stays good for two weeks. With --keystore the
    new keys are made in a token; the old ones stay in the file, until `forget-old-keys`.
    """
    identity, secret = unlock(as_name, passphrase_file)
    if keystore is not None:
        secret = read_new_secret(
            new_passphrase_file, identity.name, keystore, option="--new-passphrase-file FILE"
        )
    check_recovery(identity.history, len({Path(file).resolve() for file in recovery_files}))
    keys = recovery_keys(recovery_files, recovery_passphrase_file)
    check_named(identity.history, recovery_files, keys)
    identity.rotate(passphrase=secret, recovery_keys=keys, keystore=keystore or "")
    changed(identity, "rotated")
    journal(identity).key("rotate")


@command.command("revoke")
@click.option("--reason", type=click.Choice(["compromised", "lost", "ended"]), required=True)
@click.option("--key-id", metavar="HEX", help="Which card.  [the newest]")
@recovery_files
@recovery_passphrase
@identity_option
@passphrase_option
def revoke(
    reason: str,
    key_id: str | None,
    recovery_files: tuple[str, ...],
    recovery_passphrase_file: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Withdraw a key for good, and everything it ever signed.

    Only recovery keys can make a new card after the newest one is revoked. Hand the changed
    card to every partner.
    """
    identity, _ = unlock(as_name, passphrase_file)
    confirm(f"Revoke a key of {identity.name} for good?")
    keys = recovery_keys(recovery_files, recovery_passphrase_file)
    which = key_id or identity.key_id
    if any(card.key_id == which and card.revoked is None for card in identity.history.cards):
        journal(identity).key("revoke", key=which, reason=reason)  # while the card can sign
    identity.revoke(reason=cast("Reason", reason), which=key_id, recovery_keys=keys)
    changed(identity, "revoked")


@command.command("passphrase")
@click.option("--new-passphrase-file", type=click.Path(), metavar="FILE", help="[asked for]")
@identity_option
@passphrase_option
def passphrase(
    new_passphrase_file: str | None, as_name: str | None, passphrase_file: str | None
) -> None:
    """Change the passphrase of our keys.

    Of keys in a TPM, their PIN. The PIN of a PKCS#11 token is changed with the token's own tool.
    """
    identity, _ = unlock(as_name, passphrase_file)
    new = read_passphrase(
        new_passphrase_file, "New passphrase", confirm=True, option="--new-passphrase-file FILE"
    )
    identity.change_passphrase(new)
    emit({"name": identity.name}, identity.name)
    journal(identity).key("passphrase")


@command.command("prekeys")
@click.argument("partner")
@click.option("--count", default=20, show_default=True, type=click.IntRange(1, 2000))
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="[US-for-PARTNER.prekeys]")
@identity_option
@passphrase_option
def prekeys(
    partner: str,
    count: int,
    output: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Make one-time prekeys for PARTNER: each gives one package forward secrecy.

    Hand the file to PARTNER, who adds it with `counterseal partner refresh`.
    """
    from counterseal.trust import atomic
    from counterseal.wire import canonical

    theirs = settings().partners().get(partner)
    identity, _ = unlock(as_name, passphrase_file)
    path = Path(output or f"{identity.name}-for-{partner}.prekeys")
    check_output_exists(str(path))
    envelope = identity.make_prekeys(theirs.history, count, at=datetime.now(UTC))
    atomic.write_whole(path, canonical.encode(envelope) + b"\n")
    emit({"prekeys": str(path), "count": count, "partner": partner}, str(path))
    journal(identity).key("prekeys", partner=theirs.history.identity)


@command.command("forget-old-keys")
@identity_option
@passphrase_option
def forget_old_keys(as_name: str | None, passphrase_file: str | None) -> None:
    """Delete the private keys of replaced cards: what was sealed to them stays closed."""
    identity, secret = unlock(as_name, passphrase_file)
    confirm("Packages sealed to old keys can never be opened. Go on?")
    gone = identity.forget_old_keys(passphrase=secret)
    expired = identity.prekeys.delete_expired(at=datetime.now(UTC))
    emit({"forgotten": gone, "expired_prekeys": expired}, f"{count_text(gone, 'old key')} deleted")
    journal(identity).key("forget-old-keys")


def print_statement_key(history: History) -> None:
    from counterseal.crypto.statement import public_pem

    pem = public_pem(history.newest.card.statement).decode()
    emit({"name": history.name, "pem": pem}, pem.rstrip())
