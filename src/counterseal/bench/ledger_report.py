"""A raw result of `bench ledger` as Markdown. Ratios are taken within a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from counterseal.bench.figures import Figure
from counterseal.bench.ledger import BATCHES
from counterseal.bench.measures import estimate
from counterseal.bench.tables import figures_table, machine_lines, number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["figures", "markdown"]

_US: Final = 1e6
_APPEND_US: Final = 25.0  # 40,000 a second
_REPLY_US: Final = _US / 1500
_VERIFY_US: Final = 10.0  # 100,000 a second
_GO_US: Final = _US / 300_000
_ALONE: Final = "ledger, one writer, batches of {}"
_WAYS: Final = {
    **{f"ledger/{size}": _ALONE.format(size) for size in BATCHES},
    **{f"sqlite/{size}": f"SQLite alone, batches of {size}" for size in BATCHES},
    "two processes": "ledger, two processes, batches of 16",
    "strict": "ledger, 16 threads that wait for each entry",
}


def figures(raw: Mapping[str, Any]) -> list[Figure]:
    """All targets are "at most"; a rate is turned round into time."""
    appends, verified = raw["appends"], raw["verified"]
    most = max(BATCHES)
    return [
        _each(f"durable append, batches of {most}, wall", _APPEND_US, appends[f"ledger/{most}"]),
        _each("durable reply, 16 threads, wall", _REPLY_US, appends["strict"]),
        _each("full verification, of an entry, CPU", _VERIFY_US, verified["counterseal"], "cpu"),
        _each("Go's verifier, of an entry, CPU", _GO_US, verified.get("go", []), "cpu"),
    ]


def markdown(raw: Mapping[str, Any]) -> str:
    settings = raw["settings"]
    where = (
        f"SQLite {settings['sqlite']}, entries of {settings['entry_bytes']} bytes, "
        f"files in {settings['folder']} ({settings['disk']}); "
        f"{settings['entries']} entries verified"
    )
    blocks = [
        figures_table(figures(raw)),
        _rates(raw),
        _over_sqlite(raw),
        machine_lines(raw, where),
    ]
    if raw["missing"]:
        blocks.insert(1, "\n".join(f"- {line}" for line in raw["missing"]))
    return "\n\n".join(blocks) + "\n"


def _over_sqlite(raw: Mapping[str, Any]) -> str:
    """What the ledger adds to what SQLite cannot avoid."""
    lines = [
        "| batches of | ledger / SQLite alone, wall | 95 % interval | CPU |",
        "|---|---|---|---|",
    ]
    for size in BATCHES:
        ours, theirs = (raw["appends"][f"{name}/{size}"] for name in ("ledger", "sqlite"))
        wall, cpu = (
            estimate(
                [_seconds(a, kind) / _seconds(b, kind) for a, b in zip(ours, theirs, strict=True)]
            )
            for kind in ("wall", "cpu")
        )
        interval = f"{number(wall.low)} to {number(wall.high)}"
        lines.append(f"| {size} | {number(wall.median)} x | {interval} | {number(cpu.median)} x |")
    return "\n".join(lines)


def _each(what: str, target: float, turns: list[Mapping[str, float]], kind: str = "wall") -> Figure:
    values = [_US * _seconds(one, kind) for one in turns]
    return Figure(what, target, "us", estimate(values) if values else None)


def _seconds(one: Mapping[str, float], kind: str = "wall") -> float:
    return one[kind] / one["entries"]


def _rates(raw: Mapping[str, Any]) -> str:
    lines = [
        "| way | entries a second | min to max | CPU of an entry, us |",
        "|---|---|---|---|",
    ]
    verified = {f"verified by {name}": turns for name, turns in raw["verified"].items()}
    named = {_WAYS[name]: turns for name, turns in raw["appends"].items()}
    for name, turns in {**named, **verified}.items():
        rate = estimate([one["entries"] / one["wall"] for one in turns])
        cpu = estimate([_US * _seconds(one, "cpu") for one in turns])
        lines.append(
            f"| {name} | {number(rate.median)} | {number(rate.least)} to {number(rate.most)} "
            f"| {number(cpu.median)} |"
        )
    return "\n".join(lines)
