"""How fast: the generic cell rate algorithm, in whole nanoseconds.

One number per charter, the theoretical arrival time (`tat`): when the next request would come
if all came evenly. A request may be early by what `burst` allows; one that is earlier is
refused, costs nothing and learns how long to wait.

    interval = seconds / count, rounded up: never faster than agreed
    admitted if tat - (burst - 1) * interval <= now;  then tat = max(tat, now) + interval

`now` is a clock of this node that does not go back within a boot (CLOCK_MONOTONIC). Should it
go back nevertheless, everybody waits longer: a time that was spent is not given twice. What was
kept over a boot is of another clock: `recalled` makes the most of it that can be true, which is
that the burst was just spent.
"""

from __future__ import annotations

from typing import Final

__all__ = ["admit", "recalled"]

NANOSECONDS: Final = 1_000_000_000
_MOST_TOLERANCE: Final = 1 << 61  # 73 years: with it, every time fits in 63 bits


def admit(tat: int, *, now: int, count: int, seconds: int, burst: int) -> tuple[int | None, int]:
    """The new arrival time (None if refused), and how long until it would be admitted."""
    interval = -(-seconds * NANOSECONDS // count)
    wait = tat - now - min((burst - 1) * interval, _MOST_TOLERANCE)
    if wait > 0:
        return None, wait
    return max(tat, now) + interval, 0


def recalled(tat: int, *, now: int, count: int, seconds: int, burst: int) -> int:
    """An arrival time that was kept over a boot, on the clock of this one."""
    interval = -(-seconds * NANOSECONDS // count)
    return min(tat, now + interval + min((burst - 1) * interval, _MOST_TOLERANCE))
