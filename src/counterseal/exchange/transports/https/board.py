"""The notice board, from the client's side: no update is lost, and nothing is fetched twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterseal.errors import RolledBack
from counterseal.exchange.transports.https.protocol import BYTES, RECIPIENT
from counterseal.wire import limits

if TYPE_CHECKING:
    from counterseal.exchange.transports.https.pool import Pool

__all__ = ["Board"]


class Board:
    """Remembers the tag of what it saw last in each box: what it replaces is that, or nothing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._notices: dict[str, tuple[str, bytes]] = {}

    def publish(self, box: str, letter: bytes, *, recipient: str) -> None:
        """Raises RolledBack if what is up is not what we saw last. The next call looks again."""
        if box not in self._notices:
            self.lookup(box)
        seen = self._notices.pop(box, None)
        headers = {RECIPIENT: recipient, "content-type": BYTES}
        headers |= {"if-none-match": "*"} if seen is None else {"if-match": seen[0]}
        try:
            reply = self._pool.call("PUT", f"/v1/board/{box}", headers, letter)
        except RolledBack:
            if self._is_up(box, letter):  # we put it up, and the answer was lost
                return
            raise
        self._notices[box] = (reply.headers.get("etag", ""), letter)

    def _is_up(self, box: str, letter: bytes) -> bool:
        same = self.lookup(box) == letter
        if not same:
            self._notices.pop(box, None)
        return same

    def lookup(self, box: str) -> bytes | None:
        seen = self._notices.get(box)
        headers = {} if seen is None else {"if-none-match": seen[0]}
        target = f"/v1/board/{box}"
        reply = self._pool.call(
            "GET", target, headers, limit=limits.LETTER_BYTES, expected=(200, 304, 404)
        )
        if reply.status == 304 and seen is not None:
            return seen[1]
        if reply.status == 200:
            self._notices[box] = (reply.headers.get("etag", ""), reply.body)
            return reply.body
        self._notices.pop(box, None)
        return None
