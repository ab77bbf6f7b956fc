"""A raw result as Markdown: the figures first, then every contender, then the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from counterseal.bench.exchange import FORMAT
from counterseal.bench.figures import figures
from counterseal.bench.measures import estimate
from counterseal.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterseal.bench.figures import Figure

__all__ = ["markdown"]

_MET = {True: "yes", False: "**no**", None: "not measured"}


def markdown(raw: Mapping[str, Any]) -> str:
    """Raises FormatError for data that `bench exchange` did not write."""
    if raw.get("format") != FORMAT:
        raise FormatError("this is not a result of counterseal bench exchange")
    blocks = [_figures(figures(raw)), _contenders(raw), _machine(raw)]
    if raw["missing"]:
        blocks.insert(1, "\n".join(f"- {line}" for line in raw["missing"]))
    return "\n\n".join(blocks) + "\n"


def _figures(all_of_them: list[Figure]) -> str:
    lines = [
        "| figure | target | median | 95 % interval | min to max | met |",
        "|---|---|---|---|---|---|",
    ]
    for one in all_of_them:
        target, met = f"<= {_number(one.target)} {one.unit}", _MET[one.met]
        met += f" ({one.note})" if one.note else ""
        if one.value is None:
            lines.append(f"| {one.what} | {target} | | | | {met} |")
            continue
        value = one.value
        interval = f"{_number(value.low)} to {_number(value.high)}"
        extremes = f"{_number(value.least)} to {_number(value.most)}"
        single = value.least == value.most
        lines.append(
            f"| {one.what} | {target} | {_number(value.median)} {one.unit} "
            f"| {'' if single else interval} | {'' if single else extremes} | {met} |"
        )
    return "\n".join(lines)


def _contenders(raw: Mapping[str, Any]) -> str:
    lines = [
        "| contender | wall, median | min to max | CPU, median | CPU of others, most | failures |",
        "|---|---|---|---|---|---|",
    ]
    for name, samples in raw["timed"].items():
        wall = [1000 * value for value in samples["wall"] if value is not None]
        cpu = [1000 * value for value in samples["cpu"] if value is not None]
        failures = len(samples["failures"])
        if not wall:
            lines.append(f"| {name} | | | | | {failures} |")
            continue
        spread = estimate(wall)
        lines.append(
            f"| {name} | {spread.median:.1f} ms | {spread.least:.1f} to {spread.most:.1f} "
            f"| {estimate(cpu).median:.1f} ms | {1000 * max(samples['others']):.0f} ms "
            f"| {failures} |"
        )
    return "\n".join(lines)


def _machine(raw: Mapping[str, Any]) -> str:
    machine, settings = raw["machine"], raw["settings"]
    flags = " ".join(name for name, there in machine["flags"].items() if there)
    versions = {**machine["versions"], **machine["programs"]}
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB"
    load = f"{raw['load_before'][0]} before, {raw['load_after'][0]} after"
    model = f"model of {raw['model_bytes'] / 2**20:.0f} MiB"
    lines = (
        f"{machine['cpu']}, {machine['cores']} cores ({flags}), {memory}",
        f"Linux {machine['kernel']}, transparent huge pages {machine['huge_pages']}",
        f"Python {machine['python']}, hashlib with {machine['openssl_of_hashlib']}",
        used,
        f"{model} in {settings['folder']} (the targets are for 1 GiB on a tmpfs)",
        f"{settings['runs']} runs; load average {load}",
    )
    return "\n".join(f"- {line}" for line in lines)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
