"""Processes that are measured from outside: started, awaited, and what CPU a whole tree took.

CPU is what the scheduler counted for each thread (`schedstat`, nanoseconds): ticks of 10 ms
would hide a short burst. A thread that has ended is not counted: servers keep theirs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import counterseal
from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

__all__ = [
    "PASSPHRASE",
    "PROC",
    "Running",
    "children",
    "environment",
    "free_port",
    "module",
    "tree_cpu",
]

PROC: Final = Path("/proc")
PASSPHRASE: Final = b"bench"  # of identities that live as long as a run
START_SECONDS: Final = 60.0
END_SECONDS: Final = 30.0


class Running:
    """A program; what it says goes to a file, so that it never waits for us."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        said: Path,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._said = said
        with said.open("wb") as file:
            self._process = subprocess.Popen(
                [str(one) for one in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment(env or {}),
                cwd=folder,
            )
        self.pid = self._process.pid

    def until(self, text: str, *, seconds: float = START_SECONDS) -> Self:
        deadline = time.monotonic() + seconds
        while text not in self.said:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise CountersealError(f"a server does not start: {self.said[-400:].strip()!a}")
            time.sleep(0.02)
        return self

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in [*children(self.pid), self.pid]:
                os.kill(pid, signal.SIGKILL)
            self._process.wait()


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours, with this very package importable, and `more`."""
    source = str(Path(counterseal.__file__).parents[1])
    known = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": known, **more}


def module(name: str, *arguments: Any) -> list[str]:
    """The command that runs a module of ours in a process of its own."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def children(pid: int) -> list[int]:
    """All that descend from a process, without itself."""
    parents: dict[int, int] = {}
    for place in PROC.iterdir():
        if place.name.isdigit():
            try:
                text = (place / "stat").read_text()
            except OSError:
                continue  # it has ended meanwhile
            parents[int(place.name)] = int(text.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and all that descend from it, so far."""
    total = 0
    for one in (pid, *children(pid)):
        for thread in (PROC / str(one) / "task").glob("*/schedstat"):
            try:
                total += int(thread.read_text().split()[0])
            except OSError:
                continue
    return total / 1e9


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on."""
    place, best = str(folder.resolve()), ("", "unknown")
    for line in (PROC / "mounts").read_text().splitlines():
        _, mounted, kind, *_ = line.split()
        inside = place == mounted or place.startswith(mounted.rstrip("/") + "/")
        if inside and len(mounted) > len(best[0]):
            best = mounted, kind
    return best[1]
