"""Decisions under charters: remembered and asked anew, from one charter to ten thousand; and how
long it takes to prove what a new version changes.

Every count of charters gets the same random walk over them: what is measured with many is also
what memory that is far away costs. CPU of one thread, in turns.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from random import Random  # noqa: TID251 - the same walk every time, not a secret
from typing import TYPE_CHECKING, Any, Final

import msgspec

import counterseal
from counterseal._extras import require
from counterseal.bench import machine
from counterseal.bench.agreements import PURPOSE, a_charter
from counterseal.charter import document
from counterseal.charter.decision import Rules
from counterseal.charter.diff import compare
from counterseal.charter.request import Request, Usage, facts_of
from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.charter.document import Charter

    Say = Callable[[str], None]

__all__ = ["FORMAT", "PROFILES", "Profile", "run"]

FORMAT: Final = "counterseal-bench-charter-1"
SEED: Final = 16
WALK: Final = 1 << 14
RULES_BYTES: Final = 256 << 10  # of memory for each charter: more than was ever seen
LAB, CLINIC, DIGEST = "11" * 32, "22" * 32, "d1" * 32
_ASSETS: Final = 25


@dataclass(frozen=True, slots=True)
class Profile:
    """`seconds` of each measure in each turn; `permissions` of the two versions compared."""

    runs: int
    seconds: float
    charters: tuple[int, ...]
    permissions: int


PROFILES: Final = {
    "full": Profile(9, 0.25, (1, 100, 1000, 10_000), 50),
    "quick": Profile(2, 0.02, (1, 100), 50),
}


def run(profile: Profile, *, say: Say = lambda _: None) -> dict[str, Any]:
    """Measure; nothing touches the disk."""
    for needed in ("cedarpy", "z3"):
        require(needed, extra="charter")
    data: dict[str, Any] = {
        "format": FORMAT,
        "counterseal": counterseal.__version__,
        "machine": machine.facts(),
        "load_before": machine.load_average(),
        "settings": {**asdict(profile), "seed": SEED, "walk": WALK},
        "missing": [],
        "compile_cpu": [],
        "decisions": {},
        "diff": {},
    }
    crowds = _crowds(profile, data, say)
    versions = _versions(profile.permissions)
    for turn in range(profile.runs + 1):
        for crowd in crowds:
            say(f"turn {turn}/{profile.runs}: {crowd.count} charters")
            found = crowd.measure(profile.seconds)
            if turn:  # the first one warms up
                kept = data["decisions"].setdefault(str(crowd.count), {})
                for name, seconds in found.items():
                    kept.setdefault(name, []).append(seconds)
        say(f"turn {turn}/{profile.runs}: comparing versions")
        for what, (old, new, relation) in versions.items():
            took = _compared(old, new, relation)
            if turn:
                data["diff"].setdefault(what, []).append(took)
    data["load_after"] = machine.load_average()
    return data


def _crowds(profile: Profile, data: dict[str, Any], say: Say) -> list[_Crowd]:
    found = []
    for count in profile.charters:
        if count * RULES_BYTES > machine.free_memory():
            data["missing"].append(f"without {count} charters: too little memory")
            continue
        say(f"compiling {count} charters")
        found.append(_Crowd(count, data["compile_cpu"]))
    return found


def _compared(old: Charter, new: Charter, relation: str) -> dict[str, float]:
    """What the proof took; it must be the right one."""
    wall, cpu = time.perf_counter(), time.process_time()
    difference = compare(old, new)
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    if difference.relation != relation:
        raise CountersealError(f"proved {difference.relation}, and not {relation}")
    return took


class _Crowd:
    """So many charters, and a request that each allows."""

    def __init__(self, count: int, compiling: list[float]) -> None:
        self.count = count
        self._at = datetime.now(UTC)
        before = time.process_time()
        rules = [Rules(_small(number, self._at)) for number in range(count)]
        compiling.append((time.process_time() - before) / count)
        self._request = Request(
            party=CLINIC,
            role="analyst",
            action="predict",
            asset="scan",
            version=(1, 0, 0),
            digest=DIGEST,
            session_purpose=PURPOSE,
            purpose=PURPOSE,
            address="192.0.2.7",
            proof="mtls",
            rows=3,
            bytes=1000,
        )
        self._usage = Usage(
            concurrent=1, risk=0, used={("requests", "day"): 1, ("rows", "month"): 3}
        )
        self._strangers = iter(range(1 << 24))  # addresses that nobody has asked from
        random = Random(SEED)  # noqa: S311
        self._walk = [rules[random.randrange(count)] for _ in range(WALK)]

    def measure(self, seconds: float) -> dict[str, float]:
        """CPU seconds of one decision: remembered, asked of Cedar, and the first of a claim."""
        request, usage, at = self._request, self._usage, self._at
        for rules in self._walk:
            rules._kept.clear()  # noqa: SLF001 - of the strangers of the last turn
        for rules in self._walk:
            if not rules.decide(request, usage, at=at).allowed:
                raise CountersealError("a charter of the bench does not allow its request")
        facts = facts_of(request, usage, at=at)

        def first(rules: Rules) -> None:
            number = next(self._strangers)
            address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            claim = msgspec.structs.replace(request, address=address)
            rules.decide(claim, usage, at=at)

        return {
            "cached": self._time(lambda rules: rules.decide(request, usage, at=at), seconds),
            "evaluated": self._time(lambda rules: rules._ask(facts), seconds),  # noqa: SLF001
            "first": self._time(first, seconds),
            "walked": self._time(lambda rules: rules, seconds),
        }

    def _time(self, work: Callable[[Rules], object], seconds: float) -> float:
        count, step = 0, 256
        begun = time.process_time()
        while True:
            for start in range(0, WALK, step):
                for rules in self._walk[start : start + step]:
                    work(rules)
                count += step
                used = time.process_time() - begun
                if used >= seconds:
                    return used / count


def _small(number: int, at: datetime) -> Charter:
    return a_charter(
        owner=LAB,
        partner=CLINIC,
        at=at,
        identifier=f"{number:032x}",
        assets=[document.Asset(name="scan", versions="~1.0", digests=(DIGEST,))],
        permissions=[
            document.Permission(
                action="predict", assets=("scan",), roles=("analyst",), purposes=None
            ),
            document.Permission(
                action="explain", assets=("scan",), roles=("analyst",), purposes=(PURPOSE,)
            ),
        ],
    )


def _versions(count: int) -> dict[str, tuple[Charter, Charter, str]]:
    """Pairs of versions with `count` permissions, and what is to be proved of them."""
    at = datetime.now(UTC)
    actions = list(document.ACTIONS)

    def asset(number: int) -> str:
        return f"m{number % _ASSETS:02}"

    permissions = [
        document.Permission(
            action=actions[number % len(actions)],
            assets=tuple(sorted({asset(number), asset(number + 3)})),
            roles=("analyst", "auditor") if number % 2 else ("analyst",),
            purposes=(PURPOSE,) if number % 3 else None,
        )
        for number in range(count)
    ]
    common: dict[str, Any] = {
        "owner": LAB,
        "partner": CLINIC,
        "identifier": "c0" * 16,
        "assets": [
            document.Asset(name=asset(number), versions=f"~{number}.2", digests=(f"{number:064x}",))
            for number in range(_ASSETS)
        ],
    }
    old = a_charter(**common, at=at, permissions=permissions)
    later = {**common, "version": 2, "previous": old.digest}
    fewer = permissions[1:]
    changes = {
        "nothing": (a_charter(**later, at=at, permissions=permissions), "equal"),
        "more rows": (a_charter(**later, at=at, permissions=permissions, rows=300), "wider"),
        "fewer rows": (a_charter(**later, at=at, permissions=permissions, rows=30), "narrower"),
        "a permission less": (a_charter(**later, at=at, permissions=fewer), "narrower"),
        "a permission less, a later end": (
            a_charter(**later, at=at + timedelta(days=30), permissions=fewer),
            "incomparable",
        ),
    }
    return {what: (old, new, relation) for what, (new, relation) in changes.items()}
