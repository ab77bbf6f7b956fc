"""counterseal bench"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from counterseal.cli.settings import Group, settings

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


@bench.command("report")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(file: Path) -> None:
    """Print a kept raw result as Markdown."""
    from counterseal.bench import handshake, handshake_report, report, transfer, transfer_report
    from counterseal.errors import FormatError

    try:
        raw = json.loads(file.read_bytes())
    except ValueError as error:
        raise FormatError(f'"{file}" is not JSON: {error}') from None
    if not isinstance(raw, dict):
        raise FormatError(f'"{file}" is not a result of counterseal bench')
    reports = {
        handshake.FORMAT: handshake_report.markdown,
        transfer.FORMAT: transfer_report.markdown,
    }
    known = str(raw.get("format"))
    click.echo(reports.get(known, report.markdown)(raw), nl=False)


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
