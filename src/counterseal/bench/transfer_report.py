"""A raw result of `bench transfer` as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from counterseal.bench.figures import Figure
from counterseal.bench.measures import estimate
from counterseal.bench.tables import figures_table, machine_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["figures", "markdown"]

MIB: Final = 1 << 20
_WAYS: Final = {
    "ssl": "TLS socket of Python",
    "raw": "TLS socket of our driver",
    "https": "HTTPS, upload",
    "mqtt": "MQTT",
}


def figures(raw: Mapping[str, Any]) -> list[Figure]:
    """Rates are turned round (seconds of ours over theirs): every target is "at most"."""
    turns = raw["turns"]
    found = [
        _figure(f"HTTPS {what} / TLS socket of {whose}, seconds", 1.25, "x", _over(turns, side, of))
        for whose, of in (("Python", "ssl"), ("our driver", "raw"))
        for what, side in (("upload", "send"), ("download", "receive"))
    ]
    mqtt = [turn["mqtt"] for turn in turns if "send" in turn.get("mqtt", {})]
    rate = [100 * MIB * one["send"]["carrying"] / one["send"]["bytes"] for one in mqtt]
    found.append(_figure("MQTT, seconds for 100 MiB", 1.0, "s", rate))
    for side in ("send", "receive"):
        peaks = [one[side]["peak"] / MIB for one in mqtt]
        found.append(_figure(f"MQTT, resident memory to {side}", 64.0, "MiB", peaks))
    for side in ("send", "receive"):
        part = raw["resume"][side]
        again = 100 * (part["carried"] - part["bytes"]) / part["bytes"]
        found.append(_figure(f"carried again after a break at half, {side}", 1.0, "%", [again]))
    return found


def markdown(raw: Mapping[str, Any]) -> str:
    settings = raw["settings"]
    where = f"package of {settings['size'] / MIB:.0f} MiB in {settings['folder']}, loopback"
    blocks = [figures_table(figures(raw)), _ways(raw["turns"]), machine_lines(raw, where)]
    if raw["missing"]:
        blocks.insert(1, "\n".join(f"- {line}" for line in raw["missing"]))
    return "\n\n".join(blocks) + "\n"


def _over(turns: Iterable[Mapping[str, Any]], side: str, bare: str) -> list[float]:
    return [
        turn["https"][side]["carrying"] / turn[bare]["send"]["carrying"]
        for turn in turns
        if "send" in turn["https"]
    ]


def _figure(what: str, target: float, unit: str, values: list[float]) -> Figure:
    note = "" if values else "not measured, or it failed"
    return Figure(what, target, unit, estimate(values) if values else None, note)


def _ways(turns: list[Mapping[str, Any]]) -> str:
    lines = [
        "| way | MiB/s, median | CPU of both ends, s/GiB | most resident, MiB | failures |",
        "|---|---|---|---|---|",
        *(_way(turns, way) for way in _WAYS if any(way in t for t in turns)),
    ]
    return "\n".join(lines)


def _way(turns: list[Mapping[str, Any]], way: str) -> str:
    measured = [turn[way] for turn in turns if "send" in turn.get(way, {})]
    failures = len(turns) - len(measured)
    if not measured:
        return f"| {_WAYS[way]} | | | | {failures} |"
    rates = [one["send"]["bytes"] / MIB / one["send"]["carrying"] for one in measured]
    cpu = [
        (one["send"]["cpu"] + one["receive"]["cpu"]) * 1024 * MIB / one["send"]["bytes"]
        for one in measured
    ]
    peak = max(one[side]["peak"] for one in measured for side in ("send", "receive")) / MIB
    return (
        f"| {_WAYS[way]} | {estimate(rates).median:.0f} | {estimate(cpu).median:.2f} "
        f"| {peak:.0f} | {failures} |"
    )
