"""What honest requests look like, learnt once from rows that the owner has.

A reference holds rows to be near to (at most 2000) and two distances, from rows held out of it:
- `far`: 95 % of honest rows are nearer than this to some reference row;
- `near`: 95 % of honest rows are farther than this from every one of `window` other honest
  rows. A detector compares with as many earlier queries and no more: among more rows, honest
  ones come nearer to each other by themselves.

Features are divided by their spread, so that none drowns the others; rows of more than 512
features are folded to 512 by a secret sketch (signs and places from SHAKE-256 of a seed), which
keeps distances. It is a file of the owner: rows of patients are in it. Bytes, never a pickle.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256, shake_256
from typing import Any, Final

from counterseal.errors import FormatError
from counterseal.gateway.tensors import numpy

__all__ = ["MOST_ROWS", "Reference", "nearest"]

MOST_ROWS: Final = 2000
MOST_FEATURES: Final = 1 << 20
FOLDED: Final = 512
LEAST_ROWS: Final = 60
_QUANTILE: Final = 0.05
_MAGIC: Final = b"counterseal reference 1\n"
_HEAD: Final = struct.Struct("<IIIff32s")  # rows, features, window, far, near, seed
_FLOOR: Final = 0.1  # of the mean spread: a feature that hardly varies must not decide alone


@dataclass(frozen=True, slots=True, eq=False)
class _Fold:
    """Adds each feature, with a sign, to one of 512 places."""

    order: Any
    signs: Any
    starts: Any
    places: Any

    @classmethod
    def of(cls, features: int, seed: bytes) -> _Fold:
        np = numpy()
        words = np.frombuffer(shake_256(seed).digest(4 * features), "<u4")
        bucket = (words >> 1) % FOLDED
        order = np.argsort(bucket, kind="stable")
        places, starts = np.unique(bucket[order], return_index=True)
        signs = np.where(words & 1, np.float32(1), np.float32(-1))[order]
        return cls(order, signs, starts, places)

    def __call__(self, rows: Any) -> Any:
        np = numpy()
        folded = np.zeros((len(rows), FOLDED), "f4")
        folded[:, self.places] = np.add.reduceat(
            rows[:, self.order] * self.signs, self.starts, axis=1
        )
        return folded


@dataclass(frozen=True, eq=False, repr=False)
class Reference:
    """`rows` are scaled and folded already. No repr: it would show some of them."""

    features: int
    window: int
    far: float
    near: float
    seed: bytes
    scale: Any
    rows: Any

    @classmethod
    def from_rows(cls, rows: Any, seed: bytes) -> Reference:
        """`rows`: what the model is honestly asked, at least 60 that differ, not in any order
        that matters. `seed`: 32 secret random bytes; the same give the same reference."""
        np = numpy()
        if len(seed) != 32:
            raise ValueError("a seed has 32 bytes")
        flat = np.asarray(rows, "f4").reshape(len(rows), -1)
        if not np.isfinite(flat).all():
            raise FormatError("a row has a value that is no finite number")
        flat = np.unique(flat, axis=0)
        if len(flat) < LEAST_ROWS or flat.shape[1] > MOST_FEATURES:
            raise FormatError(
                f"{len(flat)} different rows of {flat.shape[1]} features: at least {LEAST_ROWS} "
                f"rows of at most {MOST_FEATURES} are needed"
            )
        keys = np.frombuffer(shake_256(b"rows" + seed).digest(8 * len(flat)), "<u8")
        flat = flat[np.argsort(keys)]
        spread = flat.std(0)
        scale = np.maximum(spread, max(float(spread.mean()) * _FLOOR, 1e-12)).astype("f4")
        held = min(len(flat) // 3, MOST_ROWS)
        plain = cls(flat.shape[1], held, 0.0, 0.0, seed, scale, flat[:0])
        calibration = plain.place(flat[:held])
        kept = plain.place(flat[held : held + MOST_ROWS])
        # One standard error to the safe side: few rows tell a quantile badly.
        share = max(_QUANTILE - math.sqrt(_QUANTILE * (1 - _QUANTILE) / held), 1 / held)
        far = np.quantile(nearest(calibration, kept), 1 - share)
        near = np.quantile(nearest(calibration, calibration, itself=False), share)
        return cls(plain.features, held, float(far), float(near), seed, scale, kept)

    @cached_property
    def _fold(self) -> _Fold | None:
        return _Fold.of(self.features, self.seed) if self.features > FOLDED else None

    @cached_property
    def squares(self) -> Any:
        return (self.rows**2).sum(1)

    @cached_property
    def digest(self) -> bytes:
        return sha256(self.encode()).digest()

    def check(self, flat: Any) -> None:
        """Raises FormatError for rows of another width."""
        if flat.shape[1] != self.features:
            raise FormatError(f"a row has {flat.shape[1]} features, not {self.features}")

    def place(self, flat: Any) -> Any:
        """Rows of the right width, where their distances mean something."""
        scaled = numpy().asarray(flat, "f4") / self.scale
        return scaled if self._fold is None else self._fold(scaled)

    def encode(self) -> bytes:
        head = _HEAD.pack(
            len(self.rows), self.features, self.window, self.far, self.near, self.seed
        )
        return b"".join((_MAGIC, head, self.scale.tobytes(), self.rows.tobytes()))

    @classmethod
    def decode(cls, data: bytes) -> Reference:
        """Raises FormatError. Sizes are held against the length before anything is made."""
        np = numpy()
        start = len(_MAGIC) + _HEAD.size
        if not data.startswith(_MAGIC) or len(data) < start:
            raise FormatError("this is no reference of this version")
        count, features, window, far, near, seed = _HEAD.unpack_from(data, len(_MAGIC))
        fits = 1 <= count <= MOST_ROWS and 1 <= features <= MOST_FEATURES
        width = min(features, FOLDED)
        if not fits or len(data) != start + 4 * (features + count * width):
            raise FormatError("the reference does not have the size that it says")
        scale = np.frombuffer(data, "<f4", features, start)
        rows = np.frombuffer(data, "<f4", count * width, start + 4 * features)
        sane = np.isfinite(rows).all() and np.isfinite(scale).all() and (scale > 0).all()
        if not sane or not 1 <= window <= MOST_ROWS or not (0 < far < 1e30 and 0 <= near < 1e30):
            raise FormatError("the reference has a number that cannot be")
        return cls(features, window, far, near, seed, scale, rows.reshape(count, width))


def nearest(queries: Any, rows: Any, squares: Any = None, *, itself: bool = True) -> Any:
    """The distance from each query to its nearest row; without `itself` the two are the same
    rows and none counts as its own neighbor."""
    np = numpy()
    if squares is None:
        squares = (rows**2).sum(1)
    found = np.empty(len(queries), "f4")
    for at in range(0, len(queries), 256):
        part = queries[at : at + 256]
        distances = squares - 2 * (part @ rows.T)
        if not itself:
            distances[np.arange(len(part)), np.arange(at, at + len(part))] = np.inf
        found[at : at + 256] = distances.min(1) + (part**2).sum(1)
    return np.sqrt(np.maximum(found, 0))
