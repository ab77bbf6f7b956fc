"""The closed fragment that charters decide in, and its three readings (SPEC 16.4).

A condition is a tree over `Facts`. One tree is read as Cedar, which decides; in Python, which
says why not; and as SMT-LIB, in which two charters are compared. There is no arithmetic, no
pattern, no call: so each reading is total, and comparing is decidable. The property tests hold
the three against each other.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "All",
    "AnyOf",
    "AtLeast",
    "AtMost",
    "Condition",
    "Equal",
    "Facts",
    "Not",
    "OneOf",
    "Same",
    "cedar",
    "holds",
    "literal",
    "smt",
]

UNCOUNTED: Final = 1 << 62  # above every limit: what nobody counted is used up


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that a request is judged on. No field has a default, and the schema is made from this
    class: in Cedar, a condition on what is missing is an error, and skips the policy.

    `address..`: 128 bits, the highest first; IPv4 as ::ffff:a.b.c.d. `used_..`: with this request.
    """

    party: str
    action: str
    asset: str
    role: str
    major: int
    minor: int
    patch: int
    digest: str
    session_purpose: str
    purpose: str
    now: int
    weekday: int
    minute: int
    address0: int
    address1: int
    address2: int
    address3: int
    rows: int
    bytes: int
    concurrent: int
    risk: int
    proof: str
    used_requests_hour: int
    used_requests_day: int
    used_requests_month: int
    used_requests_term: int
    used_rows_hour: int
    used_rows_day: int
    used_rows_month: int
    used_rows_term: int
    used_tokens_hour: int
    used_tokens_day: int
    used_tokens_month: int
    used_tokens_term: int


class _Node(msgspec.Struct, frozen=True, cache_hash=True):
    """Equal trees are one: shared between the permissions of a charter, and between charters."""


class Equal(_Node, frozen=True, cache_hash=True):
    fact: str
    value: str | int


class OneOf(_Node, frozen=True, cache_hash=True):
    fact: str
    values: tuple[str, ...] | tuple[int, ...]


class AtMost(_Node, frozen=True, cache_hash=True):
    fact: str
    value: int


class AtLeast(_Node, frozen=True, cache_hash=True):
    fact: str
    value: int


class Same(_Node, frozen=True, cache_hash=True):
    fact: str
    other: str


class Not(_Node, frozen=True, cache_hash=True):
    one: Condition


class All(_Node, frozen=True, cache_hash=True):
    of: tuple[Condition, ...]


class AnyOf(_Node, frozen=True, cache_hash=True):
    """Of nothing: never."""

    of: tuple[Condition, ...]


Condition: TypeAlias = Equal | OneOf | AtMost | AtLeast | Same | Not | All | AnyOf


def holds(condition: Condition, facts: Facts) -> bool:  # noqa: PLR0911 - one line for each node
    match condition:
        case Equal(fact, value):
            return bool(getattr(facts, fact) == value)
        case OneOf(fact, values):
            return getattr(facts, fact) in values
        case AtMost(fact, value):
            return bool(getattr(facts, fact) <= value)
        case AtLeast(fact, value):
            return bool(getattr(facts, fact) >= value)
        case Same(fact, other):
            return bool(getattr(facts, fact) == getattr(facts, other))
        case Not(one):
            return not holds(one, facts)
        case All(of):
            return all(holds(one, facts) for one in of)
        case AnyOf(of):
            return any(holds(one, facts) for one in of)


_SIGNS: Final[dict[type, str]] = {AtMost: "<=", AtLeast: ">="}

# --- Cedar --------------------------------------------------------------------------------------

ENTITIES: Final = {
    "party": ("principal", "Party"),
    "action": ("action", "Action"),
    "asset": ("resource", "Asset"),
}
_PLAIN: Final = frozenset(string.ascii_letters + string.digits + " _-./:+#")


def literal(text: str) -> str:
    """A Cedar string. The only way by which words of a charter get into a policy: a quotation
    mark in one of them must not become syntax.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("half a character (a surrogate) has no form in Cedar")
    escaped = (one if one in _PLAIN else f"\\u{{{ord(one):x}}}" for one in text)
    return f'"{"".join(escaped)}"'


def cedar(condition: Condition) -> str:  # noqa: PLR0911 - one line for each node
    match condition:
        case Equal(fact, value):
            return f"{_fact(fact)} == {_value(fact, value)}"
        case OneOf(_, ()):
            return "false"  # Cedar's strict types know no empty set
        case OneOf(fact, values):
            listed = ", ".join(_value(fact, value) for value in values)
            if fact in ENTITIES:
                return f"{_fact(fact)} in [{listed}]"
            return f"[{listed}].contains({_fact(fact)})"
        case AtMost(fact, value) | AtLeast(fact, value):
            return f"{_fact(fact)} {_SIGNS[type(condition)]} {value}"
        case Same(fact, other):
            return f"{_fact(fact)} == {_fact(other)}"
        case Not(one):
            return f"!({cedar(one)})"
        case All(of) | AnyOf(of):
            sign, nothing = (" && ", "true") if isinstance(condition, All) else (" || ", "false")
            return _joined(sign, [cedar(one) for one in of], nothing)


def _fact(fact: str) -> str:
    return ENTITIES[fact][0] if fact in ENTITIES else f"context.{fact}"


def _value(fact: str, value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{ENTITIES[fact][1]}::{literal(value)}" if fact in ENTITIES else literal(value)


def _joined(sign: str, parts: list[str], nothing: str) -> str:
    """Balanced: Cedar's parser limits how deep an expression is, and a chain is as deep as long."""
    if len(parts) <= 1:
        return parts[0] if parts else nothing
    half = len(parts) // 2
    first, second = (_joined(sign, some, nothing) for some in (parts[:half], parts[half:]))
    return f"({first}{sign}{second})"


# --- SMT-LIB ------------------------------------------------------------------------------------


def smt(condition: Condition, number: Callable[[str], int]) -> str:
    """All facts are integers there; `number` gives each string its own."""
    match condition:
        case Equal(fact, value):
            return f"(= {fact} {number(value) if isinstance(value, str) else value})"
        case OneOf(fact, values):
            return _applied("or", [smt(Equal(fact, one), number) for one in values], "false")
        case AtMost(fact, value) | AtLeast(fact, value):
            return f"({_SIGNS[type(condition)]} {fact} {value})"
        case Same(fact, other):
            return f"(= {fact} {other})"
        case Not(one):
            return f"(not {smt(one, number)})"
        case All(of) | AnyOf(of):
            sign, nothing = ("and", "true") if isinstance(condition, All) else ("or", "false")
            return _applied(sign, [smt(one, number) for one in of], nothing)


def _applied(sign: str, parts: list[str], nothing: str) -> str:
    return f"({sign} {' '.join(parts)})" if parts else nothing
