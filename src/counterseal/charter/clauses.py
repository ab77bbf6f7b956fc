"""What must be so for a request to be allowed, as conditions over facts (SPEC 16.4).

The one source of all that is decided: Cedar's policies, the reasons of a denial and the proof
that one charter is narrower than another are made from these clauses.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from counterseal.charter.conditions import (
    All,
    AnyOf,
    AtLeast,
    AtMost,
    Condition,
    Equal,
    Facts,
    Not,
    OneOf,
    Same,
    holds,
)
from counterseal.charter.document import Day
from counterseal.charter.versions import VersionRule

if TYPE_CHECKING:
    from counterseal.charter.document import Charter, Limits, Permission, Quota

__all__ = [
    "WORDS",
    "Clause",
    "Clauses",
    "Grant",
    "allows",
    "clauses_of",
    "ending_risk",
    "used_fact",
    "words_of",
]

ENDING: Final = ("suspend", "revoke")  # rungs from which on nothing is allowed
WORDS: Final = ("address0", "address1", "address2", "address3")
_DAYS: Final = get_args(Day)
_WORD: Final = (1 << 32) - 1
_MAPPED: Final = 0xFFFF << 32  # ::ffff:0:0/96, which is IPv4


@dataclass(frozen=True, slots=True)
class Clause:
    """`words` for the partner when it does not hold; `fact` is what they can change."""

    path: str
    condition: Condition
    words: str
    fact: str


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission. `id` names charter, version and rule in decisions and ledgers."""

    id: str
    action: Clause
    others: tuple[Clause, ...]

    @property
    def clauses(self) -> tuple[Clause, ...]:
        return self.action, *self.others


@dataclass(frozen=True, slots=True)
class Clauses:
    """A request is allowed if all of `always` holds, and all of one of `grants`."""

    always: tuple[Clause, ...]
    grants: tuple[Grant, ...]


def clauses_of(charter: Charter) -> Clauses:
    always = (
        *_parties(charter),
        *_term(charter),
        *_purpose(charter),
        *_assets(charter),
        *_amounts(charter.limits),
        *_places(charter.limits),
        *_trust(charter),
    )
    grants = tuple(_grant(charter, n, one) for n, one in enumerate(charter.permissions))
    return Clauses(always, grants)


def allows(clauses: Clauses, facts: Facts) -> bool:
    """As Cedar decides, in Python: to explain and to compare, not to allow."""
    return all(holds(one.condition, facts) for one in clauses.always) and any(
        all(holds(one.condition, facts) for one in grant.clauses) for grant in clauses.grants
    )


def used_fact(quota: Quota) -> str:
    return f"used_{quota.unit}_{quota.period}"


def _grant(charter: Charter, number: int, permission: Permission) -> Grant:
    path, name = f"permissions[{number}]", permission.action
    action = Clause(path, Equal("action", name), f"this permission is for `{name}`", "action")
    others = [
        Clause(f"{path}.{field}", condition, f"`{name}` is for {_listed(values)}", fact)
        for field, fact, values, condition in (
            ("roles", "role", permission.roles, OneOf("role", permission.roles)),
            ("assets", "asset", permission.assets, OneOf("asset", permission.assets)),
        )
    ]
    if permission.purposes is not None:
        words = f"`{name}` is for {_listed(permission.purposes)}"
        inside = OneOf("purpose", permission.purposes)
        others.append(Clause(f"{path}.purposes", inside, words, "purpose"))
    rule = f"{charter.id}/v{charter.version}/{number}/{name}/{'+'.join(permission.roles)}"
    return Grant(rule, action, tuple(others))


def _parties(charter: Charter) -> list[Clause]:
    partner = charter.partner
    words = f"the charter is with {partner.name}"
    return [Clause("partner.identity", Equal("party", partner.identity), words, "party")]


def _term(charter: Charter) -> list[Clause]:
    begins, ends = (int(one.timestamp()) for one in (charter.begins, charter.ends))
    return [
        Clause("begins", AtLeast("now", begins), f"the term begins at {charter.begins}", "now"),
        Clause("ends", AtMost("now", ends - 1), f"the term ended at {charter.ends}", "now"),
    ]


def _purpose(charter: Charter) -> list[Clause]:
    # The session's and the request's: a session opened for one thing is not used for another.
    purpose = charter.purpose
    allowed = f"declare one of {_listed(purpose.allowed)}"
    same = Same("purpose", "session_purpose")
    return [
        Clause("purpose", same, "the session declared another purpose", "session_purpose"),
        Clause("purpose.allowed", OneOf("purpose", purpose.allowed), allowed, "purpose"),
        Clause(
            "purpose.prohibited",
            Not(OneOf("purpose", purpose.prohibited)),
            "the purpose is prohibited",
            "purpose",
        ),
    ]


def _assets(charter: Charter) -> list[Clause]:
    clauses = []
    for number, asset in enumerate(charter.assets):
        path, another = f"assets[{number}]", Not(Equal("asset", asset.name))
        version = AnyOf((another, _versions(asset.versions)))
        words = f"of {asset.name}, versions {asset.versions} are shared"
        clauses.append(Clause(f"{path}.versions", version, words, "version"))
        if asset.digests is not None:
            pinned = AnyOf((another, OneOf("digest", asset.digests)))
            words = f"of {asset.name}, only what is pinned by its digest is shared"
            clauses.append(Clause(f"{path}.digests", pinned, words, "digest"))
    return clauses


def _versions(text: str) -> Condition:
    """In the order of versions: first by major, then minor, then patch."""
    rule = VersionRule.parse(text)
    return All((_from(rule.first), Not(_from(rule.end))))


def _from(version: tuple[int, int, int]) -> Condition:
    major, minor, patch = version
    same_minor = All((Equal("minor", minor), AtLeast("patch", patch)))
    same_major = All((Equal("major", major), AnyOf((AtLeast("minor", minor + 1), same_minor))))
    return AnyOf((AtLeast("major", major + 1), same_major))


def _amounts(limits: Limits) -> list[Clause]:
    clauses = [
        Clause(f"limits.{name}", AtMost(fact, most), f"at most {most} {what}", fact)
        for name, fact, most, what in (
            ("rows_per_request", "rows", limits.rows_per_request, "rows in a request"),
            ("bytes_per_request", "bytes", limits.bytes_per_request, "bytes in a request"),
            ("concurrency", "concurrent", limits.concurrency, "requests at the same time"),
        )
    ]
    for number, quota in enumerate(limits.quotas):
        fact = used_fact(quota)
        whole = "the term" if quota.period == "term" else f"a {quota.period}"
        words = f"at most {quota.count} {quota.unit} in {whole}"
        clauses.append(Clause(f"limits.quotas[{number}]", AtMost(fact, quota.count), words, fact))
    return clauses


def _places(limits: Limits) -> list[Clause]:
    """When and from where."""
    clauses = []
    if limits.hours is not None:
        open_hours = tuple(
            All(
                (
                    OneOf("weekday", tuple(sorted(_DAYS.index(day) for day in hours.days))),
                    AtLeast("minute", hours.begin),
                    AtMost("minute", hours.end - 1),
                )
            )
            for hours in limits.hours
        )
        words = "outside the agreed hours (UTC)"
        clauses.append(Clause("limits.hours", AnyOf(open_hours), words, "now"))
    if limits.networks is not None:
        inside = AnyOf(tuple(map(_network, limits.networks)))
        words = f"come from {_listed(limits.networks)}"
        clauses.append(Clause("limits.networks", inside, words, "address"))
    return clauses


def words_of(address: str) -> tuple[int, int, int, int]:
    """Four words of 32 bits. Raises ValueError.

    An IPv4 address and the same one as ::ffff:a.b.c.d are one: a dual-stack socket shows either.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None:
        raise ValueError("an address with a zone means something on one machine only")
    number = int(parsed) | (_MAPPED if parsed.version == 4 else 0)
    return number >> 96, number >> 64 & _WORD, number >> 32 & _WORD, number & _WORD


def _network(text: str) -> Condition:
    """Whole words are equal, one is in a range, the rest may be anything."""
    network = ipaddress.ip_network(text)
    prefix = network.prefixlen + (96 if network.version == 4 else 0)
    low = words_of(str(network.network_address))
    conditions: list[Condition] = []
    for number, fact in enumerate(WORDS):
        bits = min(32, max(0, prefix - 32 * number))
        if bits == 32:
            conditions.append(Equal(fact, low[number]))
        elif bits:
            high = low[number] | _WORD >> bits
            conditions += [AtLeast(fact, low[number]), AtMost(fact, high)]
    if not prefix:
        conditions.append(AtLeast(WORDS[0], 0))  # any address, but one that could be read
    return All(tuple(conditions))


def _trust(charter: Charter) -> list[Clause]:
    proof = charter.session.proof
    words = f"each request shows whose it is by {proof}"
    clauses = [Clause("session.proof", Equal("proof", proof), words, "proof")]
    end = ending_risk(charter)
    if end is not None:
        words = f"suspended from a risk of {end} on"
        clauses.append(Clause("monitoring.ladder", AtMost("risk", end - 1), words, "risk"))
    return clauses


def ending_risk(charter: Charter) -> int | None:
    """From which risk on nothing is allowed."""
    return min((rung.at for rung in charter.monitoring.ladder if rung.do in ENDING), default=None)


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(values)
