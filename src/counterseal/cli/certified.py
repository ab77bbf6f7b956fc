"""counterseal id certify, and the way back for `partner add --ca`"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from counterseal.cli.output import emit, say
from counterseal.cli.settings import (
    Command,
    check_output_exists,
    identity_option,
    passphrase_option,
    read_passphrase,
    settings,
)

if TYPE_CHECKING:
    from counterseal.trust.history import History


@click.command("certify", cls=Command)
@click.option(
    "--chain",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Our certificate first, then intermediate ones (PEM).",
)
@click.option(
    "--key",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The private key of our certificate (PEM).",
)
@click.option(
    "--key-passphrase-file", type=click.Path(), metavar="FILE", help="If that key is encrypted."
)
@click.option("-o", "--output", metavar="FILE", help="[NAME.certified]")
@identity_option
@passphrase_option
def certify(
    chain: Path,
    key: Path,
    key_passphrase_file: str | None,
    output: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Write our card with the word of our organization's CA for it.

    A partner who trusts that CA can pin it without comparing key ids:
    `counterseal partner add NAME.certified --ca CA.pem --domain NAME.example`.
    """
    from counterseal.trust import atomic, certified
    from counterseal.wire import limits

    identity = settings().identity(as_name, passphrase_file)
    target = output or f"{identity.name}.certified"
    check_output_exists(target)
    secret = None
    if key_passphrase_file is not None:
        secret = read_passphrase(key_passphrase_file, "Passphrase of the certificate's key")
    data = certified.certify(
        identity,
        chain_pem=atomic.read_bounded(chain, limits.MIB, what="certificate chain"),
        key_pem=atomic.read_bounded(key, limits.MIB, what="private key"),
        at=datetime.now(UTC),
        passphrase=secret,
    )
    atomic.write_whole(Path(target), data, replace=False)
    emit({"output": target}, target)
    say("good for 30 days; then make a new one")


def verified(card: Path, *, ca: Path, domain: str) -> History:
    """The card in a certified file, if this CA says that it is of `domain`."""
    from counterseal.trust import atomic, certified
    from counterseal.wire import limits

    return certified.verify(
        atomic.read_bounded(card, limits.CARD_DOCUMENT_BYTES + limits.MIB, what="certified card"),
        ca_pem=atomic.read_bounded(ca, limits.MIB, what="CA certificate"),
        name=domain,
        at=datetime.now(UTC),
    )
