"""Where partners are reached, as commands remember it."""

from __future__ import annotations

from pathlib import Path

import click

from counterseal.cli.settings import settings


def remember_address(name: str, via: str, *, relay: str | None = None) -> None:
    """`relay` fills in who runs a mailbox, if the address does not say."""
    from counterseal.jobs.address import parse
    from counterseal.trust.addresses import AddressBook

    place = parse(via)
    if place.scheme == "file":  # it must mean the same folder wherever we are called from
        via = str(Path(place.path).expanduser().absolute())
    elif place.scheme == "https" and place.user is None and relay is not None:
        via = f"https://{relay}@{place.host}:{place.port}"
    AddressBook(settings().home.store).set(name, via)


def host_and_port(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise click.UsageError(f"--listen {listen!r}: write HOST:PORT, such as 0.0.0.0:8443")
    return host.strip("[]"), int(port)
