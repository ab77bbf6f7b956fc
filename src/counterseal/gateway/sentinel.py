"""Detectors of model theft: one `Sentinel` for each partner and model.

Two CUSUMs over the rows that a partner sends:
- novelty: a row farther from all reference rows than 95 % of honest ones;
- similarity: a row nearer to one of the partner's own last queries than 95 % of honest ones.
Each honest row exceeds its distance with p0 = .05, under attack with p1 = .25; the sum of the
log-likelihood ratios, never below 0, is held against the charter's threshold.

Rules:
1. rows count one by one, also within a batch, and a batch counts at its worst: trailing honest
   rows hide nothing;
2. a row that was sent before, bit for bit, does not count: retries are honest;
3. reaching the threshold (an alarm) is a risk of 40, two and a half times it is 100; there the
   sum ends, so that about 140 honest rows clear it. With threshold 8, simulated honest rows come
   to 40 once in 43,000, and to 60 (a sum of 12) not once in 3 million. Were the threshold a
   risk of 100, they would come to 40 once in 270 rows and to 90 once in 20,000. Real rows are
   no dice: on digits, 12 splits of 797 fresh rows came to 40 once, and never above 59;
4. similarity starts after 10 rows.

Theft by natural rows is invisible to both: that is what query budgets are for. Not safe to use
from several threads at once: the caller has one lock for each.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING, Any, Final

from counterseal.errors import FormatError
from counterseal.gateway.reference import MOST_ROWS, Reference, nearest
from counterseal.gateway.tensors import numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.charter.document import Detector

__all__ = ["ALARM", "Observation", "Probe", "Reference", "Sentinel"]

P0: Final = 0.05
P1: Final = 0.25
ALARM: Final = 40  # the risk where a detector reaches its threshold
FULL: Final = 2.5  # times its threshold: a risk of 100
SEEN: Final = 8192  # digests of rows remembered as sent
FIRST: Final = 10
_HIT: Final = log(P1 / P0)
_MISS: Final = log((1 - P1) / (1 - P0))
_MAGIC: Final = b"counterseal sentinel 1\n"
_HEAD: Final = struct.Struct("<32sddII")  # reference, novelty, similarity, rows, digests
_DIGEST_BYTES: Final = 8
_TOGETHER: Final = 64


@lru_cache(maxsize=_TOGETHER)
def _later(count: int) -> Any:
    """Infinite where the column is not a row before."""
    np = numpy()
    return np.where(np.tri(count, k=-1, dtype=bool), np.float32(0), np.float32(np.inf))


@dataclass(frozen=True, slots=True)
class Observation:
    """`novelty`, `similarity`: the sums, at their worst in these rows. `risk`: 0 to 100."""

    novelty: float
    similarity: float
    risk: int


class Sentinel:
    """What one partner asked one model, as far as it matters."""

    def __init__(self, reference: Reference, detectors: Sequence[Detector]) -> None:
        np = numpy()
        self._reference = reference
        self._threshold: dict[str, float] = {
            one.name: one.threshold_permille / 1000 for one in detectors
        }
        self._sums = {"novelty": 0.0, "similarity": 0.0}
        self._seen: deque[bytes] = deque()
        self._known: set[bytes] = set()
        width = reference.rows.shape[1]
        self._recent = np.zeros((reference.window, width), "f4")
        self._squares = np.zeros(reference.window, "f4")
        self._count = 0  # of all rows that counted; the ring's place is this modulo its length

    @property
    def risk(self) -> int:
        return self._risk(self._sums)

    def observe(self, rows: Any) -> Observation:
        """Take in the rows of one request. Raises FormatError if they are not the model's."""
        np = numpy()
        rows = np.asarray(rows)
        if not len(rows):
            return Observation(self._sums["novelty"], self._sums["similarity"], self.risk)
        flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
        self._reference.check(flat)
        placed = self._reference.place(flat[self._fresh(flat)])
        worst = dict(self._sums)
        for at in range(0, len(placed), _TOGETHER):
            self._take(placed[at : at + _TOGETHER], worst)
        return Observation(worst["novelty"], worst["similarity"], self._risk(worst))

    def _take(self, placed: Any, worst: dict[str, float]) -> None:
        reference = self._reference
        if "novelty" in self._threshold:
            far = nearest(placed, reference.rows, reference.squares) > reference.far
            self._add("novelty", far, worst)
        if "similarity" in self._threshold:
            near = self._own_distances(placed) < reference.near
            self._add("similarity", near[max(0, FIRST - self._count) :], worst)
            self._remember(placed)

    def _own_distances(self, placed: Any) -> Any:
        """From each row to the nearest of those that the partner sent before it."""
        np = numpy()
        filled = min(self._count, len(self._recent))
        own = (placed**2).sum(1)
        best = np.full(len(placed), np.inf, "f4")
        if filled:
            cross = self._squares[:filled] - 2 * (placed @ self._recent[:filled].T)
            best = cross.min(1)
        if len(placed) > 1:
            within = own - 2 * (placed @ placed.T)
            within += _later(len(placed))
            best = np.minimum(best, within.min(1))
        return np.sqrt(np.maximum(best + own, 0))

    def _remember(self, placed: Any) -> None:
        np = numpy()
        length = len(self._recent)
        placed = placed[-length:]
        places = (self._count + np.arange(len(placed))) % length
        self._recent[places] = placed
        self._squares[places] = (placed**2).sum(1)
        self._count += len(placed)

    def _add(self, name: str, hits: Any, worst: dict[str, float]) -> None:
        end = self._threshold[name] * FULL
        total = self._sums[name]
        for hit in hits.tolist():
            total = min(end, max(0.0, total + (_HIT if hit else _MISS)))
            worst[name] = max(worst[name], total)
        self._sums[name] = total

    def _risk(self, sums: dict[str, float]) -> int:
        shares = [sums[name] / threshold for name, threshold in self._threshold.items()]
        return min(100, int(ALARM * max(shares, default=0.0) + 1e-9))

    def _fresh(self, rows: Any) -> list[int]:
        """Numbers of the rows not sent before. As they came: two that differ in the last bit
        of a double are two, for that is how gradients are probed."""
        fresh = []
        for number, row in enumerate(rows):
            digest = blake2b(row.tobytes(), digest_size=_DIGEST_BYTES).digest()
            if digest in self._known:
                continue
            fresh.append(number)
            self._known.add(digest)
            self._seen.append(digest)
            if len(self._seen) > SEEN:
                self._known.discard(self._seen.popleft())
        return fresh

    def encode(self) -> bytes:
        """For a restart, which must not reset a risk. As confidential as the requests."""
        np = numpy()
        filled = min(self._count, len(self._recent))
        oldest = self._count % len(self._recent) if self._count > filled else 0
        rows = np.roll(self._recent[:filled], -oldest, axis=0)
        head = _HEAD.pack(self._reference.digest, *self._sums.values(), filled, len(self._seen))
        return b"".join((_MAGIC, head, rows.tobytes(), *self._seen))

    @classmethod
    def decode(
        cls, data: bytes, *, reference: Reference, detectors: Sequence[Detector]
    ) -> Sentinel:
        """With a newer reference the sums stay and the rows are dropped: they are placed
        otherwise now. Raises FormatError."""
        np = numpy()
        start = len(_MAGIC) + _HEAD.size
        if not data.startswith(_MAGIC) or len(data) < start:
            raise FormatError("this is no state of a sentinel of this version")
        digest, novelty, similarity, count, seen = _HEAD.unpack_from(data, len(_MAGIC))
        if not (0 <= novelty < 1e12 and 0 <= similarity < 1e12):
            raise FormatError("the state of a sentinel has a sum that cannot be")
        made = cls(reference, detectors)
        ends = {name: threshold * FULL for name, threshold in made._threshold.items()}
        made._sums = {
            "novelty": min(novelty, ends.get("novelty", 0.0)),
            "similarity": min(similarity, ends.get("similarity", 0.0)),
        }
        if digest != reference.digest:
            return made
        width = reference.rows.shape[1]
        sizes = count <= min(MOST_ROWS, reference.window) and seen <= SEEN
        if not sizes or len(data) != start + 4 * count * width + _DIGEST_BYTES * seen:
            raise FormatError("the state of a sentinel does not have the size that it says")
        rows = np.frombuffer(data, "<f4", count * width, start).reshape(count, width)
        if not np.isfinite(rows).all():
            raise FormatError("the state of a sentinel has a row that cannot be")
        made._remember(rows)
        tail = data[start + 4 * count * width :]
        made._seen.extend(
            tail[at : at + _DIGEST_BYTES] for at in range(0, len(tail), _DIGEST_BYTES)
        )
        made._known.update(made._seen)
        return made


class Probe:
    """Refused and malformed requests of one partner: looking for a way in.

    Each adds one, and one is forgiven every `forgive` seconds. `many` are a risk of 40 (flag),
    twice as many of 80, and that is the most: a broken client alone never ends a charter.
    """

    MOST: Final = 80

    def __init__(self, *, many: int = 20, forgive: float = 30.0) -> None:
        if many < 1 or forgive <= 0:
            raise ValueError("some are many, and some time forgives")
        self._many = many
        self._forgive = forgive
        self._level = 0.0
        self._at = float("-inf")

    def note(self, *, at: float) -> int:
        """One more, at this second of any steady clock. Returns the risk."""
        self._level = min(self._now(at) + 1, 2 * self._many)
        self._at = max(at, self._at)
        return self.risk(at=at)

    def risk(self, *, at: float) -> int:
        return min(self.MOST, int(ALARM * self._now(at) / self._many + 1e-9))

    def _now(self, at: float) -> float:
        if self._level == 0:
            return 0.0
        return max(0.0, self._level - max(0.0, at - self._at) / self._forgive)
