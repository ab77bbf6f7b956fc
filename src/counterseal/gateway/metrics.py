"""Numbers for Prometheus, with label sets that no partner can make grow (extra `serve`).

    counterseal_requests_total{charter, model, outcome}     outcome: permit, or the kind of no
    counterseal_request_seconds{charter}                     a histogram
    counterseal_refusals_total{policy}                       where the charter said no
    counterseal_shadow_total{model, version, same}           what a shadow said, compared
    counterseal_rows_dropped_total                           requests that no detector looked at

Counting is a dict and an addition. With several workers each writes its counts to a file of
its own every second, and any of them shows the sum.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from counterseal._extras import require
from counterseal.trust import atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from counterseal.gateway.refusals import Refusal
    from counterseal.gateway.registry import Offer
    from counterseal.gateway.served import Served

__all__ = ["Metrics"]

_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_STRANGER: Final = "none"
_NUMBERS: Final = re.compile(r"\[[0-9]+\]")
_MOST_BYTES: Final = 16 << 20
Labels = tuple[str, ...]


class _Counts(msgspec.Struct):
    """`seconds`: for each charter, how many were in each bucket and, last, beyond; and their
    sum."""

    requests: dict[str, int]
    refusals: dict[str, int]
    shadows: dict[str, int]
    seconds: dict[str, tuple[list[int], float]]
    dropped: int


class Metrics:
    """Of one worker. `folder`: where all workers leave their counts; None for one alone."""

    def __init__(self, folder: Path | None, number: int = 0) -> None:
        self._folder, self._number = folder, number
        self._requests: Counter[Labels] = Counter()
        self._refusals: Counter[Labels] = Counter()
        self._shadows: Counter[Labels] = Counter()
        self._seconds: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self.dropped = 0  # as the observer counts it

    def answered(
        self, served: Served, offer: Offer | None, refused: Refusal | None, nanoseconds: int
    ) -> None:
        charter = served.ref.id
        model = _STRANGER if offer is None else offer.model
        self._requests[charter, model, "permit" if refused is None else refused.kind] += 1
        buckets = self._seconds.get(charter)
        if buckets is None:
            buckets = self._seconds[charter] = [0] * (len(_BUCKETS) + 1)
            self._sums[charter] = 0.0
        seconds = nanoseconds / 1e9
        buckets[bisect_left(_BUCKETS, seconds)] += 1
        self._sums[charter] += seconds

    def refused(self, served: Served | None, said: Refusal) -> None:
        """`served`: None for whoever has no session here."""
        policy = _STRANGER if served is None else _NUMBERS.sub("", said.policy or said.kind)
        self._refusals[policy,] += 1

    def shadow(self, offer: Offer, *, same: bool) -> None:
        self._shadows[offer.model, offer.number, str(same).lower()] += 1

    def leave(self) -> None:
        """Leave the counts for the other workers; once a second."""
        if self._folder is not None:
            path = self._folder / f"{self._number}.json"
            atomic.write_whole(path, msgspec.json.encode(self._counts()), mode=0o600)

    def text(self) -> bytes:
        """What Prometheus fetches."""
        client = require("prometheus_client", extra="serve")
        registry = client.CollectorRegistry()
        registry.register(_Collector(_sum(self._all())))
        shown: bytes = client.generate_latest(registry)
        return shown

    def _counts(self) -> _Counts:
        return _Counts(
            requests=_named(self._requests),
            refusals=_named(self._refusals),
            shadows=_named(self._shadows),
            seconds={key: (value, self._sums[key]) for key, value in self._seconds.items()},
            dropped=self.dropped,
        )

    def _all(self) -> Iterator[_Counts]:
        yield self._counts()
        if self._folder is None:
            return
        for path in sorted(self._folder.glob("*.json")):
            if path.stem == str(self._number):
                continue
            try:
                data = atomic.read_bounded(path, _MOST_BYTES, what="counts of a worker")
                yield msgspec.json.decode(data, type=_Counts)
            except (OSError, msgspec.DecodeError):
                continue  # a worker that is being replaced


class _Collector:
    """What all workers counted, in Prometheus's families."""

    def __init__(self, counts: _Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Any]:
        core = require("prometheus_client.core", extra="serve")
        counts = self._counts
        for name, text, labels, found in (
            ("requests", "Requests answered", ("charter", "model", "outcome"), counts.requests),
            ("refusals", "Refusals, by where the charter says so", ("policy",), counts.refusals),
            ("shadow", "Calls of a shadow", ("model", "version", "same"), counts.shadows),
        ):
            family = core.CounterMetricFamily(f"counterseal_{name}", text, labels=labels)
            for key, value in sorted(found.items()):
                family.add_metric(key.split("\t"), value)
            yield family
        yield core.CounterMetricFamily(
            "counterseal_rows_dropped",
            "Requests whose rows no detector looked at",
            value=counts.dropped,
        )
        family = core.HistogramMetricFamily(
            "counterseal_request_seconds", "From arrival to answer", labels=("charter",)
        )
        for charter, (buckets, total) in sorted(counts.seconds.items()):
            family.add_metric([charter], _cumulative(buckets), sum_value=total)
        yield family


def _cumulative(buckets: list[int]) -> list[tuple[str, int]]:
    found, so_far = [], 0
    for limit, count in zip((*map(str, _BUCKETS), "+Inf"), buckets, strict=True):
        so_far += count
        found.append((limit, so_far))
    return found


def _named(counts: Counter[Labels]) -> dict[str, int]:
    return {"\t".join(key): value for key, value in counts.items()}


def _sum(found: Iterable[_Counts]) -> _Counts:
    total = _Counts({}, {}, {}, {}, 0)
    for counts in found:
        total.dropped += counts.dropped
        for mine, theirs in (
            (total.requests, counts.requests),
            (total.refusals, counts.refusals),
            (total.shadows, counts.shadows),
        ):
            for key, value in theirs.items():
                mine[key] = mine.get(key, 0) + value
        for charter, (buckets, seconds) in counts.seconds.items():
            before, so_far = total.seconds.get(charter, ([0] * len(buckets), 0.0))
            both = [one + other for one, other in zip(before, buckets, strict=True)]
            total.seconds[charter] = (both, so_far + seconds)
    return total
