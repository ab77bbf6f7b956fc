"""What is taken back, at every grain: a session, a charter, a model, a version, a partner.

Kept in the state, read by every worker when the epoch has changed. Taking back is at once and
the owner's alone; giving back (`lift`) is too: it restores nothing that the charter, which
needs both to be resumed, does not allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, get_args

import msgspec

from counterseal.errors import CharterDenied, FormatError
from counterseal.gateway.state import NO_CHARTER
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message, Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from counterseal.gateway.registry import Offer
    from counterseal.gateway.vault import Vault

__all__ = ["GRAINS", "Grain", "Revocation", "Revoked", "lift", "revocations", "revoke"]

Grain: TypeAlias = Literal["session", "charter", "model", "version", "partner"]
GRAINS: Final[tuple[Grain, ...]] = get_args(Grain)
_CELL: Final = "revoked/"
Subject = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._@-]{1,128}\Z", max_length=128)]


class Revocation(Message, frozen=True):
    """`subject`: a session's id, a charter's, a model's name, NAME@1.4.0, an identity."""

    kind: Literal["revocation"]
    format: Literal[1]
    grain: Grain
    subject: Subject
    reason: Annotated[str, msgspec.Meta(max_length=200)] | None
    at: Timestamp


def revoke(
    vault: Vault, grain: Grain, subject: str, *, reason: str | None, at: datetime
) -> Revocation:
    """Take back. The caller writes it down and bumps the epoch."""
    try:
        made = msgspec.convert(
            {
                "kind": "revocation",
                "format": 1,
                "grain": grain,
                "subject": subject,
                "reason": reason,
                "at": canonical.timestamp(at),
            },
            Revocation,
        )
    except msgspec.ValidationError as error:
        raise FormatError(f"this cannot be revoked ({error})") from None
    vault.change(NO_CHARTER, f"{_CELL}{grain}/{subject}", lambda _: (canonical.encode(made), None))
    return made


def lift(vault: Vault, grain: Grain, subject: str) -> bool:
    """Give back; whether it had been taken."""
    return vault.change(
        NO_CHARTER, f"{_CELL}{grain}/{subject}", lambda data: (None, data is not None)
    )


def revocations(vault: Vault) -> list[Revocation]:
    return [
        canonical.decode(data, Revocation, limit=2 * limits.KIB, what="revocation")
        for _, data in vault.items(NO_CHARTER, _CELL)
    ]


@dataclass(frozen=True, slots=True)
class Revoked:
    """All of it, to look up."""

    by: dict[tuple[str, str], Revocation]

    @classmethod
    def of(cls, found: Iterable[Revocation]) -> Revoked:
        return cls({(one.grain, one.subject): one for one in found})

    def check(self, *, session: str, charter: str, partner: str) -> None:
        """Raises CharterDenied for a session of something that was taken back."""
        if self.by:
            self._check("partner", partner)
            self._check("charter", charter)
            self._check("session", session)

    def check_model(self, offer: Offer) -> None:
        if self.by:
            self._check("model", offer.model)
            self._check("version", f"{offer.model}@{offer.number}")

    def _check(self, grain: Grain, subject: str) -> None:
        found = self.by.get((grain, subject))
        if found is not None:
            why = f": {found.reason}" if found.reason else ""
            raise CharterDenied(
                f"the {grain} was suspended by the owner on {found.at:%Y-%m-%d %H:%M} UTC{why}",
                hint="talk to the owner; the ledger has the entry",
            )
