"""A raw result as Markdown: the figures first, then every contender, then the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from counterseal.bench.exchange import FORMAT
from counterseal.bench.figures import figures
from counterseal.bench.measures import estimate
from counterseal.bench.tables import figures_table, machine_lines
from counterseal.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["markdown"]


def markdown(raw: Mapping[str, Any]) -> str:
    """Raises FormatError for data that `bench exchange` did not write."""
    if raw.get("format") != FORMAT:
        raise FormatError("this is not a result of counterseal bench exchange")
    model = f"model of {raw['model_bytes'] / 2**20:.0f} MiB"
    where = f"{model} in {raw['settings']['folder']} (the targets are for 1 GiB on a tmpfs)"
    blocks = [figures_table(figures(raw)), _contenders(raw), machine_lines(raw, where)]
    if raw["missing"]:
        blocks.insert(1, "\n".join(f"- {line}" for line in raw["missing"]))
    return "\n\n".join(blocks) + "\n"


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
