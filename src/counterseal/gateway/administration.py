"""What the owner does to a gateway, over HTTP or from a command beside it (SPEC 18.6).

Each deed: kept in the state, announced (the epoch), and then an entry in the ledger of every
charter that it touches. In this order: what is taken back is gone even if a disk is full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from counterseal.charter.versions import version
from counterseal.errors import CountersealError, FormatError
from counterseal.gateway import registry, revocations
from counterseal.gateway.registry import DEFAULT, Canary
from counterseal.gateway.revocations import GRAINS
from counterseal.gateway.served import read_standing, write_standing
from counterseal.gateway.sessions import Sessions
from counterseal.ledger.entry import CharterRef, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from counterseal.charter.document import Charter
    from counterseal.gateway.revocations import Grain
    from counterseal.gateway.vault import Vault
    from counterseal.ledger.entry import Event

__all__ = ["Administration"]


@dataclass(frozen=True, slots=True)
class Administration:
    """`charters`: all that are served; `write(charter's id, record)` into its ledger;
    `announce`: bump the epoch here and on every node."""

    us: str
    vault: Vault
    charters: Callable[[], Iterable[Charter]]
    write: Callable[[str, Record], None]
    announce: Callable[[], None]

    def revoke(
        self, grain: str, subject: str, *, reason: str | None, at: datetime
    ) -> list[CountersealError]:
        """Take back at once. Returns what went wrong with ledgers: it stays revoked."""
        known = _grain(grain)
        subject = self._named(known, subject)
        touched = self._touched(known, subject)
        revocations.revoke(self.vault, known, subject, reason=reason, at=at)
        if known == "session":
            for charter in (*(one.id for one in touched), None):  # None: the owner's own
                Sessions(self.vault).end(subject, charter, why=reason or "the owner ended it")
        self.announce()
        return self._write_down(touched, "incident", f"suspend-{known}", subject)

    def lift(self, grain: str, subject: str) -> bool:
        """Give back what `revoke` took; a session that was ended stays ended."""
        known = _grain(grain)
        subject = self._named(known, subject)
        changed = revocations.lift(self.vault, known, subject)
        if changed:
            self.announce()
            touched = self._touched(known, subject)
            self._write_down(touched, "incident", f"lift-{known}", subject)
        return changed

    def clear(self, charter: Charter) -> None:
        """Take a charter off the monitoring's ladder; what detectors remember stays."""
        standing = read_standing(self.vault, charter.id).resumed()
        write_standing(self.vault, charter.id, standing)
        self.announce()
        self._write_down([charter], "incident", "clear", "monitoring.ladder")

    def point(self, model: str, alias: str, to: str | None) -> str:
        """Move an alias; `to` None: back."""
        if to is None:
            moved = registry.roll_back(self.vault, model, alias or DEFAULT)
        else:
            moved = registry.point(self.vault, model, alias or DEFAULT, _number(to))
        self.announce()
        verb = "rollback" if to is None else "alias"
        said = f"{model}@{moved.version}"
        self._write_down(self._touched("model", model), "model", f"{verb}-{moved.name}", said)
        return moved.version

    def try_out(self, model: str, to: str | None, *, permille: int, shadow: bool) -> None:
        canary = None
        if to is not None:
            if not 0 <= permille <= 1000:
                raise FormatError("a share is 0 to 1000 of a thousand")
            canary = Canary(
                kind="canary",
                format=1,
                model=model,
                version=_number(to),
                permille=permille,
                shadow=shadow,
            )
        registry.try_out(self.vault, canary, model)
        self.announce()
        action = "canary-end" if canary is None else "shadow" if shadow else "canary"
        said = model if canary is None else f"{model}@{canary.version}"
        self._write_down(self._touched("model", model), "model", action, said)

    def _named(self, grain: Grain, subject: str) -> str:
        """As it is kept: charters by their whole id, versions as three numbers."""
        if grain == "charter":
            found = [one.id for one in self.charters() if one.id.startswith(subject)]
            if len(found) != 1:
                raise FormatError(f"{subject!a} is not the id of one charter that is served")
            return found[0]
        if grain == "version":
            model, at, number = subject.partition("@")
            if not at:
                raise FormatError("a version is written NAME@1.4.0")
            return f"{model}@{_number(number)}"
        return subject

    def _touched(self, grain: Grain, subject: str) -> list[Charter]:
        return [one for one in self.charters() if self._touches(one, grain, subject)]

    def _touches(self, charter: Charter, grain: Grain, subject: str) -> bool:
        match grain:
            case "charter":
                return charter.id == subject
            case "partner":
                return charter.partner.identity == subject
            case "session":
                return self.vault.get(charter.id, f"session/{subject}") is not None
        return charter.asset(subject.partition("@")[0]) is not None

    def _write_down(
        self, charters: Iterable[Charter], event: Event, action: str, reason: str
    ) -> list[CountersealError]:
        return [*self._failures(charters, event, action, reason)]

    def _failures(
        self, charters: Iterable[Charter], event: Event, action: str, reason: str
    ) -> Iterator[CountersealError]:
        for charter in charters:
            record = Record(
                event=event,
                actor=self.us,
                partner=charter.partner.identity,
                charter=CharterRef(id=charter.id, version=charter.version),
                action=action,
                reason=reason,
            )
            try:
                self.write(charter.id, record)
            except CountersealError as error:
                yield error


def _grain(text: str) -> Grain:
    for grain in GRAINS:
        if grain == text:
            return grain
    raise FormatError(f"{text!a} cannot be revoked", hint=f"one of {', '.join(GRAINS)}")


def _number(text: str) -> str:
    try:
        return ".".join(map(str, version(text)))
    except ValueError as error:
        raise FormatError(str(error)) from None
