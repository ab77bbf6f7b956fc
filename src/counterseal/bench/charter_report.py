"""A raw result of `bench charter` as Markdown. "Flat" is taken within a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from counterseal.bench.figures import Figure
from counterseal.bench.measures import estimate
from counterseal.bench.tables import figures_table, machine_lines, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["figures", "markdown"]

_US: Final = 1e6
_CACHED_US: Final = 1.0  # a million a second
_EVALUATED_US: Final = 100.0  # ten thousand
_FLAT: Final = 1.25
_DIFF_MS: Final = 100.0
_KINDS: Final = {
    "cached": "remembered",
    "evaluated": "one evaluation by Cedar",
    "first": "the first of a claim (three evaluations)",
}


def figures(raw: Mapping[str, Any]) -> list[Figure]:
    """All targets are "at most"; a rate is turned round into time."""
    return [*_times(raw), *_flat(raw), *_diffs(raw)]


def markdown(raw: Mapping[str, Any]) -> str:
    blocks = [figures_table(figures(raw)), _rates(raw), machine_lines(raw)]
    if raw["missing"]:
        blocks.insert(1, "\n".join(f"- {line}" for line in raw["missing"]))
    return "\n\n".join(blocks) + "\n"


def _times(raw: Mapping[str, Any]) -> Iterator[Figure]:
    for count, found in raw["decisions"].items():
        for name, target in (("cached", _CACHED_US), ("evaluated", _EVALUATED_US)):
            values = [_US * seconds for seconds in found[name]]
            crowd = "1 charter" if count == "1" else f"{count} charters"
            what = f"decision, {_KINDS[name]}, {crowd}, CPU"
            yield Figure(what, target, "us", estimate(values))


def _flat(raw: Mapping[str, Any]) -> Iterator[Figure]:
    """What the walk over the charters itself costs is taken off: no decision is made in it."""
    counts = list(raw["decisions"])
    one, many = (raw["decisions"][count] for count in (counts[0], counts[-1]))
    for name in ("cached", "evaluated"):
        pairs = zip(many[name], many["walked"], one[name], one["walked"], strict=True)
        values = [(a - b) / (c - d) for a, b, c, d in pairs]
        what = f"decision, {_KINDS[name]}, {counts[-1]} charters / {counts[0]}"
        yield Figure(what, _FLAT, "x", estimate(values))


def _diffs(raw: Mapping[str, Any]) -> Iterator[Figure]:
    for what, turns in raw["diff"].items():
        values = [1000 * turn["wall"] for turn in turns]
        said = f"two versions with {raw['settings']['permissions']} permissions: {what}"
        yield Figure(said, _DIFF_MS, "ms", estimate(values))


def _rates(raw: Mapping[str, Any]) -> str:
    lines = [
        f"| charters | {' | '.join(f'{name}, a second' for name in _KINDS.values())} |",
        f"|---{'|---' * len(_KINDS)}|",
    ]
    for count, found in raw["decisions"].items():
        rates = [number(1 / estimate(found[name]).median) for name in _KINDS]
        lines.append(f"| {count} | {' | '.join(rates)} |")
    compiling = 1000 * raw["compile_cpu"][-1]
    return "\n".join(
        [*lines, "", f"Compiling a charter takes {number(compiling)} ms of CPU, once."]
    )
