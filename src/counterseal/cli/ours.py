"""What the verbs of `id` share: our history, our unlocked identity, recovery keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from counterseal.cli.output import emit, say
from counterseal.cli.settings import read_passphrase, secret_of, settings
from counterseal.errors import CountersealError, RevokedKey, TrustError

if TYPE_CHECKING:
    from counterseal.crypto.signing import SigningKey
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

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


def own_history(name: str | None) -> History:
    from counterseal.trust.identity import Identity

    home = settings().home
    return Identity.load_history(name or home.only_identity(), home=home)


def unlock(as_name: str | None, passphrase_file: str | None) -> tuple[Identity, bytes]:
    from counterseal.trust.identity import Identity

    home = settings().home
    name = as_name or home.only_identity()
    Identity.load_history(name, home=home)
    secret = read_passphrase(passphrase_file, secret_of(name))
    return Identity.load(name, home=home, passphrase=secret), secret


def recovery_keys(files: tuple[str, ...], passphrase_file: str | None) -> list[SigningKey]:
    from counterseal.trust import recovery as recoveries

    if not files:
        return []
    secret = read_passphrase(
        passphrase_file,
        "Passphrase of the recovery keys",
        option="--recovery-passphrase-file FILE",
    )
    return [recoveries.load(Path(file), secret) for file in files]


def check_recovery(history: History, given: int) -> None:
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


def check_named(history: History, files: tuple[str, ...], keys: list[SigningKey]) -> None:
    from counterseal.trust.card import SigningPublic

    named = history.newest.card.recovery.keys
    for file, key in zip(files, keys, strict=True):
        if SigningPublic.of(key.public) not in named:
            raise TrustError(
                f"{file} is no recovery key of our newest card",
                hint="perhaps newer ones were made since: counterseal id recovery",
            )


def changed(identity: Identity, how: str) -> None:
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
