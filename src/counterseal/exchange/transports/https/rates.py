"""How often is too often: the generic cell rate algorithm, with the clock as an argument.

One number for each key: the moment at which its bucket will be empty again. It may lie up to
`burst` intervals ahead; a request that would push it further has to wait.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from counterseal.errors import QuotaExceeded

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Buckets", "Rate"]

KEYS: Final = 4096  # beyond this many the empty ones are thrown away


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`count` in so many `seconds`, and up to `burst` at once."""

    count: int
    seconds: float
    burst: int


class Buckets:
    """One bucket for each key, all of one rate. Safe to call from several threads."""

    def __init__(self, rate: Rate, *, what: str) -> None:
        self._interval = rate.seconds / rate.count
        self._room = self._interval * rate.burst
        self._what = what
        self._empty_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, key: str, *, at: datetime) -> None:
        """Raises QuotaExceeded with the moment from which it will be granted."""
        now = at.timestamp()
        with self._lock:
            # min: a clock that was set back must not lock anybody out
            begin = max(now, min(self._empty_at.get(key, now), now + self._room))
            wait = begin + self._interval - (now + self._room)
            if wait <= 0:
                self._empty_at[key] = begin + self._interval
            if len(self._empty_at) > KEYS:
                self._empty_at = {k: end for k, end in self._empty_at.items() if end > now}
        if wait > 0:
            raise QuotaExceeded(
                f"too many {self._what}", retry_at=at + timedelta(seconds=wait), hint="wait"
            )
