"""The ladder of a charter's `monitoring`: what a risk leads to, and what it leads back from.

Rules, in order:
1. every rung whose `at` is reached is taken, the lower ones too;
2. "suspend" and "revoke" stay, whatever the risk does afterwards: people lift them, not a
   detector that has nothing left to look at (`resumed`);
3. "flag", "tighten" and "throttle" are lifted when the risk is `EASE` below where they began,
   or 0: less would write a ledger entry for every wave;
4. each rung taken or lifted is a `Step`, for the ledger; nothing else changes standing.

`holds` is the risk that decisions count with: never below a rung that stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import msgspec

from counterseal.charter.clauses import ENDING
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message

if TYPE_CHECKING:
    from counterseal.charter.document import Monitoring, Rung

__all__ = ["EASE", "Standing", "Step", "rung_of"]

EASE: Final = 10
Do: TypeAlias = Literal["flag", "tighten", "throttle", "suspend", "revoke"]


@dataclass(frozen=True, slots=True)
class Step:
    """A rung taken at this risk, or lifted again."""

    do: str
    risk: int
    lifted: bool = False


class _Stored(Message, frozen=True):
    kind: Literal["standing"]
    format: Literal[1]
    taken: Annotated[tuple[Do, ...], msgspec.Meta(max_length=5)]
    holds: Annotated[int, msgspec.Meta(ge=0, le=100)]


@dataclass(frozen=True, slots=True)
class Standing:
    """`taken`: the rungs in force, lowest first."""

    taken: tuple[Do, ...] = ()
    holds: int = 0

    @property
    def rung(self) -> str | None:
        """The highest in force."""
        return self.taken[-1] if self.taken else None

    @property
    def flagged(self) -> bool:
        return "flag" in self.taken

    @property
    def tightened(self) -> bool:
        return "tighten" in self.taken

    @property
    def slowed(self) -> bool:
        return "throttle" in self.taken

    @property
    def ended(self) -> bool:
        return any(do in ENDING for do in self.taken)

    def after(self, monitoring: Monitoring, risk: int) -> tuple[Standing, tuple[Step, ...]]:
        """Standing once the risk is `risk`, and what changed by it."""
        if not 0 <= risk <= 100:
            raise ValueError("risk is 0 to 100")
        rungs = monitoring.ladder
        now = tuple(rung.do for rung in rungs if self._stands(rung, risk))
        # What a newer version of the charter has no rung for stays, if it is one that stays.
        now += tuple(do for do in self.taken if do in ENDING and do not in now)
        taken = tuple(Step(do, risk) for do in now if do not in self.taken)
        lifted = tuple(Step(do, risk, lifted=True) for do in self.taken if do not in now)
        ended = [rung.at for rung in rungs if rung.do in ENDING and rung.do in now]
        stays = self.holds if self.ended else 0
        return Standing(now, max(risk, stays, *ended)), taken + lifted

    def _stands(self, rung: Rung, risk: int) -> bool:
        if risk >= rung.at:
            return True
        if rung.do not in self.taken:
            return False
        return rung.do in ENDING or not (risk <= rung.at - EASE or risk == 0)

    def resumed(self) -> Standing:
        """After both sides agreed to go on."""
        return Standing()

    def encode(self) -> bytes:
        return canonical.encode(
            _Stored(kind="standing", format=1, taken=self.taken, holds=self.holds)
        )

    @classmethod
    def decode(cls, data: bytes) -> Standing:
        stored = canonical.decode(data, _Stored, limit=limits.KIB, what="standing")
        return cls(stored.taken, stored.holds)


def rung_of(monitoring: Monitoring, risk: int) -> str | None:
    """The highest rung that this risk reaches by itself."""
    return next((rung.do for rung in reversed(monitoring.ladder) if risk >= rung.at), None)
