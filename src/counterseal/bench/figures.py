"""From raw samples to figures with targets. A ratio is taken within a turn, then its median."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from counterseal.bench.contenders import TENSORS
from counterseal.bench.measures import Estimate, estimate

__all__ = ["Figure", "figures"]

Raw = Mapping[str, Any]

MIB: Final = 1 << 20
# (what, contender, of, factor, target): seconds of one contender over those of another
_RATIOS: Final = (
    ("seal / cp", "seal", "cp", 1, 1.2),
    ("seal with statement / cp", "seal with statement", "cp", 1, 1.8),
    ("seal / age encrypt", "seal", "age encrypt", 1, 0.5),
    ("open and verify / age decrypt", "open", "age decrypt", 1, 0.6),
    ("load / load_file and clone", "load", "load_file and clone", 1, 1.0),
    ("one tensor of 16 / its share of load", "one tensor", "load", TENSORS, 1.2),
)
_EXTRA_MEMORY: Final = 48 * MIB
_OVERHEAD: Final = 0.0015
_STANZA_BYTES: Final = 2400
_ADD_SECONDS: Final = 0.005
_RECIPIENTS_SECONDS: Final = 0.4  # for a thousand
_HELP_SECONDS: Final = 0.12
_IMPORT_SECONDS: Final = 0.015


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` is None when it was not measured, and `met` with it; `note` says why."""

    what: str
    target: float
    unit: str
    value: Estimate | None
    note: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.value.median <= self.target


def figures(raw: Raw) -> list[Figure]:
    """All figures of a raw result, in the order of the report."""
    return [*_ratios(raw), *_memory(raw), *_package(raw), *_adding(raw), *_many(raw), *_start(raw)]


def _ratios(raw: Raw) -> Iterator[Figure]:
    for what, name, other, factor, target in _RATIOS:
        ours, theirs = raw["timed"].get(name), raw["timed"].get(other)
        if ours is None or theirs is None:
            yield Figure(what, target, "x", None, "not part of this run, or not installed")
            continue
        values = _pairs(ours["wall"], theirs["wall"], lambda a, b, k=factor: a * k / b)
        yield _figure(what, target, "x", values, ours["failures"] + theirs["failures"])


def _memory(raw: Raw) -> Iterator[Figure]:
    for one in raw.get("memory", ()):
        for verb in ("seal", "open"):
            what = f"extra memory, {verb} {one['size'] // MIB} MiB"
            values = [] if "failure" in one else [one[verb] / MIB]
            failures = [one["failure"]] if "failure" in one else []
            yield _figure(what, _EXTRA_MEMORY / MIB, "MiB", values, failures)


def _package(raw: Raw) -> Iterator[Figure]:
    """The overhead allowed is a share of the model and a number of bytes for each recipient."""
    model = raw["model_bytes"]
    extra = raw["package_bytes"] - model
    yield _overhead("one recipient", extra, model, recipients=1)
    if "recipients" not in raw:
        return
    sizes, count = raw["recipients"]["package_bytes"], raw["recipients"]["count"]
    for name in ("many", "many with prekeys"):
        more = sizes[name] - sizes["one"]
        who = f"{count} recipients{name.removeprefix('many')}, {more / (count - 1):.0f} B each"
        yield _overhead(who, extra + more, model, recipients=count)


def _overhead(who: str, extra: int, model: int, *, recipients: int) -> Figure:
    allowed = _OVERHEAD * model + _STANZA_BYTES * recipients
    return _figure(f"package overhead, {who}", 100 * allowed / model, "%", [100 * extra / model])


def _adding(raw: Raw) -> Iterator[Figure]:
    for name, what in (("small", "1 MiB"), ("large", f"{raw['model_bytes'] // MIB} MiB")):
        if "add" in raw:
            samples = raw["add"][name]
            values = [1000 * wall for wall in samples["wall"] if wall is not None]
            yield _figure(
                f"add a recipient to {what}", 1000 * _ADD_SECONDS, "ms", values, samples["failures"]
            )


def _many(raw: Raw) -> Iterator[Figure]:
    if "recipients" not in raw:
        return
    count, timed = raw["recipients"]["count"], raw["recipients"]["timed"]
    target = _RECIPIENTS_SECONDS * count / 1000
    for name in ("many", "many with prekeys"):
        failures = timed[name]["failures"] + timed["one"]["failures"]
        for kind in ("cpu", "wall"):
            values = _pairs(timed[name][kind], timed["one"][kind], lambda a, b: a - b)
            what = f"{count} recipients{name.removeprefix('many')} instead of one, {kind}"
            yield _figure(what, target, "s", values, failures)


def _start(raw: Raw) -> Iterator[Figure]:
    if "start" not in raw:
        return
    start = raw["start"]
    yield _figure("counterseal --help, CPU", _HELP_SECONDS, "s", start["help"])
    values = _pairs(start["import"], start["python"], lambda a, b: 1000 * (a - b))
    yield _figure("import counterseal over bare python, CPU", 1000 * _IMPORT_SECONDS, "ms", values)


def _pairs(ours: list[float | None], theirs: list[float | None], join: Any) -> list[float]:
    return [join(a, b) for a, b in zip(ours, theirs, strict=True) if None not in (a, b)]


def _figure(
    what: str, target: float, unit: str, values: list[float], failures: list[str] | None = None
) -> Figure:
    note = "; ".join(sorted(set(failures or ())))
    return Figure(what, target, unit, estimate(values) if values else None, note)
