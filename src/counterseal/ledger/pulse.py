"""The thread of a ledger that writes what is noted, and publishes, at its pace."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.ledger.log import Log

__all__ = ["Pulse"]

_SHORTEST: Final = 0.01  # seconds between two checkpoints


class Pulse:
    """Runs from when it is made until `stop`. With `group=0` it writes what waits at once."""

    def __init__(
        self, log: Log, *, group: float, publish: Callable[[], None], seconds: float
    ) -> None:
        self._log, self._group = log, group
        self._publish, self._seconds = publish, max(seconds, _SHORTEST)
        self._ended = threading.Event()
        self._error: CountersealError | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic() + self._seconds
        try:
            while not self._ended.is_set():
                if self._log.await_entries(max(due - time.monotonic(), 0)):
                    if self._group:
                        self._ended.wait(self._group)
                    self._log.settle()
                if time.monotonic() >= due:
                    self._publish()
                    due = time.monotonic() + self._seconds
        except CountersealError as error:
            self._error = error

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def check(self) -> None:
        """Nothing is noted that nobody would write."""
        if not self.alive:
            raise CountersealError(
                "the ledger takes no more notes: its thread has ended", hint="open it again"
            ) from self._error

    def stop(self) -> None:
        self._ended.set()
        self._log.stir()
        self._thread.join()
