"""A raw result of `bench handshake` as Markdown: figures, every way, scaling, machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from counterseal.bench.figures import Figure
from counterseal.bench.handshake import CLASSICAL, OFFLINE, OURS, PAIRING
from counterseal.bench.measures import estimate
from counterseal.bench.tables import figures_table, machine_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["figures", "markdown"]

_YES: Final = {True: "yes", False: "no"}
_RSA: Final = "TLS 1.3, P-256, RSA-3072 certificates"
_PQ: Final = "TLS 1.3, X25519MLKEM768, ML-DSA-65 certificates"


def figures(raw: Mapping[str, Any]) -> list[Figure]:
    """The figures with targets, and two more ratios that put the first one in its place."""
    ways = raw["contenders"]
    return [
        _ratio(ways, "handshake / classical mutual TLS (P-256), CPU", CLASSICAL, 2.0),
        _ratio(ways, "handshake / classical mutual TLS (RSA-3072), CPU", _RSA, 2.0),
        _ratio(ways, "handshake / mutual TLS with ML-DSA-65, CPU", _PQ, 1.0),
        _milliseconds(ways, "offline handshake, CPU", OFFLINE, 6.0),
        _milliseconds(ways, "pairing, both sides, CPU", PAIRING, 1000.0),
    ]


def markdown(raw: Mapping[str, Any]) -> str:
    blocks = [figures_table(figures(raw)), _ways(raw), _scaling(raw), machine_lines(raw)]
    if raw["missing"]:
        blocks.insert(1, "\n".join(f"- {line}" for line in raw["missing"]))
    return "\n\n".join(blocks) + "\n"


def _ratio(ways: Mapping[str, Any], what: str, other: str, target: float) -> Figure:
    if other not in ways:
        return Figure(what, target, "x", None, "not installed")
    pairs = list(zip(ways[OURS]["cpu"], ways[other]["cpu"], strict=False))
    failures = "; ".join({*ways[OURS]["failures"], *ways[other]["failures"]})
    values = [ours / theirs for ours, theirs in pairs]
    return Figure(what, target, "x", estimate(values) if values else None, failures)


def _milliseconds(ways: Mapping[str, Any], what: str, name: str, target: float) -> Figure:
    values = [1000 * value for value in ways[name]["cpu"]]
    failures = "; ".join(ways[name]["failures"])
    return Figure(what, target, "ms", estimate(values) if values else None, failures)


def _ways(raw: Mapping[str, Any]) -> str:
    lines = [
        (
            "| way | CPU, both sides | 95 % interval | bytes | round trips "
            "| authenticates | forward secret | recording safe from a quantum computer |"
        ),
        "|---|---|---|---|---|---|---|---|",
        *_way_lines(raw["contenders"]),
    ]
    return "\n".join(lines)


def _way_lines(ways: Mapping[str, Any]) -> Iterator[str]:
    for name, way in ways.items():
        if not way["cpu"]:
            yield f"| {name} | failed: {'; '.join(way['failures'])} | | | | | | |"
            continue
        cpu = estimate([1000 * value for value in way["cpu"]])
        yield (
            f"| {name} | {cpu.median:.3g} ms | {cpu.low:.3g} to {cpu.high:.3g} | {way['bytes']} "
            f"| {way['round_trips']:g} | {way['authenticates']} | {_YES[way['forward_secret']]} "
            f"| {_YES[way['quantum_safe']]} |"
        )


def _scaling(raw: Mapping[str, Any]) -> str:
    lines = [
        (
            "| partners | one handshake among them, CPU | sealing a key for all, CPU | bytes each "
            "| a group's epoch for all, CPU | bytes each |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for row in raw["scaling"]:
        count = row["partners"]
        lines.append(
            f"| {count} | {1000 * row['handshake_cpu']:.3g} ms | {1000 * row['seal_cpu']:.3g} ms "
            f"| {row['seal_bytes'] / count:.0f} | {1000 * row['epoch_cpu']:.3g} ms "
            f"| {row['epoch_bytes'] / count:.0f} |"
        )
    return "\n".join(lines)
