"""A request, the usage so far, the time: allowed, or why not (SPEC 16.5).

Cedar decides. A request is allowed only by a clean Allow: whatever else comes back, an error
beside an Allow too, is a denial. Why not is found afterwards, by evaluating the same conditions.

An allowed request is remembered as the box around it: the same party, action, asset, version,
digest, role, purposes, address and proof, up to every limit, until the hour closes. Cedar is
asked at the far corners of the box before it is kept. Denials are never remembered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from counterseal._extras import require
from counterseal.charter.clauses import Clause, clauses_of, ending_risk
from counterseal.charter.conditions import ENTITIES, UNCOUNTED, AnyOf, holds
from counterseal.charter.document import Day
from counterseal.charter.policy import context_of, policies, schema
from counterseal.charter.request import Request, Usage, facts_of
from counterseal.errors import CharterDenied, FormatError, PurposeMismatch, QuotaExceeded

if TYPE_CHECKING:
    from counterseal.charter.conditions import Facts
    from counterseal.charter.document import Charter, Period, Unit

__all__ = ["Decision", "Reason", "Request", "Rules", "Usage"]

_MOST_KEPT: Final = 4096  # addresses in an allowed network are the partner's to choose
_SAID: Final = 100  # letters of what a request said about itself
_DAYS: Final = get_args(Day)
_NO_GRANT: Final = Clause("permissions", AnyOf(()), "no permission is for this action", "action")
_PURPOSES: Final = re.compile(r"purpose\..*|permissions\[[0-9]+\]\.purposes")


@dataclass(frozen=True, slots=True)
class Reason:
    """`path`: where the charter says so. `retry_at`: for quotas that refill."""

    path: str
    message: str
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """`policies`: ids of what allowed it. `reasons`: all that has to change, if denied."""

    allowed: bool
    policies: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    def raise_for_denied(self) -> None:
        """PurposeMismatch or QuotaExceeded if nothing else is wrong, else CharterDenied."""
        if self.allowed:
            return
        message = "; ".join(f"{one.message} (`{one.path}`)" for one in self.reasons)
        about = {_PURPOSES.sub("purpose", one.path).partition("[")[0] for one in self.reasons}
        if about == {"limits.quotas"}:
            times = [one.retry_at for one in self.reasons if one.retry_at is not None]
            refills = len(times) == len(self.reasons)
            raise QuotaExceeded(message, retry_at=max(times) if refills else None)
        if about == {"purpose"}:
            raise PurposeMismatch(message)
        raise CharterDenied(message or "the charter does not permit this")


@dataclass(frozen=True, slots=True)
class _Box:
    """Every request of one claim that is allowed together with one that was."""

    begins: datetime
    ends: datetime
    most: Usage
    rows: int
    bytes: int
    quotas: tuple[tuple[tuple[Unit, Period], int], ...]
    decision: Decision

    def covers(self, request: Request, usage: Usage, at: datetime) -> bool:
        most, used = self.most, usage.used
        # Everything has to be so, and not: nothing is otherwise. What is not a number is in no box.
        for key, count in self.quotas:
            if not used.get(key, UNCOUNTED) <= count:
                return False
        return (
            request.rows <= self.rows
            and request.bytes <= self.bytes
            and usage.concurrent <= most.concurrent
            and usage.risk <= most.risk
            and self.begins <= at < self.ends
        )


# All of a request but its amounts.
_CLAIM: Final = attrgetter(
    *(name for name in Request.__struct_fields__ if name not in ("rows", "bytes"))
)


class Rules:
    """One charter, compiled once. Raises FormatError if its policies do not validate.

    The cost of `decide` depends on this charter and not on how many others there are.
    """

    def __init__(self, charter: Charter) -> None:
        self.charter = charter
        self._clauses = clauses_of(charter)
        self._context = context_of(charter)
        text, facts = policies(charter), schema(charter)
        self._engine = require("cedarpy._internal", extra="charter")
        _validate(text, facts)
        self._policies = self._engine.PolicySet.from_str(text)
        self._schema = _schema(facts)
        self._entities = self._engine.Entities.from_json_str("[]")
        self._kept: dict[object, _Box] = {}

    def decide(self, request: Request, usage: Usage, *, at: datetime) -> Decision:
        claim = _CLAIM(request)
        box = self._kept.get(claim)
        if box is not None and box.covers(request, usage, at):
            return box.decision
        facts = facts_of(request, usage, at=at)
        decision = self._ask(facts)
        if not decision.allowed:
            return Decision(False, reasons=self._reasons(request, facts, at) or decision.reasons)
        self._keep(claim, request, decision, at)
        return decision

    def _ask(self, facts: Facts) -> Decision:
        """Cedar's answer. Whatever is not a clean Allow is a denial."""
        try:
            reply = _REPLY.decode(self._evaluate(facts))
        except (ValueError, OverflowError, msgspec.DecodeError) as error:
            return _refused(str(error))  # half characters, numbers of more than 64 bits
        found = reply.diagnostics
        if reply.decision == "Allow" and not found.errors and found.id_annotations_by_reason:
            return Decision(True, policies=tuple(sorted(found.id_annotations_by_reason.values())))
        return _refused("; ".join(found.errors) or reply.decision)

    def _evaluate(self, facts: Facts) -> str:
        """As entity ids and JSON: no word of a request is ever part of Cedar text."""
        context = {name: getattr(facts, name) for name in self._context}
        request: dict[str, Any] = {
            variable: {"type": kind, "id": getattr(facts, fact)}
            for fact, (variable, kind) in ENTITIES.items()
        }
        request["context"] = msgspec.json.encode(context).decode()
        # The schema always: without it, a fact that is missing is an error of one policy only.
        answer: str = self._engine.is_authorized(
            request, self._policies, self._entities, self._schema, False
        )
        return answer

    def _reasons(self, request: Request, facts: Facts, at: datetime) -> tuple[Reason, ...]:
        """What did not hold: of all requests, and of the permission that is nearest."""
        failed = [one for one in self._clauses.always if not holds(one.condition, facts)]
        offered = [one for one in self._clauses.grants if holds(one.action.condition, facts)]
        nearest = [_NO_GRANT]
        if offered:
            missed = (
                [one for one in x.clauses if not holds(one.condition, facts)] for x in offered
            )
            nearest = min(missed, key=len)
        return tuple(self._reason(one, request, facts, at) for one in (*nearest, *failed))

    def _reason(self, clause: Clause, request: Request, facts: Facts, at: datetime) -> Reason:
        fact = clause.fact
        value = at if fact == "now" else getattr(request, fact, None) or getattr(facts, fact, None)
        period = fact.rpartition("_")[2] if fact.startswith("used_") else None
        retry = None if period is None else self._refill(period, at)
        return Reason(clause.path, f"{clause.words}; {_said(value)}", retry)

    def _refill(self, period: str, at: datetime) -> datetime | None:
        """When the next period of UTC begins, if that is within the term."""
        moment = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        match period:
            case "hour":
                moment += timedelta(hours=1)
            case "day":
                moment = moment.replace(hour=0) + timedelta(days=1)
            case "month":
                moment = (moment.replace(day=1, hour=0) + timedelta(days=32)).replace(day=1)
            case _:
                return None
        return moment if moment < self.charter.ends else None

    def _keep(self, claim: object, request: Request, decision: Decision, at: datetime) -> None:
        """Remember the box, if Cedar allows its first and its last corner, too.

        All that is between is allowed then: amounts are only ever bounded from above, and within
        the box the day of the week does not change (or does not matter).
        """
        limits = self.charter.limits
        window = self._window(at)
        if window is None:
            return
        end = ending_risk(self.charter)
        quotas = tuple(((quota.unit, quota.period), quota.count) for quota in limits.quotas)
        most = Usage(
            concurrent=limits.concurrency,
            risk=100 if end is None else end - 1,
            used=dict(quotas),
        )
        rows, size = limits.rows_per_request, limits.bytes_per_request
        box = _Box(*window, most, rows, size, quotas, decision)
        full = msgspec.structs.replace(request, rows=box.rows, bytes=box.bytes)
        for corner in (box.begins, box.ends - timedelta(seconds=1)):
            if self._ask(facts_of(full, most, at=corner)) != decision:
                return
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[claim] = box

    def _window(self, at: datetime) -> tuple[datetime, datetime] | None:
        """The part of the term around `at` with the same hours."""
        begins, ends = self.charter.begins, self.charter.ends
        if self.charter.limits.hours is None:
            return begins, ends
        moment = at.astimezone(UTC)
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        for hours in self.charter.limits.hours:
            first, last = (midnight + timedelta(minutes=one) for one in (hours.begin, hours.end))
            if _DAYS[moment.weekday()] in hours.days and first <= moment < last:
                return max(first, begins), min(last, ends)
        return None


class _Diagnostics(msgspec.Struct):
    errors: list[str]
    id_annotations_by_reason: dict[str, str] = {}


class _Reply(msgspec.Struct):
    decision: str
    diagnostics: _Diagnostics


_REPLY: Final = msgspec.json.Decoder(_Reply)


def _refused(why: str) -> Decision:
    return Decision(False, reasons=(Reason("policy", f"the policy engine refused: {why}"),))


def _said(value: object) -> str:
    """What a request said, for a message that a person reads: short, no control characters."""
    if value in ("", None):
        return "nothing was said"
    if value == UNCOUNTED:
        return "nobody counted"
    if isinstance(value, tuple):
        text = ".".join(map(str, value))
    else:
        text = ascii(value) if isinstance(value, str) else str(value)
    return f"this is {text if len(text) <= _SAID else f'{text[:_SAID]}...'}"


def _validate(text: str, facts: str) -> None:
    result = require("cedarpy", extra="charter").validate_policies(text, facts)
    if not result.validation_passed:
        raise FormatError(
            f"the charter's policies are not valid ({result.errors[0].error})",
            hint="this release cannot enforce this charter: it must not be agreed",
        )


@lru_cache(maxsize=64)  # equal quotas, equal schema
def _schema(text: str) -> Any:
    return require("cedarpy._internal", extra="charter").Schema.from_str(text)
