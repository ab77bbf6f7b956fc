"""Add a recipient to a package that we sealed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from counterseal.exchange import amend
from counterseal.exchange.sent import SentBook
from counterseal.jobs.seal import recipient_of

if TYPE_CHECKING:
    from counterseal.exchange.header import Header
    from counterseal.trust.card import CardDocument
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner

__all__ = ["add_recipient"]


def add_recipient(
    package: Path | str,
    *,
    by: Identity,
    to: Partner | CardDocument,
    at: datetime | None = None,
) -> Header:
    """Let one more partner open `package`. The payload is not touched; earlier copies stay valid.

    Only its sender can, and only if the content key was kept. Raises TrustError otherwise,
    BadSignature if the package is not ours, FormatError for a passphrase package.
    """
    at = at or datetime.now(UTC)
    recipient = recipient_of(to, SentBook(by), at=at)
    return amend.add_recipient(Path(package), recipient, by=by, at=at)
