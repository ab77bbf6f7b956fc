"""counterseal id recovery, recover, backup, restore: for the day when something is lost."""

from __future__ import annotations

from pathlib import Path

import click

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
from counterseal.cli.output import emit, say
from counterseal.cli.settings import (
    Command,
    check_output_exists,
    confirm,
    identity_option,
    keystore_option,
    passphrase_option,
    read_new_secret,
    read_passphrase,
    settings,
)
from counterseal.errors import CountersealError

__all__ = ["VERBS"]


@click.command("recovery", cls=Command)
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--keys", default=1, show_default=True, type=click.IntRange(1, 16))
@click.option("--threshold", default=1, show_default=True, type=click.IntRange(1, 16))
@recovery_passphrase
@identity_option
@passphrase_option
def recovery(
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
    identity, secret = unlock(as_name, passphrase_file)
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
    journal(identity).key("recovery")


@click.command("recover", cls=Command)
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Our card, if the home is lost as well; any partner has it.",
)
@recovery_files
@recovery_passphrase
@keystore_option
@click.option("--new-passphrase-file", type=click.Path(), metavar="FILE", help="[asked for]")
@identity_option
def recover(
    card: str | None,
    recovery_files: tuple[str, ...],
    recovery_passphrase_file: str | None,
    keystore: str | None,
    new_passphrase_file: str | None,
    as_name: str | None,
) -> None:
    """Make new keys with recovery keys, when our own or their passphrase are lost.

    What only the old keys could open stays closed. Hand the new card to every partner; those
    who think the old keys were stolen rather than lost: counterseal id revoke comes first.
    --keystore says where the new keys live; without it, where the old ones did.
    """
    from counterseal.trust.card import CardDocument
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

    history = own_history(as_name) if card is None else History.verify(CardDocument.load(card))
    check_recovery(history, len({Path(file).resolve() for file in recovery_files}))
    if not recovery_files:
        raise click.UsageError("which recovery keys? --recovery KEY, for each of them")
    keys = recovery_keys(recovery_files, recovery_passphrase_file)
    check_named(history, recovery_files, keys)
    confirm(f"Replace the keys of {history.name} in {settings().home.path}?")
    home = settings().home
    keystore = keystore or Identity.keystore_spec(history.name, home=home)
    secret = read_new_secret(
        new_passphrase_file, history.name, keystore, option="--new-passphrase-file FILE"
    )
    identity = Identity.recover(
        history, home=home, passphrase=secret, recovery_keys=keys, keystore=keystore
    )
    changed(identity, "recovered")
    journal(identity).key("recover")


@click.command("backup", cls=Command)
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
    identity, _ = unlock(as_name, passphrase_file)
    secret = read_passphrase(
        backup_passphrase_file,
        "New passphrase of the backup",
        confirm=True,
        option="--backup-passphrase-file FILE",
    )
    atomic.write_whole(Path(output), backups.make(identity, secret), mode=0o600, replace=False)
    emit({"backup": output, "name": identity.name}, output)
    journal(identity).key("backup", event="export")


@click.command("restore", cls=Command)
@click.argument("backup_file", metavar="BACKUP", type=click.Path(exists=True, dir_okay=False))
@click.option("--backup-passphrase-file", type=click.Path(), metavar="FILE", help="[asked for]")
@keystore_option
@click.option("--without-keys", is_flag=True, help="All but the keys: their token is lost.")
@passphrase_option
def restore(
    backup_file: str,
    backup_passphrase_file: str | None,
    keystore: str | None,
    *,
    without_keys: bool,
    passphrase_file: str | None,
) -> None:
    """Put an identity back from a backup; its passphrase becomes the identity's.

    The half of a key that is in a token is in no backup: name the token with --keystore, and
    its PIN is asked for. If the token is lost, --without-keys and then `id recover`.
    """
    from counterseal.trust import atomic
    from counterseal.trust import backup as backups
    from counterseal.wire import limits

    secret = read_passphrase(
        backup_passphrase_file,
        "Passphrase of the backup",
        option="--backup-passphrase-file FILE",
    )
    data = atomic.read_bounded(Path(backup_file), limits.BACKUP_BYTES, what="backup")
    home = settings().home
    try:
        if without_keys:
            history = backups.restore_without_keys(data, secret, home=home)
            emit({"name": history.name, "key_id": history.newest.key_id}, history.name)
            say("no keys yet: counterseal id recover --recovery KEY makes new ones")
            return
        pin = b""
        if keystore is not None:
            pin = read_passphrase(passphrase_file, "PIN of the token")
        identity = backups.restore(data, secret, home=home, pin=pin, keystore=keystore or "")
    except FileExistsError as error:
        hint = "--home DIR restores it elsewhere"
        raise CountersealError(str(error), hint=hint) from error
    emit({"name": identity.name, "key_id": identity.key_id}, identity.name)
    say("if you rotated or opened packages since the backup: rotate now, and ask your partners")


VERBS = (recovery, recover, backup, restore)
