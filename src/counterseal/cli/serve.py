"""counterseal serve"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from counterseal.cli.address import host_and_port
from counterseal.cli.charter_steps import book_of
from counterseal.cli.output import emit, say
from counterseal.cli.settings import (
    Command,
    identity_option,
    passphrase_option,
    read_passphrase,
    secret_of,
    settings,
)
from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from counterseal.charter.chain import Chain
    from counterseal.jobs.serve import Plan

state_option = click.option(
    "--state",
    metavar="URL",
    envvar="COUNTERSEAL_STATE",
    help="Keep the state in PostgreSQL, for several nodes: postgresql://HOST/DB; passwords belong "
    "in a file (PGPASSFILE).  [env: COUNTERSEAL_STATE]",
)


@click.command("serve", cls=Command)
@click.argument("models", nargs=-1, required=True, metavar="NAME[@VERSION]=MODEL...")
@click.option(
    "--under",
    "charters",
    multiple=True,
    required=True,
    metavar="CHARTER",
    help="The charter of a partner who may call; several times for several partners.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8443",
    show_default=True,
    help="Where to listen; 0.0.0.0:8443 is every address.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="What partners call this machine: names and addresses in its certificate.",
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    help="Calls of the model at the same time, in each process.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="NAME=ROWS.npy",
    help="Rows that are normal for a model: what the charter's detectors compare with.",
)
@click.option(
    "--trust-type",
    "trusted",
    multiple=True,
    metavar="TYPE",
    help="A type that a skops file may build beside the known ones.",
)
@click.option(
    "--upstream-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The API key of upstream servers (MODEL as oip+https://... or openai+https://...).",
)
@click.option(
    "--node",
    metavar="NAME",
    default="node",
    help="What this node is called, if several share one state.",
)
@state_option
@identity_option
@passphrase_option
def command(
    models: tuple[str, ...],
    charters: tuple[str, ...],
    listen: str,
    hosts: tuple[str, ...],
    workers: int,
    threads: int,
    references: tuple[str, ...],
    trusted: tuple[str, ...],
    upstream_key: Path | None,
    node: str,
    state: str | None,
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Offer models by API under charters that both sides signed, until interrupted.

    \b
      counterseal serve scan=scan.onnx --under clinic
      counterseal serve scan@1.4.0=old.onnx scan@1.5.0=new.onnx --under clinic --workers 4

    Open Inference Protocol v2 (/v2) and OpenAI's API (/v1) over mutual TLS; partners begin with
    `counterseal session open`. Every call is checked against the charter, counted, and written
    into its ledger.
    """
    from counterseal.jobs.serve import ModelSource, Plan, check
    from counterseal.trust.identity import Identity, check_name

    check_name(node)
    host, port = host_and_port(listen)
    chosen = as_name or settings().home.only_identity()
    book = book_of(as_name)
    plan = Plan(
        models=[ModelSource.parse(one) for one in models],
        charters=charters,
        references=_references(references),
        hosts=hosts or _names(host),
        workers=workers,
        threads=threads,
        state=_checked(state),
        node=node,
        trusted=trusted,
        upstream_key=upstream_key,
    )
    us = Identity.load_history(chosen, home=settings().home)
    chains = check(plan, book, us=us.identity, at=datetime.now(UTC))
    secret = read_passphrase(passphrase_file, secret_of(chosen))
    Identity.load(chosen, home=settings().home, passphrase=secret).close()  # wrong: say so now
    with _listening(host, port, listen) as sock:
        address = _url(chosen, plan.hosts[0], sock.getsockname()[1])
        _run(plan, chains, chosen, secret, sock, address)


def _run(
    plan: Plan,
    chains: Sequence[Chain],
    name: str,
    secret: bytes,
    sock: socket.socket,
    address: str,
) -> None:
    from counterseal.jobs.serve import run_worker
    from counterseal.jobs.workers import run_workers
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity

    path = settings().home.path
    settings().home.close()  # a connection does not cross a fork

    def work(number: int, ready: Callable[[], None]) -> None:
        home = Home(path)
        identity = Identity.load(name, home=home, passphrase=secret)
        run_worker(plan, chains, by=identity, home=home, number=number, sock=sock, ready=ready)

    def ready() -> None:
        emit({"event": "serving", "url": address}, address)
        say("serving; Ctrl-C ends it")

    run_workers(work, plan.workers, say=say, ready=ready)


def _listening(host: str, port: int, listen: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise CountersealError(
            f"cannot listen on {listen}: "
            + (os.strerror(error.errno) if error.errno else str(error)).lower(),
            hint="--listen HOST:PORT with a free port",
        ) from None


def _names(host: str) -> tuple[str, ...]:
    """What a certificate says if nobody told: this machine, and where it listens."""
    if host in {"127.0.0.1", "::1", "localhost"}:
        return ("localhost", "127.0.0.1", "::1")
    everywhere = host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not listened on
    return (socket.getfqdn(), "localhost", "127.0.0.1") if everywhere else (host,)


def _url(name: str, host: str, port: int) -> str:
    return f"https://{name}@{f'[{host}]' if ':' in host else host}:{port}"


def _references(texts: tuple[str, ...]) -> dict[str, Path]:
    found = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise click.UsageError(f"--reference {text!r}: write NAME=ROWS.npy")
        found[name] = Path(path)
    return found


def _checked(url: str | None) -> str | None:
    """Arguments are for everybody on the machine to read."""
    from urllib.parse import urlsplit

    if url is not None and urlsplit(url).password and os.environ.get("COUNTERSEAL_STATE") != url:
        raise CountersealError(
            "a password on the command line can be read by every user of this machine",
            hint="put it into a file (PGPASSFILE), or the URL into COUNTERSEAL_STATE",
        )
    return url
