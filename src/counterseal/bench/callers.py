"""The other end of `bench.caller`: processes that call one server together."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from counterseal.bench.processes import environment, module
from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Callers", "Calls", "Target"]

PROCESSES: Final = 2  # a single one with 16 threads would wait for itself


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """Where requests go and what they are. `head` has a place for `{length}`; it may hold a
    token: it is written to a pipe, never into a command. No certificate: no TLS."""

    port: int
    head: str
    bodies: tuple[str, ...]
    authority: str | None = None
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Calls:
    """What came of some calls. `latencies` in seconds, sorted."""

    wall: float
    latencies: list[float]
    statuses: dict[int, int]

    @property
    def answered(self) -> int:
        return self.statuses.get(200, 0)


class Callers:
    """A context manager. Orders go to all processes at once."""

    def __init__(self, target: Target, *, processes: int = PROCESSES) -> None:
        self._target = target
        self._processes = [
            subprocess.Popen(
                module("counterseal.bench.caller"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment({}),
            )
            for _ in range(processes)
        ]
        self._used = self._processes
        for one in self._processes:
            self._say(one, asdict(target))

    def connect(self, connections: int, *, warm: int | None = None) -> None:
        """Make the connections and use them a little."""
        count = min(connections, len(self._processes))
        self._used = self._processes[:count]
        for number, one in enumerate(self._used):
            share = (connections + number) // count
            self._say(one, {"connections": share} | ({} if warm is None else {"warm": warm}))
        for one in self._used:
            self._hear(one)

    def call(self, requests: int, *, rate: float | None = None) -> Calls:
        count = len(self._used)
        for number, one in enumerate(self._used):
            order: dict[str, Any] = {"requests": (requests + number) // count}
            self._say(one, order if rate is None else {**order, "rate": rate / count})
        return _merged([self._hear(one) for one in self._used])

    def watch(self) -> None:
        """Call without a pause, until `watched`."""
        self._used = self._processes[:1]
        self._say(self._used[0], {"watch": True})

    def watched(self) -> list[dict[str, int]]:
        self._say(self._used[0], {})
        changes: list[dict[str, int]] = self._hear(self._used[0])
        return changes

    def _say(self, process: subprocess.Popen[str], order: dict[str, Any]) -> None:
        if process.stdin is not None:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()

    def _hear(self, process: subprocess.Popen[str]) -> Any:
        line = "" if process.stdout is None else process.stdout.readline()
        if not line:
            raise CountersealError("a caller ended without a word")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._processes:
            one.kill()
            one.communicate()


def _merged(parts: Sequence[dict[str, Any]]) -> Calls:
    statuses: dict[int, int] = {}
    for part in parts:
        for status, count in part["statuses"].items():
            statuses[int(status)] = statuses.get(int(status), 0) + count
    return Calls(
        max(part["wall"] for part in parts),
        sorted(value for part in parts for value in part["latencies"]),
        statuses,
    )
