"""counterseal init"""

from __future__ import annotations

from pathlib import Path

import click

from counterseal.cli.output import emit, say
from counterseal.cli.settings import (
    Command,
    check_folder_exists,
    keystore_option,
    passphrase_option,
    place_of,
    read_new_secret,
    settings,
)
from counterseal.errors import CountersealError


@click.command("init", cls=Command)
@click.argument("name")
@click.option("--card", type=click.Path(), metavar="FILE", help="Where to write the card.")
@click.option(
    "--hardware-suite",
    is_flag=True,
    help="Use the P-256 halves that hardware tokens can hold, instead of X25519 and Ed25519.",
)
@keystore_option
@passphrase_option
def command(
    name: str,
    card: str | None,
    *,
    hardware_suite: bool,
    keystore: str | None,
    passphrase_file: str | None,
) -> None:
    """Make an identity and its card.

    NAME is how partners will see you: a-z, 0-9, dot, hyphen. Hand NAME.card to a partner
    and read them the key id over the phone. With --keystore one half of each key is made in
    a token and never leaves it; the token's PIN takes the place of the passphrase.
    """
    from counterseal.trust import keyid
    from counterseal.trust.identity import Identity, check_name

    check_name(name)
    path = card or f"{name}.card"
    home = settings().home
    if name in home.identities():
        raise CountersealError(
            f"there is an identity {name} in {home.path} already",
            hint="counterseal id card writes its card; another name makes another identity",
        )
    check_folder_exists(path)
    if Path(path).exists():
        raise CountersealError(f"{path} exists", hint="--card FILE writes the card elsewhere")
    secret = read_new_secret(passphrase_file, name, keystore)
    identity = Identity.create(
        name, home=home, passphrase=secret, hardware=hardware_suite, keystore=keystore or "file"
    )
    identity.card().save(Path(path))
    words, digits = keyid.words(identity.key_id), keyid.digits(identity.key_id)
    emit(
        {
            "name": name,
            "key_id": identity.key_id,
            "words": words,
            "digits": digits,
            "card": path,
            "home": str(home.path),
            "keystore": place_of(name),
        },
        f"{words}\n{digits}",
    )
    say(f"identity {name} is in {home.path}; hand {path} to partners and read them the key id")
    if keystore is not None:
        say(f"its keys: {place_of(name)}")
    say("no recovery key yet: counterseal id recovery FOLDER makes some to keep offline")
