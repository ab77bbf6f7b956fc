"""Samples: wall time, CPU time with children, and the ratio of two contenders with its interval.

Contenders take turns (A B C A B C ...), so that what slows the machine for a minute slows all
of them; ratios are taken within a turn. One warm-up turn is thrown away, nothing else is: a
failure is a result too.
"""

from __future__ import annotations

import mmap
import os
import resource
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random  # noqa: TID251 - a seeded bootstrap is statistics, not a secret
from typing import TYPE_CHECKING, Any, Final

from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "Contender",
    "Estimate",
    "Samples",
    "await_quiet",
    "child",
    "estimate",
    "take_turns",
    "warm_memory",
]

RESAMPLES: Final = 2000
PAGE_BYTES: Final = 4096
REPORTED: Final = Path("/sys/module/page_reporting/parameters/reported_kib")
REPORTING_SECONDS: Final = 2.5  # the kernel reports every 2 s (mm/page_reporting.c)
QUIET_SECONDS: Final = 0.4
QUIET_SHARE: Final = 0.1  # of one core
HELD_BYTES: Final = 64 << 20  # below, what a host takes back is lost in the noise
# What can go wrong with a disk, a peer or a package. A defect of ours still ends the run.
_FAILURES: Final = (CountersealError, OSError, subprocess.SubprocessError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class Contender:
    """`work` is timed; `after` cleans up, untimed, also when `work` failed."""

    name: str
    work: Callable[[], object]
    after: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Samples:
    """Seconds of every turn, None where it failed; `others` is CPU that other processes took."""

    wall: list[float | None] = field(default_factory=list)
    cpu: list[float | None] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The median, the extremes, and the 95 % bootstrap interval of the median."""

    median: float
    low: float
    high: float
    least: float
    most: float


def take_turns(
    contenders: Sequence[Contender],
    *,
    runs: int,
    before: Callable[[], object] = lambda: None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Samples]:
    """Let every contender run once per turn, after one warm-up turn that is not kept."""
    results = {contender.name: Samples() for contender in contenders}
    for turn in range(runs + 1):
        for contender in contenders:
            say(f"turn {turn}/{runs}: {contender.name}")
            before()
            samples = results[contender.name] if turn else Samples()
            _sample(contender, samples)
    return results


def _sample(contender: Contender, samples: Samples) -> None:
    busy, cpu, wall = _machine_cpu(), _cpu(), time.perf_counter()
    try:
        contender.work()
    except _FAILURES as error:
        samples.failures.append(f"{type(error).__name__}: {error}")
        samples.wall.append(None)
        samples.cpu.append(None)
    else:
        samples.wall.append(time.perf_counter() - wall)
        samples.cpu.append(_cpu() - cpu)
    finally:
        samples.others.append(max(0.0, _machine_cpu() - busy - (_cpu() - cpu)))
        contender.after()


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _machine_cpu() -> float:
    """CPU seconds of all processes since the start, and those the host took away."""
    fields = Path("/proc/stat").read_text().split(maxsplit=9)
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def await_quiet(*, at_most: float) -> float:
    """Wait, `at_most` so many seconds, for others to leave the machine alone; return how long."""
    started = time.monotonic()
    while (waited := time.monotonic() - started) < at_most:
        busy, cpu = _machine_cpu(), _cpu()
        time.sleep(QUIET_SECONDS)
        if _machine_cpu() - busy - (_cpu() - cpu) < QUIET_SHARE * QUIET_SECONDS:
            break
    return waited


def child(arguments: Sequence[str], *, env: Mapping[str, str]) -> float:
    """Run a program to its end, its output thrown away; return its CPU seconds."""
    process = subprocess.Popen(
        arguments, env=dict(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments[0]} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def estimate(values: Sequence[float]) -> Estimate:
    """Raises ValueError without values: a figure nobody measured has no median."""
    if not values:
        raise ValueError("nothing was measured")
    random = Random(0)  # noqa: S311 - the same report from the same data, every time
    medians = sorted(
        statistics.median(random.choices(values, k=len(values))) for _ in range(RESAMPLES)
    )
    low, high = medians[RESAMPLES // 40], medians[-1 - RESAMPLES // 40]
    return Estimate(statistics.median(values), low, high, min(values), max(values))


def warm_memory(size: int) -> None:
    """Touch `size` bytes in huge and `size` in small pages and give them back to the kernel.

    A virtual machine with free page reporting hands free memory to its host, every two seconds;
    whoever touches it next pays up to 2 s/GiB. That hit a random contender by more than any
    difference between them. So each starts with memory that the guest holds, and just after
    the reporting has had its turn.
    """
    maps = [_touched(size, advice) for advice in (mmap.MADV_HUGEPAGE, mmap.MADV_NOHUGEPAGE)]
    if size >= HELD_BYTES and REPORTED.exists():
        _await_reporting()
    for touched in maps:
        touched.close()


def _await_reporting() -> None:
    """Until the count of reported memory has moved and rests again, or does not move at all."""
    before = last = REPORTED.read_text()
    deadline = time.monotonic() + REPORTING_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = REPORTED.read_text()
        if now == last != before:
            return
        last = now


def _touched(size: int, advice: int) -> mmap.mmap:
    touched = mmap.mmap(-1, max(size, PAGE_BYTES), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    touched.madvise(advice)
    for at in range(0, len(touched), PAGE_BYTES):
        touched[at] = 1
    return touched
