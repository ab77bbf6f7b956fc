"""What governance costs: gateways beside the same server without it, and beside MLServer.

All servers run at once, with one worker and four threads each, and are called in turns: CPU of
the whole process tree for each request, at 1 and at 16 connections; then latency at half of
what the governed one can do. `gateway_limits` measures what must not be missed: how soon a
revocation holds, and that a quota is exact.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import counterseal
from counterseal._extras import require
from counterseal.bench import gateway_limits, machine
from counterseal.bench.gateway_servers import Terms
from counterseal.bench.gateway_stage import THREADS, Stage
from counterseal.bench.measures import await_quiet
from counterseal.bench.processes import file_system
from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.bench.callers import Callers, Calls
    from counterseal.bench.gateway_servers import Server

    Say = Callable[[str], None]

__all__ = ["FORMAT", "PROFILES", "Profile", "run"]

FORMAT: Final = "counterseal-bench-gateway-1"
GROUP, WATCHED, STRICT, ESTIMATOR = "group", "detectors", "strict", "estimator"
_TERMS: Final = {
    GROUP: Terms(),
    WATCHED: Terms(detectors=True),
    STRICT: Terms(strict=True),
    ESTIMATOR: Terms(files=(("estimator", "scan.skops"),)),
}
# Which server is asked for which model. MLServer calls its only model "scan".
_ASKED: Final = {
    "scan": ("bare", GROUP, WATCHED, STRICT),
    "heavy": ("bare", GROUP, WATCHED),
    "estimator": ("bare", ESTIMATOR, "mlserver"),
}
# A burst should be as long as what runs beside requests once a second, and no longer.
_FEWER: Final = {"heavy": 10, "estimator": 2, STRICT: 2}
_VERSIONS: Final = (
    "uvicorn", "uvloop", "httptools", "starlette", "onnxruntime", "scikit-learn", "skops",
    "cedarpy", "psycopg",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """`requests` of a burst to a small model, less where a call takes longer; `seconds` of a
    burst at a rate; `rounds` of revoking; `cuts` of a node from its state; `patience` for other
    processes to be quiet before a turn."""

    runs: int
    requests: int
    heavy_rows: int
    connections: tuple[int, ...]
    seconds: float
    rounds: int
    cuts: int
    quota: int
    workers: int
    patience: float


PROFILES: Final = {
    "full": Profile(5, 1500, 256, (1, 16), 1.5, 100, 2, 1000, 4, 3.0),
    "quick": Profile(2, 200, 64, (1, 16), 0.3, 10, 1, 200, 2, 0.0),
}


def run(
    profile: Profile,
    *,
    folder: Path,
    mlserver: Path | None = None,
    postgres: str | None = None,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Measure in a new private folder under `folder`, and leave nothing behind.

    `mlserver`: a Python that has mlserver and mlserver-sklearn. `postgres`: URL of a server on
    which a database may be made and dropped.
    """
    data: dict[str, Any] = {
        "format": FORMAT,
        "counterseal": counterseal.__version__,
        "machine": machine.facts(),
        "versions": _versions(),
        "load_before": machine.load_average(),
        "settings": {
            **asdict(profile),
            "folder": str(folder),
            "disk": file_system(folder),
            "threads": THREADS,
        },
        "missing": [],
    }
    with (
        tempfile.TemporaryDirectory(prefix="counterseal-bench-", dir=folder) as place,
        Stage(Path(place), heavy_rows=profile.heavy_rows) as stage,
    ):
        say("starting the servers")
        servers = _start(stage, mlserver, data)
        data["cpu"], data["latency"] = _turns(stage, servers, profile, say)
        say("revocation")
        data["revocation"] = gateway_limits.revocation(stage, servers[GROUP], profile.rounds)
        say("quotas")
        data["quota"] = gateway_limits.quotas(stage, profile.quota, profile.workers)
        if postgres is None:
            data["missing"].append("without two nodes: no --postgres URL was given")
        else:
            say("two nodes")
            data |= gateway_limits.two_nodes(
                stage, postgres, rounds=profile.rounds // 4, cuts=profile.cuts
            )
    data["load_after"] = machine.load_average()
    return data


def _start(stage: Stage, mlserver: Path | None, data: dict[str, Any]) -> dict[str, Server]:
    begun = [stage.bare(), *(stage.governed(name, terms) for name, terms in _TERMS.items())]
    if mlserver is None:
        data["missing"].append("without MLServer: no --mlserver PYTHON was given")
    else:
        from counterseal.bench.peer_server import versions

        try:
            data["versions"] |= versions(mlserver)
            begun.append(stage.mlserver(mlserver))
        except (CountersealError, subprocess.SubprocessError, OSError) as error:
            data["missing"].append(f"without MLServer: {error}")
    return {one.name: stage.ready(one) for one in begun}


def _turns(
    stage: Stage, servers: dict[str, Server], profile: Profile, say: Say
) -> tuple[dict[str, Any], dict[str, Any]]:
    lines = {
        (model, name): stage.callers(servers[name], "scan" if name == "mlserver" else model)
        for model, names in _ASKED.items()
        for name in names
        if name in servers
    }
    cpu: dict[str, Any] = {}
    latency: dict[str, Any] = {"rate": []}
    for turn in range(profile.runs + 1):
        await_quiet(at_most=profile.patience)
        capacity = 0.0
        for connections in profile.connections:
            for (model, name), callers in lines.items():
                say(f"turn {turn}/{profile.runs}: {name}, {model}, {connections} connections")
                requests = profile.requests // _FEWER.get(model, _FEWER.get(name, 1))
                one = _burst(servers[name], callers, connections, max(requests, connections))
                if turn:  # the first one warms up
                    place = cpu.setdefault(f"{model}/{connections}", {})
                    place.setdefault(name, []).append(one)
                if (model, name) == ("scan", GROUP):
                    capacity = one["answered"] / one["wall"]
        latency["rate"].append(capacity / 2)
        for name in ("bare", GROUP, WATCHED, STRICT):
            say(f"turn {turn}/{profile.runs}: {name} at half load")
            found = _at_rate(lines["scan", name], capacity / 2, profile.seconds)
            if turn:
                latency.setdefault(name, []).append(found)
    return cpu, latency


def _burst(server: Server, callers: Callers, connections: int, requests: int) -> dict[str, Any]:
    callers.connect(connections)
    before = server.cpu
    found = callers.call(requests)
    used = server.cpu - before
    return {"cpu": used, "wall": found.wall, "requests": requests, **_answered(found)}


def _at_rate(callers: Callers, rate: float, seconds: float) -> dict[str, Any]:
    callers.connect(16)
    found = callers.call(max(16, int(rate * seconds)), rate=rate)
    parts = {f"p{part}": _part(found.latencies, part) for part in (50, 90, 99)}
    return {**parts, "most": found.latencies[-1], **_answered(found)}


def _answered(found: Calls) -> dict[str, Any]:
    others = {str(status): n for status, n in found.statuses.items() if status != 200}
    return {"answered": found.answered, "others": others}


def _part(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _versions() -> dict[str, str]:
    for needed in ("uvicorn", "onnxruntime", "skops", "cedarpy"):
        require(needed, extra="all")
    found = {}
    for name in _VERSIONS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
