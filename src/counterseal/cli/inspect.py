"""counterseal inspect"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from counterseal.cli.output import bytes_text, emit, table
from counterseal.cli.settings import Command, settings

if TYPE_CHECKING:
    from counterseal.jobs.inspect import CardFacts, PackageFacts
    from counterseal.trust.partner import Partner


@click.command("inspect", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def command(file: str) -> None:
    """Say what a package or card is; needs no key.

    Of a package: who sealed it, when, for how many, and whether the signature is good, if
    the sender's card is pinned here. What is inside stays closed.
    """
    from counterseal.jobs.inspect import PackageFacts, inspect

    facts = inspect(file, partners=_known())
    if isinstance(facts, PackageFacts):
        emit({"kind": "package", **_fields(facts)}, _package(facts))
    else:
        emit({"kind": "card", **_fields(facts)}, card_text(facts))


def _known() -> list[Partner]:
    """Whom this home can check: the pinned partners and, of our own packages, ourselves."""
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner

    home = settings().home
    ours = [Identity.load_history(name, home=home) for name in home.identities()]
    known = [Partner(h.name, h, h.newest.card.created) for h in ours]
    if (home.path / "state.db").exists():
        known += settings().partners().list()
    return known


def _fields(facts: PackageFacts | CardFacts) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(facts)


def _package(facts: PackageFacts) -> str:
    protected = f"{facts.forward_secret} of {facts.recipients} recipients"
    if not facts.forward_secret:
        protected = "none: no one-time prekey was used"
    return table(
        {
            "sealed package": facts.package,
            "signature": facts.signature,
            "sender": facts.sender,
            "created": f"{facts.created:%Y-%m-%d %H:%M} UTC",
            "expires": f"{facts.expires:%Y-%m-%d %H:%M} UTC" if facts.expires else "never",
            "charter": facts.charter or "none",
            "recipients": f"{facts.recipients} ({', '.join(facts.kinds)})",
            "forward secrecy": protected,
            "size": bytes_text(facts.size),
        }
    )


def card_text(facts: CardFacts) -> str:
    from counterseal.trust import keyid

    return table(
        {
            "card": facts.name,
            "key id": keyid.words(facts.key_id),
            "in digits": keyid.digits(facts.key_id),
            "in hex": facts.key_id,
            "identity": facts.identity,
            "serial": facts.serial,
            "state": "REVOKED" if facts.revoked else f"until {facts.expires:%Y-%m-%d}",
            "keys": facts.suite,
            "recovery keys": facts.recovery,
        }
    )
