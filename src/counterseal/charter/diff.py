"""What one charter allows and another refuses, proved and not sampled (SPEC 16.6).

z3 searches all requests at once: parties, times of day, addresses, amounts. What it finds comes
back as a request that can be read and asked again. What Cedar does not decide is compared in its
order (a slower rate is narrower), and what has no order has to be equal.

Only `Difference.narrows` may make a change take effect with one signature. It is False for
whatever was not proved: out of time is out of proof.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from counterseal._extras import require
from counterseal.charter.clauses import WORDS, allows, clauses_of
from counterseal.charter.conditions import UNCOUNTED, Facts, smt
from counterseal.charter.document import Charter, Day, Period
from counterseal.charter.request import USED, Request, Usage, facts_of
from counterseal.charter.terms import moved, other_terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from counterseal.charter.clauses import Clause, Clauses

__all__ = ["Difference", "Example", "Relation", "compare"]

Relation: TypeAlias = Literal["equal", "narrower", "wider", "incomparable", "unknown"]

TIMEOUT: Final = timedelta(seconds=10)  # for each of two questions; they take milliseconds
_WISH: Final = timedelta(milliseconds=200)  # for making an example ordinary: it need not succeed
_DAYS: Final = get_args(Day)
_YEARS: Final = (datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC))
_NOBODY: Final = 0  # the string that is in neither charter
# What a string that is in neither charter looks like in an example.
_ANOTHER: Final = {"party": "00" * 32, "digest": "00" * 32}

# An example is easier to read if it is ordinary but for one thing. Each is tried in turn.
_ORDINARY: Final = (
    "(and (>= rows 1) (>= bytes 1) (= concurrent 1) (= risk 0))",
    "(and (>= rows 1) (>= bytes 1))",
    "(= concurrent 1)",
    "(= risk 0)",
    *(
        f"(and {' '.join(f'(= used_{unit}_{period} {used})' for period in get_args(Period))})"
        for unit, used in (("requests", "1"), ("rows", "rows"), ("tokens", "0"))
    ),
    "(= session_purpose purpose)",
    "(and (= address0 0) (= address1 0) (= address2 65535))",
    "(>= address0 0)",
    "(<= weekday 4)",
    "(and (<= 540 minute) (< minute 1020))",
    "(= second 0)",
)


@dataclass(frozen=True, slots=True)
class Example:
    """One request that two charters decide differently."""

    request: Request
    usage: Usage
    at: datetime

    def __str__(self) -> str:
        request, usage = self.request, self.usage
        purpose = request.purpose
        if request.session_purpose != purpose:
            purpose = f"{purpose} in a session for {request.session_purpose}"
        used = ", ".join(
            f"{count} {unit} in the {period}" for (unit, period), count in usage.used.items()
        )
        return (
            f"{_DAYS[self.at.weekday()]} {self.at:%Y-%m-%d %H:%M:%S} UTC: {request.action} on"
            f" {request.asset} {'.'.join(map(str, request.version))} (sha256"
            f" {request.digest[:16]}...) as {request.role} for {purpose}, by"
            f" {request.party[:16]}... from {request.address} with {request.proof}:"
            f" {request.rows} rows, {request.bytes} bytes; then running: {usage.concurrent},"
            f" risk: {usage.risk}, used: {used or 'not counted'}"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """How the new charter relates to the old one.

    `wider`, `narrower`: paths of ordered terms that moved. `other_terms`: paths of what changed
    and has no order, which `relation` says nothing about.
    """

    relation: Relation
    newly_allowed: Example | None
    newly_refused: Example | None
    wider: tuple[str, ...]
    narrower: tuple[str, ...]
    other_terms: tuple[str, ...]

    @property
    def narrows(self) -> bool:
        """Proved to allow nothing new, and to change no other term."""
        return self.relation in ("equal", "narrower") and not self.other_terms


def compare(old: Charter, new: Charter, *, timeout: timedelta = TIMEOUT) -> Difference:
    """Two versions of one charter. Of two different charters, `other_terms` has `id`."""
    question = _Question(old, new, timeout)
    allowed, refused = question.ask("new", "old"), question.ask("old", "new")
    wider, narrower = moved(old, new)
    relation: Relation
    if isinstance(allowed, _Unknown) or isinstance(refused, _Unknown):
        relation = "unknown"
    else:
        relation = _RELATIONS[
            allowed is not None or bool(wider), refused is not None or bool(narrower)
        ]
    return Difference(
        relation,
        allowed if isinstance(allowed, Example) else None,
        refused if isinstance(refused, Example) else None,
        wider,
        narrower,
        other_terms(old, new),
    )


_RELATIONS: Final[dict[tuple[bool, bool], Relation]] = {
    (False, False): "equal",
    (False, True): "narrower",
    (True, False): "wider",
    (True, True): "incomparable",
}


class _Unknown:
    """Neither proved nor refuted."""


class _Question:
    def __init__(self, old: Charter, new: Charter, timeout: timedelta) -> None:
        self._z3 = require("z3", extra="charter")
        self._clauses = {"old": clauses_of(old), "new": clauses_of(new)}
        self._quotas = {(one.unit, one.period) for side in (old, new) for one in side.limits.quotas}
        self._numbers: dict[str, int] = {"": _NOBODY}
        context = self._z3.Context()  # z3's global one is not for threads
        self._context = context
        self._timeout = timeout
        self._solver = self._z3.Solver(ctx=context)
        self._solver.from_string("\n".join(self._text()))

    def ask(self, allows_it: str, refuses_it: str) -> Example | _Unknown | None:
        """A request that one allows and the other does not; None: proved that there is none."""
        z3 = self._z3
        asked = [self._name(f"is_{allows_it}"), z3.Not(self._name(f"is_{refuses_it}"))]
        answer = self._check(self._timeout, asked)
        if answer == z3.unsat:
            return None
        if answer != z3.sat:
            return _Unknown()
        model = self._solver.model()
        for number in range(len(_ORDINARY)):
            wish = self._name(f"wish{number}")
            if self._check(_WISH, [*asked, wish]) == z3.sat:
                asked.append(wish)
                model = self._solver.model()
        found = self._example(
            {str(one): model[one].as_long() for one in model.decls() if z3.is_int_value(model[one])}
        )
        facts = facts_of(found.request, found.usage, at=found.at)
        # What cannot be shown is not claimed: the encoding would have to be wrong.
        if not allows(self._clauses[allows_it], facts) or allows(self._clauses[refuses_it], facts):
            return _Unknown()
        return found

    def _name(self, name: str) -> Any:
        return self._z3.Bool(name, self._context)

    def _check(self, timeout: timedelta, asked: list[Any]) -> Any:
        self._solver.set("timeout", max(1, int(timeout.total_seconds() * 1000)))
        return self._solver.check(*asked)

    def _number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def _text(self) -> Iterator[str]:
        for name in (*Facts.__struct_fields__, "day", "second", "week"):
            yield f"(declare-const {name} Int)"
        for name in ("is_old", "is_new", *(f"wish{n}" for n in range(len(_ORDINARY)))):
            yield f"(declare-const {name} Bool)"
        shared: dict[object, str] = {}
        for side, clauses in self._clauses.items():
            yield from self._defined(clauses, shared)
            grants = " ".join(
                f"(and true {' '.join(shared[one.condition] for one in grant.clauses)})"
                for grant in clauses.grants
            )
            always = " ".join(shared[one.condition] for one in clauses.always)
            yield f"(assert (= is_{side} (and {always} (or false {grants}))))"
        yield from _world(len(self._numbers))
        for number, wish in enumerate(_ORDINARY):
            yield f"(assert (=> wish{number} {wish}))"

    def _defined(self, clauses: Clauses, shared: dict[object, str]) -> Iterator[str]:
        """Each condition once, however many permissions and charters have it."""
        every: list[Clause] = [*clauses.always, *(c for g in clauses.grants for c in g.clauses)]
        for clause in every:
            if clause.condition not in shared:
                shared[clause.condition] = name = f"c{len(shared)}"
                yield f"(define-fun {name} () Bool {smt(clause.condition, self._number)})"

    def _example(self, model: dict[str, int]) -> Example:
        texts = {number: text for text, number in self._numbers.items()}

        def text(fact: str) -> str:
            return texts.get(model.get(fact, _NOBODY)) or _ANOTHER.get(fact, "another")

        def number(fact: str) -> int:
            return model.get(fact, 0)

        request = Request(
            party=text("party"),
            role=text("role"),
            action=text("action"),
            asset=text("asset"),
            version=(number("major"), number("minor"), number("patch")),
            digest=text("digest"),
            session_purpose=text("session_purpose"),
            purpose=text("purpose"),
            address=_address([number(word) for word in WORDS]),
            proof=text("proof"),
            rows=number("rows"),
            bytes=number("bytes"),
        )
        used = {key: number(fact) for fact, key in USED if key in self._quotas}
        usage = Usage(concurrent=model.get("concurrent", 1), risk=number("risk"), used=used)
        return Example(request, usage, datetime.fromtimestamp(number("now"), UTC))


def _world(strings: int) -> Iterator[str]:
    """What is true of every request, whatever the charter says."""
    least: dict[str, tuple[int, int | None]] = dict.fromkeys(Facts.__struct_fields__, (0, None))
    least |= dict.fromkeys(("party", "action", "asset", "role", "digest", "proof"), (0, strings))
    least |= {name: (0, UNCOUNTED) for name in least if name.startswith("used_")}
    least |= dict.fromkeys(("session_purpose", "purpose"), (0, strings))
    least |= dict.fromkeys(WORDS, (-1, (1 << 32) - 1))
    least |= {"concurrent": (1, None), "risk": (0, 100), "minute": (0, 1439), "weekday": (0, 6)}
    least |= {"second": (0, 59)}
    first, end = (int(year.timestamp()) for year in _YEARS)
    least["now"] = (first, end - 1)
    for name, (low, high) in least.items():
        yield f"(assert (>= {name} {low if low >= 0 else f'(- {-low})'}))"
        if high is not None:
            yield f"(assert (<= {name} {high}))"
    unread = " ".join(f"(= {word} (- 1))" for word in WORDS)
    readable = " ".join(f"(>= {word} 0)" for word in WORDS)
    yield f"(assert (or (and {unread}) (and {readable})))"
    # Without these two, a request could be at noon on a night of Monday which is a Sunday.
    yield "(assert (= now (+ (* 86400 day) (* 60 minute) second)))"
    yield "(assert (= (+ day 3) (+ (* 7 week) weekday)))"  # 1970-01-01 was a Thursday


def _address(words: list[int]) -> str:
    if words[0] < 0:
        return "unreadable"
    address = ipaddress.IPv6Address(sum(word << 96 - 32 * n for n, word in enumerate(words)))
    return str(address.ipv4_mapped or address)
