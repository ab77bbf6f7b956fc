"""Handshakes that were begun a moment ago: the same first message is not answered twice.

This is not what keeps a replay from becoming a channel: the responder's share is fresh, so
whoever replays cannot read message 2. It keeps a broker that repeats messages, or somebody
who recorded one, from making us sign again and again for one session (SPEC 9.5).
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from counterseal.errors import ReplayedMessage

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["SessionBook"]

WINDOW: Final = timedelta(minutes=10)
MOST: Final = 100_000  # about 20 MB


class SessionBook:
    """In memory, one for each responder, shared by its handshakes."""

    def __init__(self, *, window: timedelta = WINDOW, most: int = MOST) -> None:
        self._window = window
        self._most = most
        self._seen: dict[bytes, datetime] = {}  # oldest first
        self._turn = threading.Lock()

    def admit(self, session: bytes, *, at: datetime) -> None:
        """Note a session id; raise ReplayedMessage if it was here within the window."""
        with self._turn:
            while self._seen and self._is_over(next(iter(self._seen)), at):
                del self._seen[next(iter(self._seen))]
            if session in self._seen:
                raise ReplayedMessage("this handshake was begun before")
            self._seen[session] = at

    def _is_over(self, oldest: bytes, at: datetime) -> bool:
        # A full book lets the oldest go. Refusing instead would let a flood lock partners out,
        # and what is lost is work, not a defense.
        return len(self._seen) >= self._most or at - self._seen[oldest] > self._window

    def __len__(self) -> int:
        return len(self._seen)
