"""counterseal mailbox"""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from counterseal.cli.address import host_and_port
from counterseal.cli.output import emit, say
from counterseal.cli.settings import Group, identity_option, passphrase_option, settings
from counterseal.errors import CountersealError


@click.group("mailbox", cls=Group)
def command() -> None:
    """Store and forward for partners who cannot reach each other."""


@command.command("serve")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8443",
    show_default=True,
    help="Where to listen; 0.0.0.0:8443 is every address.",
)
@click.option(
    "--root", type=click.Path(), metavar="DIR", help="Where it keeps things.  [HOME/mailbox]"
)
@click.option(
    "--quota",
    type=click.IntRange(min=1),
    metavar="GIB",
    default=64,
    show_default=True,
    help="What each client may keep there.",
)
@click.option("--log", is_flag=True, help="A line for each request, without names.")
@identity_option
@passphrase_option
def serve(
    listen: str,
    root: str | None,
    quota: int,
    log: bool,  # noqa: FBT001
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Run a mailbox until interrupted. Its clients are the partners pinned in this home.

    \b
      relay:   counterseal partner add lab.card;  counterseal partner add clinic.card
               counterseal mailbox serve --listen 0.0.0.0:8443
      lab:     counterseal send scan.sealed --to clinic --via https://relay@relay.example:8443
      clinic:  counterseal receive --via https://relay@relay.example:8443

    It learns who its clients are, when they come, sizes, and who may fetch what; never what is
    inside. TLS 1.3 with X25519MLKEM768 only; clients and mailbox prove who they are inside.
    """
    from dataclasses import replace

    from counterseal.exchange.transports.https.limits import Limits
    from counterseal.jobs.mailbox import serve as run

    host, port = host_and_port(listen)
    identity = settings().identity(as_name, passphrase_file)
    book = settings().partners()
    if not book.list():
        say("nobody may use it yet: counterseal partner add CARD, now or while it runs")
    place = Path(root) if root is not None else settings().home.path / "mailbox"
    try:
        mailbox, server = run(
            place,
            by=identity,
            book=book,
            host=host,
            port=port,
            limits=replace(Limits(), stored_bytes=quota << 30),
            log=say if log else lambda _: None,
        )
    except OSError as error:
        raise CountersealError(
            f"cannot listen on {listen}: {(error.strerror or str(error)).lower()}",
            hint="--listen HOST:PORT with a free port",
        ) from None
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        where = f"https://{identity.name}@{host}:{server.port}"
        emit({"event": "serving", "via": where}, where)
        say("serving; Ctrl-C ends it")
        ended.wait()
    finally:
        server.close()
        mailbox.close()
