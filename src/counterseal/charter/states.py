"""From draft to closed: a chain of signed steps, folded into where a charter stands (SPEC 16.3).

    draft -> offered <-> countered -> accepted -> signed
    signed -> active <-> suspended -> exiting -> closed

| step | from | to | who signs |
|---|---|---|---|
| offer | draft, countered | offered | either; after a counter-offer not who made it |
| counter | offered | countered | who did not make the offer |
| accept | offered, countered | accepted | who did not move last |
| sign | accepted | signed | either; both signatures stand under the version |
| suspend | active | suspended | either, alone |
| resume | suspended | active | both |
| amend | active, suspended | the same | both; the owner alone if the version is proved narrower |
| exit | active, suspended | exiting | either |
| close | exiting | closed | both |

A signed charter is active from `begins` on, and exiting when its term has ended: by the clock,
without a step. Every step names the one before it and the version it is about; what is not in
the table is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.charter.document import CharterId, Line
from counterseal.charter.signing import check_continues
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import CharterDenied, RolledBack, TamperError
from counterseal.wire import canonical
from counterseal.wire.canonical import Hex32, Message, Timestamp

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from counterseal.charter.document import Charter
    from counterseal.charter.signing import Side, SignedCharter

__all__ = ["STEPS", "STEP_TYPE", "Action", "Standing", "State", "Step", "needs_both"]

STEP_TYPE: Final = "application/vnd.counterseal.charter-step.v1+json"

State = Literal[
    "draft", "offered", "countered", "accepted", "signed", "active", "suspended", "exiting",
    "closed",
]  # fmt: skip
Action = Literal[
    "offer", "counter", "accept", "sign", "suspend", "resume", "amend", "exit", "close"
]
Who = Literal["either", "other", "both"]

# (step, from): (to, who)
STEPS: Final[dict[tuple[Action, State], tuple[State, Who]]] = {
    ("offer", "draft"): ("offered", "either"),
    ("offer", "countered"): ("offered", "other"),
    ("counter", "offered"): ("countered", "other"),
    ("accept", "offered"): ("accepted", "other"),
    ("accept", "countered"): ("accepted", "other"),
    ("sign", "accepted"): ("signed", "either"),
    ("suspend", "active"): ("suspended", "either"),
    ("resume", "suspended"): ("active", "both"),
    ("amend", "active"): ("active", "both"),
    ("amend", "suspended"): ("suspended", "both"),
    ("exit", "active"): ("exiting", "either"),
    ("exit", "suspended"): ("exiting", "either"),
    ("close", "exiting"): ("closed", "both"),
}


def needs_both(action: Action, state: State) -> bool:
    return (action, state) in STEPS and STEPS[action, state][1] == "both"


class Step(Message, frozen=True):
    """`version`: digest of the version that the charter has after it; `previous`: of the step."""

    kind: Literal["charter-step"]
    format: Literal[1]
    charter: CharterId
    number: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    previous: Hex32 | None
    action: Action
    version: Hex32
    reason: Line | None
    at: Timestamp

    @property
    def digest(self) -> str:
        return sha256(bind("charter step", canonical.encode(self))).hex()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a charter stands after some steps. `moved`: who took the last one."""

    state: State = "draft"
    version: SignedCharter | None = None
    last: Step | None = None
    moved: frozenset[Side] = frozenset()

    def at(self, moment: datetime) -> State:
        """What the clock makes of it."""
        if self.version is None:
            return self.state
        charter: Charter = self.version.charter
        if self.state == "signed" and moment >= charter.begins:
            return "active" if moment < charter.ends else "exiting"
        if self.state in {"active", "suspended"} and moment >= charter.ends:
            return "exiting"
        return self.state

    def after(
        self,
        step: Step,
        *,
        by: AbstractSet[Side],
        version: SignedCharter,
        narrower: bool = False,
    ) -> Standing:
        """Take a step that `by` signed. `narrower`: its version was proved to be (`diff`).

        Raises CharterDenied for a step that is not in the table, TamperError for another chain.
        """
        self._check_chain(step, version)
        state = self.at(step.at)
        if (step.action, state) not in STEPS:
            raise CharterDenied(
                f'a charter that is {state} has no step "{step.action}"',
                hint="counterseal charter show says where it stands",
            )
        to, who = STEPS[step.action, state]
        self._check_who(step, who, by, narrower=narrower)
        self._check_text(step, version.charter)
        if step.action in {"sign", "resume", "amend"} and not version.complete:
            alone = step.action == "amend" and narrower and "owner" in version.sides
            if not alone:
                raise CharterDenied("both parties have not signed this version")
        return replace(self, state=to, version=version, last=step, moved=frozenset(by))

    def _check_chain(self, step: Step, version: SignedCharter) -> None:
        charter = version.charter
        before = None if self.last is None else self.last.digest
        number = 1 if self.last is None else self.last.number + 1
        if (step.previous, step.number) != (before, number) or step.charter != charter.id:
            raise TamperError(
                "the steps of this charter do not follow from each other",
                hint="ask your partner for the whole charter",
            )
        if step.version != charter.digest:
            raise TamperError("a step names another version than the one that came with it")
        if self.last is not None and step.at < self.last.at:
            raise TamperError("a step is dated before the one that it follows")

    def _check_text(self, step: Step, charter: Charter) -> None:
        """Only an offer, a counter-offer and an amendment bring another text."""
        if self.version is None:
            return
        if step.action == "amend":
            if charter.version <= self.version.charter.version:
                raise RolledBack("an amendment has the next version")
            check_continues(charter, self.version.charter)
        elif step.action in {"offer", "counter"}:
            if charter.id != self.version.charter.id:
                raise TamperError("a counter-offer is about the same charter")
        elif charter.digest != self.version.charter.digest:
            raise TamperError(f'the step "{step.action}" is about another version')

    def _check_who(self, step: Step, who: Who, by: AbstractSet[Side], *, narrower: bool) -> None:
        good = bool(by)
        if who == "other":
            good = bool(by) and not by & self.moved
        elif who == "both":
            alone = step.action == "amend" and narrower and by == {"owner"}
            good = by == {"owner", "partner"} or alone
        if not good:
            needed = {"either": "a party", "other": "the other side", "both": "both parties"}[who]
            raise CharterDenied(
                f'the step "{step.action}" needs the signature of {needed}',
                hint="either side suspends alone; resuming or widening needs both"
                if who == "both"
                else None,
            )
