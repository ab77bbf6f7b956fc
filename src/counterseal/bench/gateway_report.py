"""A raw result of `bench gateway` as Markdown. Ratios are taken within a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from counterseal.bench.figures import Figure
from counterseal.bench.gateway import ESTIMATOR, GROUP, STRICT, WATCHED
from counterseal.bench.measures import estimate
from counterseal.bench.tables import figures_table, machine_lines, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["figures", "markdown"]

_US: Final = 1e6
_WHAT: Final = {
    "bare": "bare server, without governance",
    GROUP: "gateway, audit in groups",
    WATCHED: "gateway, audit in groups, detectors",
    STRICT: "gateway, strict audit",
    ESTIMATOR: "gateway, audit in groups",
    "mlserver": "MLServer, no TLS",
}
_MODELS: Final = {
    "scan": "logistic regression (ONNX), 1 row",
    "heavy": "two layers of 512 (ONNX), {heavy_rows} rows",
    "estimator": "logistic regression (scikit-learn), 1 row",
}
_RATIOS: Final = (
    ("scan", GROUP, 1.3),
    ("scan", WATCHED, 1.3),
    ("heavy", GROUP, 1.3),
    ("heavy", WATCHED, 1.3),
)
_STRICT_RATE: Final = 1500


def figures(raw: Mapping[str, Any]) -> list[Figure]:
    """All targets are "at most"; a rate is turned round into time."""
    return [
        *_governance(raw),
        *_peer(raw),
        *_strict(raw),
        *_latency(raw),
        *_revocation(raw),
        *_quota(raw),
    ]


def markdown(raw: Mapping[str, Any]) -> str:
    used = ", ".join(f"{name} {version}" for name, version in raw["versions"].items())
    where = (
        f"one worker of {raw['settings']['threads']} threads each, loopback, files in {_at(raw)}"
    )
    blocks = [figures_table(figures(raw)), _costs(raw), _delays(raw)]
    blocks.append(machine_lines(raw, used, where))
    if raw["missing"]:
        blocks.insert(1, "\n".join(f"- {line}" for line in raw["missing"]))
    return "\n\n".join(blocks) + "\n"


def _governance(raw: Mapping[str, Any]) -> Iterator[Figure]:
    for connections in raw["settings"]["connections"]:
        for model, name, target in _RATIOS:
            turns = raw["cpu"].get(f"{model}/{connections}", {})
            what = f"{_WHAT[name]} / bare, CPU, {_model(raw, model)}, {_count(connections)}"
            yield _figure(what, target, "x", _over(turns, name, "bare"))


def _peer(raw: Mapping[str, Any]) -> Iterator[Figure]:
    for connections in raw["settings"]["connections"]:
        turns = raw["cpu"].get(f"estimator/{connections}", {})
        what = f"gateway / MLServer, CPU, {_model(raw, 'estimator')}, {_count(connections)}"
        yield _figure(what, 0.5, "x", _over(turns, ESTIMATOR, "mlserver"))
        both = {**raw["cpu"].get(f"scan/{connections}", {}), "mlserver": turns.get("mlserver", [])}
        what = f"gateway with ONNX / MLServer with scikit-learn, CPU, {_count(connections)}"
        yield _figure(what, 0.5, "x", _over(both, GROUP, "mlserver"))


def _strict(raw: Mapping[str, Any]) -> Iterator[Figure]:
    most = max(raw["settings"]["connections"])
    turns = raw["cpu"].get(f"scan/{most}", {}).get(STRICT, [])
    values = [_US * one["wall"] / one["answered"] for one in turns if one["answered"]]
    what = f"strict audit, {_count(most)}, time for each reply (1,500 a second)"
    yield _figure(what, _US / _STRICT_RATE, "us", values)


def _latency(raw: Mapping[str, Any]) -> Iterator[Figure]:
    """What is added at half of what the gateway can do."""
    latency = raw["latency"]
    for part, target in (("p50", 0.1), ("p99", 1.0)):
        pairs = zip(latency[GROUP], latency["bare"], strict=True)
        values = [1000 * (ours[part] - bare[part]) for ours, bare in pairs]
        yield _figure(f"latency added at half load, {part}", target, "ms", values)


def _revocation(raw: Mapping[str, Any]) -> Iterator[Figure]:
    near = raw["revocation"]
    yield _percentile("revoked on the node, first refusal, p50", near, 50, 10.0)
    yield _percentile("revoked on the node, first refusal, p99", near, 99, 10.0)
    far = raw.get("two_nodes", {}).get("far")
    yield _percentile("revoked on another node, first refusal, p50", far, 50, 250.0)
    yield _percentile("revoked on another node, first refusal, p99", far, 99, 250.0)
    cuts = raw.get("cut_off", [])
    yield _figure("a node is cut off, last yes", 2000.0, "ms", [one["yes"] for one in cuts])
    answers = [one["watched"] if one["answer"] is None else one["answer"] for one in cuts]
    silent = sum(one["answer"] is None for one in cuts)
    note = f"{silent} of {len(cuts)} times it said nothing while we watched" if silent else ""
    yield _figure("a node is cut off, first refusal", 2000.0, "ms", answers, note)


def _quota(raw: Mapping[str, Any]) -> Iterator[Figure]:
    for name, more in (("whole", ""), ("killed", ", one is killed")):
        one = raw["quota"][name]
        what = f"{one['workers']} workers{more}"
        said = f"quota of {one['count']}, {what}, {one['asked']} asked: granted beyond it"
        note = f"{one['granted']} granted"
        yield _figure(said, 0.0, "", [max(0, one["granted"] - one["count"])], note)
    one = raw["quota"]["whole"]
    missing = [max(0, one["count"] - one["granted"])]
    yield _figure(f"the same, {one['workers']} workers: not granted of it", 0.0, "", missing)


def _percentile(what: str, seen: Mapping[str, Any] | None, percent: int, target: float) -> Figure:
    if seen is None or not seen["delays"]:
        return Figure(what, target, "ms", None)
    ordered = sorted(seen["delays"])
    value = ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
    note = (
        f"{len(ordered)} times; {seen['missed']} were not refused in time" if seen["missed"] else ""
    )
    return _figure(what, target, "ms", [value], note)


def _over(turns: Mapping[str, Any], ours: str, theirs: str) -> list[float]:
    pairs = zip(turns.get(ours, []), turns.get(theirs, []), strict=False)
    return [_each(one) / _each(other) for one, other in pairs if one["answered"]]


def _each(one: Mapping[str, Any]) -> float:
    """CPU of a request. Refusals and broken calls do not make a server look cheap."""
    cpu: float = one["cpu"]
    answered: int = one["answered"]
    return cpu / max(1, answered)


def _figure(what: str, target: float, unit: str, values: Sequence[float], note: str = "") -> Figure:
    return Figure(what, target, unit, estimate(values) if values else None, note)


def _costs(raw: Mapping[str, Any]) -> str:
    lines = [
        (
            "| model | server | connections | CPU of a request, us | min to max "
            "| replies a second | not answered |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for key, turns in raw["cpu"].items():
        model, _, connections = key.partition("/")
        for name, bursts in turns.items():
            cpu = estimate([_US * _each(one) for one in bursts])
            rate = estimate([one["answered"] / one["wall"] for one in bursts])
            failed = sum(one["requests"] - one["answered"] for one in bursts)
            lines.append(
                f"| {_model(raw, model)} | {_WHAT[name]} | {connections} | {number(cpu.median)} "
                f"| {number(cpu.least)} to {number(cpu.most)} | {number(rate.median)} | {failed} |"
            )
    return "\n".join(lines)


def _delays(raw: Mapping[str, Any]) -> str:
    latency = raw["latency"]
    rate = estimate(latency["rate"]).median
    lines = [
        (
            f"| server, {number(rate)} requests a second over 16 connections "
            "| p50, ms | p90, ms | p99, ms |"
        ),
        "|---|---|---|---|",
    ]
    for name, turns in latency.items():
        if name != "rate":
            parts = [estimate([1000 * one[part] for one in turns]).median for part in _PARTS]
            lines.append(f"| {_WHAT[name]} | {' | '.join(map(number, parts))} |")
    return "\n".join(lines)


_PARTS: Final = ("p50", "p90", "p99")


def _model(raw: Mapping[str, Any], model: str) -> str:
    return _MODELS[model].format(**raw["settings"])


def _count(connections: int) -> str:
    return "1 connection" if connections == 1 else f"{connections} connections"


def _at(raw: Mapping[str, Any]) -> str:
    settings = raw["settings"]
    return f"{settings['folder']} ({settings.get('disk', 'unknown')})"
