"""What is to be sealed, for whom, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from counterseal.crypto.agreement import SealKey
    from counterseal.crypto.passphrase import Cost
    from counterseal.exchange.header import Header
    from counterseal.exchange.keys import ContentKey
    from counterseal.models.manifest import FileEntry, Manifest, Owner
    from counterseal.trust.prekeys import ForwardSecrecy

__all__ = ["ForKeys", "ForPassphrase", "Plan", "Sealed", "StatementMaker"]


@dataclass(frozen=True, slots=True)
class ForKeys:
    """One recipient: their card's key id and key, and a prekey (id, key) if one is at hand.

    `last_resort`: the prekey is theirs for any number of packages, and sealing does not spend it.
    """

    card: str
    key: SealKey
    prekey: tuple[str, SealKey] | None = None
    last_resort: bool = False

    @property
    def spends(self) -> tuple[str, ...]:
        """The one-time prekey that sealing uses up."""
        return () if self.prekey is None or self.last_resort else (self.prekey[0],)

    @property
    def forward_secrecy(self) -> ForwardSecrecy:
        if self.prekey is None:
            return "none"
        return "last-resort" if self.last_resort else "one-time"


@dataclass(frozen=True, slots=True, repr=False)
class ForPassphrase:
    """Whoever knows the passphrase; never beside other recipients."""

    passphrase: bytes
    cost: Cost


@dataclass(frozen=True, slots=True)
class StatementMaker:
    """Makes or carries the owner's statement: given the files and the model digest, its text.

    `placeholder` has the length of the longest text that `make` may return.
    """

    owner: Owner
    placeholder: Callable[[Sequence[FileEntry]], str]
    make: Callable[[Sequence[FileEntry], str], str]


@dataclass(frozen=True, slots=True)
class Plan:
    """One sealing. `version` must be above every version of `model` this sender has given out."""

    model: str
    version: int
    layout: Literal["file", "folder"]
    media_types: dict[str, str]
    recipients: tuple[ForKeys, ...] | ForPassphrase
    created: datetime
    expires: datetime | None = None
    charter: str | None = None
    statement: StatementMaker | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A package that was written."""

    header: Header
    manifest: Manifest
    content_key: ContentKey
