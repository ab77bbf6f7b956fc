"""A clock that never goes back: whoever sets this machine's clock back gains no time (SPEC 18.3).

While the process runs, time is what it was at the start plus what has passed since; a wall
clock that is ahead of that (after sleep, or because it was set) is followed. Across processes
the latest time that was seen is kept in the state: one that starts long before it refuses.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from counterseal.errors import CountersealError
from counterseal.gateway.state import NO_CHARTER

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.gateway.vault import Vault

__all__ = ["SteadyClock"]

_CELL: Final = "clock"
AHEAD: Final = timedelta(minutes=1)  # how far the wall clock may stand behind what was seen


class SteadyClock:
    def __init__(
        self,
        vault: Vault,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises CountersealError if the wall clock stands before what this state has seen."""
        self._vault, self._wall, self._steady = vault, wall, steady
        now = wall()
        seen = vault.get(NO_CHARTER, _CELL)
        if seen is not None and now < int(seen) - AHEAD.total_seconds():
            raise CountersealError(
                f"the clock of this machine went back: it was {_text(int(seen))} here already",
                hint="set it right; a gateway on a clock that is wrong would open what has ended",
            )
        self._offset = now - steady()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)

    def seconds(self) -> float:
        steady = self._steady()
        self._offset = max(self._offset, self._wall() - steady)
        return steady + self._offset

    def keep(self) -> None:
        """Write down how late it is; once a minute is enough."""
        now = int(self.seconds())

        def later(data: bytes | None) -> tuple[bytes, None]:
            return b"%d" % max(now, int(data or 0)), None

        self._vault.change(NO_CHARTER, _CELL, later)


def _text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
