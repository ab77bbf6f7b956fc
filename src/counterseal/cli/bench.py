"""counterseal bench"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import click

from counterseal.cli.settings import Group, settings

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+) *([KMG]iB)?", str(value), re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is no size; write 256MiB or 1GiB", param, ctx)
        return int(found[1]) * _UNITS[(found[2] or "").upper()]


@click.group("bench", cls=Group)
def bench() -> None:
    """Measure this machine against peers and baselines."""


@bench.command("exchange")
@click.option("--profile", type=click.Choice(["quick", "full"]), default="full", show_default=True)
@click.option("--size", type=_Size(), help="Size of the model.  [default: 1GiB; quick: 2MiB]")
@click.option("--runs", type=click.IntRange(min=1), help="Turns kept.  [default: 7; quick: 3]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("/dev/shm"),  # noqa: S108 - only a new private folder in it is written
    show_default=True,
    help="Where to work; best a tmpfs, or the disk is measured.",
)
@click.option("--only", metavar="LIST", help="Scenarios, with commas: seal,open,load,...")
@click.option("--output", type=click.Path(path_type=Path), help="Keep the raw result as JSON.")
def exchange(
    *,
    profile: str,
    size: int | None,
    runs: int | None,
    folder: Path,
    only: str | None,
    output: Path | None,
) -> None:
    """Seal, open and load, beside cp, age and safetensors."""
    from counterseal.bench import exchange as scenarios
    from counterseal.bench import report

    chosen = scenarios.PROFILES[profile]
    chosen = dataclasses.replace(chosen, size=size or chosen.size, runs=runs or chosen.runs)
    wanted = only.split(",") if only else scenarios.SCENARIOS
    raw = scenarios.run(chosen, folder=folder, only=wanted, say=_say)
    _print(raw, report.markdown(raw), output)


@bench.command("handshake")
@click.option("--profile", type=click.Choice(["quick", "full"]), default="full", show_default=True)
@click.option("--runs", type=click.IntRange(min=1), help="Turns.  [default: 15; quick: 3]")
@click.option("--output", type=click.Path(path_type=Path), help="Keep the raw result as JSON.")
def handshake(*, profile: str, runs: int | None, output: Path | None) -> None:
    """Agree on keys: ours beside TLS, RSA, ECDH, ML-KEM and passwords; up to 1000 partners."""
    from counterseal.bench import handshake as scenarios
    from counterseal.bench import handshake_report

    chosen = scenarios.PROFILES[profile]
    chosen = dataclasses.replace(chosen, runs=runs or chosen.runs)
    raw = scenarios.run(chosen, say=_say)
    _print(raw, handshake_report.markdown(raw), output)


@bench.command("transfer")
@click.option("--profile", type=click.Choice(["quick", "full"]), default="full", show_default=True)
@click.option("--size", type=_Size(), help="Of the package.  [default: 512MiB; quick: 8MiB]")
@click.option("--runs", type=click.IntRange(min=1), help="Turns kept.  [default: 5; quick: 2]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("/dev/shm"),  # noqa: S108 - only a new private folder in it is written
    show_default=True,
    help="Where to work; best a tmpfs, or the disk is measured.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Keep the raw result as JSON.")
def transfer(
    *, profile: str, size: int | None, runs: int | None, folder: Path, output: Path | None
) -> None:
    """Carry a package: HTTPS beside a bare TLS socket, MQTT over mosquitto, and resume."""
    from counterseal.bench import transfer as scenarios
    from counterseal.bench import transfer_report

    chosen = scenarios.PROFILES[profile]
    chosen = dataclasses.replace(chosen, size=size or chosen.size, runs=runs or chosen.runs)
    raw = scenarios.run(chosen, folder=folder, say=_say)
    _print(raw, transfer_report.markdown(raw), output)


@bench.command("charter")
@click.option("--profile", type=click.Choice(["quick", "full"]), default="full", show_default=True)
@click.option("--runs", type=click.IntRange(min=1), help="Turns kept.  [default: 9; quick: 2]")
@click.option("--output", type=click.Path(path_type=Path), help="Keep the raw result as JSON.")
def charter(*, profile: str, runs: int | None, output: Path | None) -> None:
    """Decide under 1 to 10,000 charters, and prove what a new version changes."""
    from counterseal.bench import charter as scenarios
    from counterseal.bench import charter_report

    chosen = scenarios.PROFILES[profile]
    chosen = dataclasses.replace(chosen, runs=runs or chosen.runs)
    raw = scenarios.run(chosen, say=_say)
    _print(raw, charter_report.markdown(raw), output)


@bench.command("ledger")
@click.option("--profile", type=click.Choice(["quick", "full"]), default="full", show_default=True)
@click.option("--runs", type=click.IntRange(min=1), help="Turns kept.  [default: 7; quick: 2]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(gettempdir()),
    help="Where to work: on the disk that is meant.  [default: the system's temporary folder]",
)
@click.option("--output", type=click.Path(path_type=Path), help="Keep the raw result as JSON.")
def ledger(*, profile: str, runs: int | None, folder: Path, output: Path | None) -> None:
    """Durable entries beside SQLite alone, and verification beside Go's."""
    from counterseal.bench import ledger as scenarios
    from counterseal.bench import ledger_report

    chosen = scenarios.PROFILES[profile]
    chosen = dataclasses.replace(chosen, runs=runs or chosen.runs)
    raw = scenarios.run(chosen, folder=folder, say=_say)
    _print(raw, ledger_report.markdown(raw), output)


@bench.command("gateway")
@click.option("--profile", type=click.Choice(["quick", "full"]), default="full", show_default=True)
@click.option("--runs", type=click.IntRange(min=1), help="Turns kept.  [default: 5; quick: 2]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(gettempdir()),
    help="Where to work: on the disk that is meant.  [default: the system's temporary folder]",
)
@click.option(
    "--mlserver",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="PYTHON",
    help="A Python that has mlserver and mlserver-sklearn, to compare with.",
)
@click.option(
    "--postgres",
    metavar="URL",
    envvar="COUNTERSEAL_BENCH_POSTGRES",
    help="A server where a database may be made and dropped: two nodes are measured, too.  "
    "[env: COUNTERSEAL_BENCH_POSTGRES]",
)
@click.option("--output", type=click.Path(path_type=Path), help="Keep the raw result as JSON.")
def gateway(
    *,
    profile: str,
    runs: int | None,
    folder: Path,
    mlserver: Path | None,
    postgres: str | None,
    output: Path | None,
) -> None:
    """Governed calls beside the same server without governance, and beside MLServer."""
    from counterseal.bench import gateway as scenarios
    from counterseal.bench import gateway_report

    chosen = scenarios.PROFILES[profile]
    chosen = dataclasses.replace(chosen, runs=runs or chosen.runs)
    raw = scenarios.run(chosen, folder=folder, mlserver=mlserver, postgres=postgres, say=_say)
    _print(raw, gateway_report.markdown(raw), output)


@bench.command("report")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="DOCUMENT",
    help="Put it there, between the lines <!-- FILE's name --> and <!-- end -->.",
)
def show(file: Path, into: Path | None) -> None:
    """Print a kept raw result as Markdown."""
    from counterseal.bench import report
    from counterseal.errors import FormatError

    try:
        raw = json.loads(file.read_bytes())
    except ValueError as error:
        raise FormatError(f'"{file}" is not JSON: {error}') from None
    if not isinstance(raw, dict):
        raise FormatError(f'"{file}" is not a result of counterseal bench')
    text = _reports().get(str(raw.get("format")), report.markdown)(raw)
    if into is None:
        click.echo(text, nl=False)
        return
    place = rf"(<!-- {re.escape(file.name)} -->\n).*?(<!-- end -->)"
    document, count = re.subn(
        place, lambda found: f"{found[1]}\n{text}\n{found[2]}", into.read_text(), flags=re.DOTALL
    )
    if count != 1:
        raise FormatError(f'"{into}" has not one place for {file.name}')
    into.write_text(document)


def _reports() -> dict[str, Callable[[dict[str, Any]], str]]:
    """By the format of a raw result."""
    from counterseal.bench import (
        charter,
        charter_report,
        gateway,
        gateway_report,
        handshake,
        handshake_report,
        ledger,
        ledger_report,
        transfer,
        transfer_report,
    )

    return {
        charter.FORMAT: charter_report.markdown,
        gateway.FORMAT: gateway_report.markdown,
        handshake.FORMAT: handshake_report.markdown,
        ledger.FORMAT: ledger_report.markdown,
        transfer.FORMAT: transfer_report.markdown,
    }


def _print(raw: dict[str, Any], report: str, output: Path | None) -> None:
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    for line in raw["missing"]:
        click.echo(line, err=True)
    text = json.dumps(raw, indent=1)
    if output is not None:
        output.write_text(text + "\n")
    click.echo(text if settings().json else report, nl=settings().json)


def _say(text: str) -> None:
    """Where it stands, in place on a terminal."""
    current = settings()
    if current.quiet or not current.progress:
        return
    terminal = sys.stderr.isatty()
    click.echo(f"\r\033[K{text}" if terminal else text, nl=not terminal, err=True)


command = bench  # what cli.main looks for
