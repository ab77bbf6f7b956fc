"""Serve a mailbox for the partners pinned in this home, and for ourselves."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from counterseal.exchange.transports.https.mailbox import Mailbox
from counterseal.exchange.transports.https.server import serve as listen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from counterseal.exchange.transports.https.limits import Limits
    from counterseal.exchange.transports.https.server import Server
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import PartnerBook

__all__ = ["Clients", "serve"]

FRESH_SECONDS: Final = 1.0


class Clients:
    """Who may use the mailbox: every partner in the book, read again every second.

    So `partner add`, `refresh` and `remove` act on a running mailbox within that second.
    """

    def __init__(
        self,
        book: PartnerBook,
        *,
        us: History,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book, self._us, self._clock = book, us, clock
        self._lock = threading.Lock()
        self._known: dict[str, History] = {}
        self._read = -FRESH_SECONDS

    def __call__(self, identity: str) -> History | None:
        with self._lock:
            now = self._clock()
            if now - self._read >= FRESH_SECONDS:
                partners = {partner.identity: partner.history for partner in self._book.list()}
                self._known = {**partners, self._us.identity: self._us}
                self._read = now
            return self._known.get(identity)


def serve(
    root: Path,
    *,
    by: Identity,
    book: PartnerBook,
    host: str,
    port: int,
    limits: Limits | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> tuple[Mailbox, Server]:
    """Listen, and return at once. Close the server, then the mailbox."""
    mailbox = Mailbox(root, identity=by, lookup=Clients(book, us=by.history), limits=limits)
    try:
        return mailbox, listen(mailbox, host, port, log=log)
    except BaseException:
        mailbox.close()
        raise
