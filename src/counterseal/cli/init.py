"""counterseal init"""

from __future__ import annotations

from pathlib import Path

import click

from counterseal.cli.output import emit, say
from counterseal.cli.settings import (
    Command,
    check_folder_exists,
    passphrase_option,
    read_passphrase,
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
@passphrase_option
def command(name: str, card: str | None, hardware_suite: bool, passphrase_file: str | None) -> None:  # noqa: FBT001
    """Make an identity and its card.

    NAME is how partners will see you: a-z, 0-9, dot, hyphen. Hand NAME.card to a partner
    and read them the key id over the phone.
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
    secret = read_passphrase(passphrase_file, f"New passphrase for {name}", confirm=True)
    identity = Identity.create(name, home=home, passphrase=secret, hardware=hardware_suite)
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
        },
        f"{words}\n{digits}",
    )
    say(f"identity {name} is in {home.path}; hand {path} to partners and read them the key id")
    say("no recovery key yet: counterseal id recovery FOLDER makes some to keep offline")
