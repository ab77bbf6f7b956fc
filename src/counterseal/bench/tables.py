"""Tables that every report of the bench has: figures with targets, and the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterseal.bench.figures import Figure

__all__ = ["figures_table", "machine_lines", "number"]

_MET: Final = {True: "yes", False: "**no**", None: "not measured"}


def figures_table(all_of_them: list[Figure]) -> str:
    lines = [
        "| figure | target | median | 95 % interval | min to max | met |",
        "|---|---|---|---|---|---|",
    ]
    for one in all_of_them:
        target, met = f"<= {number(one.target)} {one.unit}", _MET[one.met]
        met += f" ({one.note})" if one.note else ""
        if one.value is None:
            lines.append(f"| {one.what} | {target} | | | | {met} |")
            continue
        value = one.value
        interval = f"{number(value.low)} to {number(value.high)}"
        extremes = f"{number(value.least)} to {number(value.most)}"
        single = value.least == value.most
        lines.append(
            f"| {one.what} | {target} | {number(value.median)} {one.unit} "
            f"| {'' if single else interval} | {'' if single else extremes} | {met} |"
        )
    return "\n".join(lines)


def machine_lines(raw: Mapping[str, Any], *more: str) -> str:
    """Where it was measured; `more` says with what."""
    machine, settings = raw["machine"], raw["settings"]
    flags = " ".join(name for name, there in machine["flags"].items() if there)
    versions = {**machine["versions"], **machine["programs"]}
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB"
    load = f"{raw['load_before'][0]} before, {raw['load_after'][0]} after"
    lines = (
        f"{machine['cpu']}, {machine['cores']} cores ({flags}), {memory}",
        f"Linux {machine['kernel']}, transparent huge pages {machine['huge_pages']}",
        f"Python {machine['python']}, hashlib with {machine['openssl_of_hashlib']}",
        used,
        *more,
        f"{settings['runs']} runs; load average {load}",
    )
    return "\n".join(f"- {line}" for line in lines)


def number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
