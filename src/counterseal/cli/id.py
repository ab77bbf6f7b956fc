"""counterseal id"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from counterseal.cli.inspect import card_text
from counterseal.cli.output import emit, say
from counterseal.cli.settings import (
    Group,
    check_folder_exists,
    check_output_exists,
    confirm,
    identity_option,
    passphrase_option,
    read_passphrase,
    settings,
)
from counterseal.errors import CountersealError, RevokedKey, TrustError

if TYPE_CHECKING:
    from counterseal.crypto.signing import SigningKey
    from counterseal.jobs.inspect import CardFacts
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity
    from counterseal.trust.succession import Reason

recovery_files = click.option(
    "--recovery",
    "recovery_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="KEY",
    help="A recovery key file, instead of the lost or stolen key. Repeatable.",
)
recovery_passphrase = click.option(
    "--recovery-passphrase-file",
    type=click.Path(),
    metavar="FILE",
    help="Read the recovery keys' passphrase from FILE.",
)


@click.group("id", cls=Group)
def command() -> None:
    """Our identity: show, rotate, revoke, back up."""


@command.command("list")
def list_identities() -> None:
    """List the identities in this home."""
    from counterseal.trust import keyid

    histories = [_history(name) for name in settings().home.identities()]
    emit(
        [{"name": h.name, "key_id": h.newest.key_id} for h in histories],
        "\n".join(f"{h.name}  {keyid.words(h.newest.key_id)}" for h in histories)
        or "no identity yet: counterseal init NAME",
    )


@command.command("show")
@identity_option
def show(as_name: str | None) -> None:
    """Show our card and key id; needs no passphrase."""
    from counterseal.cli.inspect import _fields

    facts = _facts(_history(as_name))
    emit(_fields(facts), card_text(facts))


@command.command("card")
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="[NAME.card]")
@click.option("--statement-key", is_flag=True, help="Print the PEM for `model_signing verify key`.")
@identity_option
def card(output: str | None, statement_key: bool, as_name: str | None) -> None:  # noqa: FBT001
    """Write our card: what partners pin."""
    history = _history(as_name)
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
@identity_option
@passphrase_option
def rotate(
    recovery_files: tuple[str, ...],
    recovery_passphrase_file: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Replace our keys; the old key signs the new card.

    Partners take it over with `counterseal partner refresh`. What was sealed to the old key
    can still be opened; what we sealed with it stays good for two weeks.
    """
    identity, secret = _unlock(as_name, passphrase_file)
    _check_recovery(identity.history, len({Path(file).resolve() for file in recovery_files}))
    keys = _recovery_keys(recovery_files, recovery_passphrase_file)
    _check_named(identity.history, recovery_files, keys)
    identity.rotate(passphrase=secret, recovery_keys=keys)
    _changed(identity, "rotated")


@command.command("revoke")
@click.option("--reason", type=click.Choice(["compromised", "lost", "ended"]), required=True)
@click.option("--key-id", metavar="HEX", help="Which card.  [the newest]")
@recovery_files
@recovery_passphrase
@identity_option
@passphrase_option
def revoke(  # noqa: PLR0917
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
    identity, _ = _unlock(as_name, passphrase_file)
    confirm(f"Revoke a key of {identity.name} for good?")
    keys = _recovery_keys(recovery_files, recovery_passphrase_file)
    identity.revoke(reason=cast("Reason", reason), which=key_id, recovery_keys=keys)
    _changed(identity, "revoked")


@command.command("recovery")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--keys", default=1, show_default=True, type=click.IntRange(1, 16))
@click.option("--threshold", default=1, show_default=True, type=click.IntRange(1, 16))
@recovery_passphrase
@identity_option
@passphrase_option
def recovery(  # noqa: PLR0917
    folder: str,
    keys: int,
    threshold: int,
    recovery_passphrase_file: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Make recovery keys in FOLDER, and a new card that names them.

    Keep FOLDER offline: --threshold of its keys can replace a lost or stolen key.
    """
    from counterseal.crypto.signing import SigningKey
    from counterseal.trust import recovery as recoveries

    if threshold > keys:
        raise click.UsageError(f"--threshold {threshold} of {keys} keys")
    identity, secret = _unlock(as_name, passphrase_file)
    made = [SigningKey.generate() for _ in range(keys)]
    target = Path(folder)
    paths = [target / f"{identity.name}-recovery-{n}.key" for n in range(1, keys + 1)]
    for path in paths:
        if path.exists():
            raise CountersealError(f"{path} exists", hint="choose another folder")
    theirs = read_passphrase(
        recovery_passphrase_file,
        "New passphrase of the recovery keys",
        confirm=True,
        option="--recovery-passphrase-file FILE",
    )
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key, path in zip(made, paths, strict=True):
        recoveries.save(key, path, theirs)
    identity.rotate(passphrase=secret, recovery=recoveries.public_part(made, threshold=threshold))
    emit(
        {"keys": [str(p) for p in paths], "threshold": threshold, "key_id": identity.key_id},
        "\n".join(str(p) for p in paths),
    )
    say(f"{threshold} of {keys} recovery keys; move {folder} offline, then hand out the new card")


@command.command("backup")
@click.argument("output", type=click.Path())
@click.option("--backup-passphrase-file", type=click.Path(), metavar="FILE", help="[asked for]")
@identity_option
@passphrase_option
def backup(
    output: str,
    backup_passphrase_file: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Write an encrypted backup of keys, partners and marks to OUTPUT.

    One-time prekeys are not in it: a backup that could open old packages would undo their
    forward secrecy.
    """
    from counterseal.trust import atomic
    from counterseal.trust import backup as backups

    check_output_exists(output)
    identity, _ = _unlock(as_name, passphrase_file)
    secret = read_passphrase(
        backup_passphrase_file,
        "New passphrase of the backup",
        confirm=True,
        option="--backup-passphrase-file FILE",
    )
    atomic.write_whole(Path(output), backups.make(identity, secret), mode=0o600, replace=False)
    emit({"backup": output, "name": identity.name}, output)


@command.command("restore")
@click.argument("backup_file", metavar="BACKUP", type=click.Path(exists=True, dir_okay=False))
@click.option("--backup-passphrase-file", type=click.Path(), metavar="FILE", help="[asked for]")
def restore(backup_file: str, backup_passphrase_file: str | None) -> None:
    """Put an identity back from a backup; its passphrase becomes the identity's."""
    from counterseal.trust import atomic
    from counterseal.trust import backup as backups
    from counterseal.wire import limits

    secret = read_passphrase(
        backup_passphrase_file,
        "Passphrase of the backup",
        option="--backup-passphrase-file FILE",
    )
    data = atomic.read_bounded(Path(backup_file), limits.BACKUP_BYTES, what="backup")
    try:
        identity = backups.restore(data, secret, home=settings().home)
    except FileExistsError as error:
        hint = "--home DIR restores it elsewhere"
        raise CountersealError(str(error), hint=hint) from error
    emit({"name": identity.name, "key_id": identity.key_id}, identity.name)
    say("if you rotated or opened packages since the backup: rotate now, and ask your partners")


@command.command("passphrase")
@click.option("--new-passphrase-file", type=click.Path(), metavar="FILE", help="[asked for]")
@identity_option
@passphrase_option
def passphrase(
    new_passphrase_file: str | None, as_name: str | None, passphrase_file: str | None
) -> None:
    """Change the passphrase of our keys."""
    identity, _ = _unlock(as_name, passphrase_file)
    new = read_passphrase(
        new_passphrase_file, "New passphrase", confirm=True, option="--new-passphrase-file FILE"
    )
    identity.change_passphrase(new)
    emit({"name": identity.name}, identity.name)


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
    identity, _ = _unlock(as_name, passphrase_file)
    path = Path(output or f"{identity.name}-for-{partner}.prekeys")
    check_output_exists(str(path))
    envelope = identity.make_prekeys(theirs.history, count, at=datetime.now(UTC))
    atomic.write_whole(path, canonical.encode(envelope) + b"\n")
    emit({"prekeys": str(path), "count": count, "partner": partner}, str(path))


@command.command("forget-old-keys")
@identity_option
@passphrase_option
def forget_old_keys(as_name: str | None, passphrase_file: str | None) -> None:
    """Delete the private keys of replaced cards: what was sealed to them stays closed."""
    identity, secret = _unlock(as_name, passphrase_file)
    confirm("Packages sealed to old keys can never be opened. Go on?")
    gone = identity.forget_old_keys(passphrase=secret)
    expired = identity.prekeys.delete_expired(at=datetime.now(UTC))
    emit({"forgotten": gone, "expired_prekeys": expired}, f"{gone} old keys deleted")


def print_statement_key(history: History) -> None:
    from counterseal.crypto.statement import public_pem

    pem = public_pem(history.newest.card.statement).decode()
    emit({"name": history.name, "pem": pem}, pem.rstrip())


def _history(name: str | None) -> History:
    from counterseal.trust.identity import Identity

    home = settings().home
    return Identity.load_history(name or home.only_identity(), home=home)


def _facts(history: History) -> CardFacts:
    from counterseal.jobs.inspect import card_facts

    return card_facts(history)


def _unlock(as_name: str | None, passphrase_file: str | None) -> tuple[Identity, bytes]:
    from counterseal.trust.identity import Identity

    home = settings().home
    name = as_name or home.only_identity()
    Identity.load_history(name, home=home)
    secret = read_passphrase(passphrase_file, f"Passphrase of {name}")
    return Identity.load(name, home=home, passphrase=secret), secret


def _recovery_keys(files: tuple[str, ...], passphrase_file: str | None) -> list[SigningKey]:
    from counterseal.trust import recovery as recoveries

    if not files:
        return []
    secret = read_passphrase(
        passphrase_file,
        "Passphrase of the recovery keys",
        option="--recovery-passphrase-file FILE",
    )
    return [recoveries.load(Path(file), secret) for file in files]


def _check_recovery(history: History, given: int) -> None:
    """Say what is missing before the history says it in terms of signatures."""
    recovery = history.newest.card.recovery
    if history.newest.revoked is not None and not recovery.keys:
        raise RevokedKey(
            "our own key is revoked, and there are no recovery keys to replace it",
            hint="counterseal init NEW-NAME; partners compare and pin its card afresh",
        )
    if history.newest.revoked is not None and not given:
        raise RevokedKey(
            "our own key is revoked: only recovery keys can make a new card",
            hint=f"counterseal id rotate --recovery KEY ({recovery.threshold} of them)",
        )
    if 0 < given < recovery.threshold:
        raise TrustError(
            f"{given} of {recovery.threshold} recovery keys: not enough",
            hint="repeat --recovery KEY for each of them",
        )


def _check_named(history: History, files: tuple[str, ...], keys: list[SigningKey]) -> None:
    from counterseal.trust.card import SigningPublic

    named = history.newest.card.recovery.keys
    for file, key in zip(files, keys, strict=True):
        if SigningPublic.of(key.public) not in named:
            raise TrustError(
                f"{file} is no recovery key of our newest card",
                hint="perhaps newer ones were made since: counterseal id recovery",
            )


def _changed(identity: Identity, how: str) -> None:
    from counterseal.trust import keyid

    path = Path(f"{identity.name}.card")
    try:
        identity.card().save(path)
    except OSError as error:
        raise CountersealError(
            f"{how}, but {path} could not be written: {error.strerror}",
            hint="counterseal id card -o FILE",
        ) from error
    words = keyid.words(identity.key_id)
    emit({"name": identity.name, "key_id": identity.key_id, "card": str(path)}, words)
    say(f"{how}; hand {path} to every partner: counterseal partner refresh {identity.name} {path}")
