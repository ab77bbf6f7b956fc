"""What a gateway must not miss: how soon a revocation holds, and that a quota is exact.

The revoking process is another one than the gateway's and the caller's; a caller asks without a
pause and notes when the first no came. `late` is how long after the announcement a request was
still sent that got a yes: what a partner gained.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from counterseal._extras import require
from counterseal.bench.callers import Callers
from counterseal.bench.gateway_servers import Terms
from counterseal.bench.gateway_stage import STATE
from counterseal.bench.processes import children, environment, module
from counterseal.bench.wall import Wall
from counterseal.charter import document

if TYPE_CHECKING:
    from counterseal.bench.gateway_servers import Server
    from counterseal.bench.gateway_stage import Stage

__all__ = ["quotas", "revocation", "two_nodes"]

PAUSE: Final = 0.06
PAUSE_FAR: Final = 0.5
SETTLE_SECONDS: Final = 0.3
CUT_SECONDS: Final = 6.0
BACK_SECONDS: Final = 5.0
_MS: Final = 1e6


def revocation(stage: Stage, server: Server, rounds: int) -> dict[str, Any]:
    return _revoke(stage, [server], rounds, PAUSE, None)[0]


def _revoke(
    stage: Stage, servers: list[Server], rounds: int, pause: float, url: str | None
) -> list[dict[str, Any]]:
    """By the home of the first; seen at each."""
    watchers = [stage.callers(one, "scan", processes=1) for one in servers]
    for one in watchers:
        one.connect(1)
        one.watch()
    time.sleep(SETTLE_SECONDS)
    first = servers[0]
    command = module("counterseal.bench.revoker", first.home, first.charter, rounds, pause)
    more = {} if url is None else {STATE: url}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment(more))
    revoked = json.loads(done.stdout)
    time.sleep(SETTLE_SECONDS)
    return [_matched(revoked, one.watched()) for one in watchers]


def _matched(revoked: list[dict[str, int]], seen: list[dict[str, int]]) -> dict[str, Any]:
    """Milliseconds from the announcement to the first no, for each round."""
    delays, late, missed = [], [], 0
    for one in revoked:
        noes = [no for no in seen if one["begun"] <= no.get("answer", 0) <= one["lifting"]]
        if not noes:
            missed += 1  # nobody was refused before it was lifted again
            continue
        delays.append(max(0, noes[0]["answer"] - one["announced"]) / _MS)
        late.append(max(0, noes[0]["asked"] - one["announced"]) / _MS)
    return {"delays": delays, "late": late, "missed": missed, "rounds": len(revoked)}


def quotas(stage: Stage, count: int, workers: int) -> dict[str, Any]:
    """Several workers, a quota of `count`, four times as many requests; then a worker is killed."""
    quota = (document.Quota(unit="requests", count=count, period="term"),)
    terms = Terms(quotas=quota, workers=workers, files=(("scan", "scan.onnx"),))
    begun = {name: stage.governed(name, terms) for name in ("whole", "killed")}
    found: dict[str, Any] = {}
    for name, server in begun.items():
        callers = stage.callers(stage.ready(server), "scan")
        callers.connect(16, warm=0)
        killer = threading.Timer(0.0, _kill_one, [server, count])
        if name == "killed":
            killer.start()
        calls = callers.call(4 * count)
        killer.cancel()
        statuses = {str(status): n for status, n in calls.statuses.items()}
        found[name] = {
            "count": count,
            "asked": 4 * count,
            "workers": workers,
            "granted": calls.answered,
            "statuses": statuses,
        }
        server.running.end()
    return found


def _kill_one(server: Server, count: int) -> None:
    """In the middle: about a fifth of what four workers answer in a second, for each thousand."""
    time.sleep(0.1 * count / 1000)
    workers = children(server.running.pid)
    os.kill(workers[-1], signal.SIGKILL)


def two_nodes(stage: Stage, url: str, *, rounds: int, cuts: int) -> dict[str, Any]:
    """Two nodes with homes of their own and one state. Revoked beside one of them."""
    psycopg = require("psycopg", extra="postgres")
    name = f"counterseal_bench_{os.urandom(6).hex()}"
    mine = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            return _on_two_nodes(stage, mine, rounds, cuts)
        finally:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _on_two_nodes(stage: Stage, url: str, rounds: int, cuts: int) -> dict[str, Any]:
    parts = urlsplit(url)
    with Wall(parts.hostname or "localhost", parts.port or 5432) as wall:
        credentials, at, _ = parts.netloc.rpartition("@")
        through = parts._replace(netloc=f"{credentials}{at}127.0.0.1:{wall.port}")
        terms = Terms(files=(("scan", "scan.onnx"),))
        near = stage.governed("near", terms, state=url)
        near = stage.ready(near)
        far = stage.governed("far", terms, state=urlunsplit(through), like=near)
        far = stage.ready(far)
        try:
            both = _revoke(stage, [near, far], rounds, PAUSE_FAR, url)
            cut = [_cut_off(stage, far, wall) for _ in range(cuts)]
        finally:
            far.running.end()
            near.running.end()
    return {"two_nodes": {"near": both[0], "far": both[1]}, "cut_off": cut}


def _cut_off(stage: Stage, server: Server, wall: Wall) -> dict[str, float | None]:
    """Milliseconds from the cut to the last yes, and to the first no that is an answer (None: it
    does not answer while it is cut off)."""
    with Callers(server.target("scan", stage.bodies["scan"]), processes=1) as caller:
        caller.connect(1)
        caller.watch()
        time.sleep(SETTLE_SECONDS)
        at = time.monotonic_ns()
        wall.stand()
        time.sleep(CUT_SECONDS)
        wall.fall()
        seen = [one for one in caller.watched() if one["no"] >= at]
    time.sleep(BACK_SECONDS)  # it comes back by itself
    if not seen:  # it said yes all the time
        return {"yes": CUT_SECONDS * 1000, "answer": None, "watched": CUT_SECONDS * 1000}
    answer = seen[0].get("answer")
    if answer is not None and answer > at + CUT_SECONDS * 1000 * _MS:
        answer = None
    return {
        "yes": max(0, seen[0]["yes"] - at) / _MS,
        "answer": None if answer is None else (answer - at) / _MS,
        "watched": CUT_SECONDS * 1000,
    }
