"""One request at the mailbox, with all that a route needs to answer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from counterseal.errors import FormatError, UnknownPartner
from counterseal.exchange.transports.https.limits import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from counterseal.exchange.transports.https.limits import Limits
    from counterseal.exchange.transports.https.messages import Request
    from counterseal.exchange.transports.https.rates import Buckets
    from counterseal.exchange.transports.https.shelf import Shelf
    from counterseal.exchange.transports.https.slots import Slots
    from counterseal.trust.history import History

__all__ = ["Call", "Desk"]


@dataclass(frozen=True, slots=True)
class Desk:
    """What a mailbox works with."""

    limits: Limits
    lookup: Callable[[str], History | None]
    shelf: Shelf
    slots: Slots
    postings: Buckets


@dataclass(frozen=True, slots=True)
class Call:
    """`who` is the identity of the client, empty for a stranger; `parts` come from the path."""

    desk: Desk
    request: Request
    at: datetime
    who: str
    parts: Mapping[str, str]

    def wait(self) -> float:
        """How many seconds it still wants to wait, as far as we let it."""
        text = self.request.query.get("wait", ["0"])[-1]
        if not text.isascii() or not text.isdigit() or len(text) > 4:
            raise FormatError("`wait` is a number of seconds")
        return 0.0 if self.request.waited else min(float(text), LONGEST_WAIT)

    def check_recipient(self, identity: str) -> None:
        """A letter for somebody who cannot fetch it would only fill the disk."""
        if self.desk.lookup(identity) is None:
            raise UnknownPartner(
                "this mailbox does not know the recipient",
                hint="its operator has to pin their card",
            )
