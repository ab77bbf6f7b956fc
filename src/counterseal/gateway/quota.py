"""How much: quotas that are exact over any number of workers, because they are leased first.

    in the vault   for each unit and period: when it began, how much of it was leased out
    in a worker    what it holds of that and has not spent yet

The rules:

1. Nothing is used that was not reserved, nothing reserved that was not leased, nothing leased
   beyond the count; a lease is durable before it is spent. So no kill, restart or race uses
   more than the count.
2. A worker leases what `lease` requests like this one need, at most its part of half of what is
   left (left / 2 workers), at least what this request needs. What a killed worker held is lost
   until the period ends: less than agreed, never more. `close` gives it back.
3. A request gets all that it needs, or nothing is taken.
4. Who was refused asks the store again only when that can have changed: in the next period,
   after `forget` (the epoch changed), or after a second, by reading.
5. Periods are of UTC. Of two periods the later one counts: a clock moved back begins none anew.
   One moved forward by mistake has used up the time between; that is not undone.
6. Counters belong to the id of the charter: a new version goes on with them under its counts.

`used` of a reservation counts what other workers hold as used by them. It is at most the count
if granted. Else it is above the count for what does not fit, and the charter's decision says so.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from counterseal.charter.document import Period, Unit
from counterseal.errors import CharterDenied
from counterseal.gateway.counters import Counter, Counters, decode, encode, period_of, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterseal.charter.document import Charter
    from counterseal.gateway.vault import Vault

__all__ = ["QuotaUse", "Quotas", "Reservation", "period_of"]

Key = tuple[Unit, Period]
_CELL: Final = "quotas"
_AGAIN: Final = timedelta(seconds=1)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_EVER: Final = datetime.max.replace(tzinfo=UTC)

_Learned = tuple[Counters, dict[Key, int]]  # what is kept now, and what of it is new and ours


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """`used`: for every quota, with this request (for `Usage`)."""

    granted: bool
    used: Mapping[Key, int]
    counts: Mapping[Key, int]
    amounts: Mapping[Unit, int]
    starts: Mapping[Key, int]  # of the periods that it counts in

    @property
    def remaining(self) -> Mapping[Key, int]:
        return {key: max(0, self.counts[key] - used) for key, used in self.used.items()}


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """`used`: also what workers hold and have not spent. `resets_at`: None within this term."""

    unit: Unit
    period: Period
    used: int
    count: int
    resets_at: datetime | None


@dataclass(slots=True)
class _Held:
    """What this worker knows of one quota. `leased`: by all, when it last looked."""

    unit: Unit
    period: Period
    count: int
    start: int = 0
    left: int = 0
    leased: int = 0

    @property
    def name(self) -> str:
        return f"{self.unit}/{self.period}"

    @property
    def available(self) -> int:
        return self.left + self.count - self.leased


class Quotas:
    """Of one charter, in one worker of `workers` on all nodes. Threads may share it."""

    def __init__(self, vault: Vault, charter: Charter, *, workers: int, lease: int = 32) -> None:
        if workers < 1 or lease < 1:
            raise ValueError("a lease is for at least one request of at least one worker")
        self._vault = vault
        self._id, self._ends = charter.id, charter.ends
        self._workers, self._lease = workers, lease
        quotas = charter.limits.quotas
        self._held = {
            (one.unit, one.period): _Held(one.unit, one.period, one.count) for one in quotas
        }
        self._counts: Mapping[Key, int] = {key: held.count for key, held in self._held.items()}
        self._starts: Mapping[Key, int] = {}
        self._until = _NEVER  # then a period begins
        self._looked = _NEVER  # when the store last said that there is not enough
        self._open: set[Reservation] = set()
        self._closed = False
        self._guard = threading.Lock()

    def reserve(self, amounts: Mapping[Unit, int], at: datetime) -> Reservation:
        """Take `amounts` of every quota of their units, or nothing at all."""
        if min(amounts.values(), default=0) < 0:
            raise ValueError("a request of less than nothing")
        with self._guard:
            if self._closed:
                raise RuntimeError("these quotas were closed")
            if at >= self._until:
                self._enter_periods(at)
            get = amounts.get
            granted = True
            for held in self._held.values():
                if get(held.unit, 0) > held.left:
                    granted = self._fetch(amounts, at)
                    break
            used = {}
            for key, held in self._held.items():
                need = get(held.unit, 0)
                used[key] = held.leased - held.left + need
                if granted:
                    held.left -= need
            made = Reservation(granted, used, self._counts, dict(amounts), self._starts)
            if granted:
                self._open.add(made)
            return made

    def settle(self, reservation: Reservation, actual: Mapping[Unit, int]) -> Mapping[Key, int]:
        """What was really used: the rest is given back, more is taken as far as there is more.

        Returns what was used beyond the counts, which no quota could pay for: the next requests
        find nothing left. A reservation is settled once; again, nothing happens.
        """
        if min(actual.values(), default=0) < 0:
            raise ValueError("less than nothing was used")
        return self._settle(reservation, actual, usual=actual)

    def cancel(self, reservation: Reservation) -> None:
        """It was not used at all: the charter refused it, or nothing was answered."""
        self._settle(reservation, {}, usual=reservation.amounts)

    def _settle(
        self, reservation: Reservation, actual: Mapping[Unit, int], *, usual: Mapping[Unit, int]
    ) -> dict[Key, int]:
        """`usual`: what the next request is likely to use."""
        beyond: dict[Key, int] = {}
        with self._guard:
            if reservation not in self._open:
                return beyond
            self._open.remove(reservation)
            back: dict[Key, int] = {}
            for key, held in self._held.items():
                if reservation.starts[key] != held.start:
                    continue  # of a period that is over
                more = actual.get(held.unit, 0) - reservation.amounts.get(held.unit, 0)
                if more <= 0:
                    back[key] = -more
                elif (missing := more - self._take(held, more)) > 0:
                    beyond[key] = missing
            starts = reservation.starts  # once more: the store may know of a later period
            back = {key: one for key, one in back.items() if starts[key] == self._held[key].start}
            self._put_back(back, usual)
        return beyond

    def usage(self, at: datetime) -> list[QuotaUse]:
        """As everybody counts it, in the order of the charter."""
        counters = decode(self._vault.get(self._id, _CELL))
        found = []
        for held in self._held.values():
            begins, ends = period_of(held.period, at)
            counter = counters.get(held.name)
            used = 0
            if counter is not None and counter.start >= seconds(begins):
                used = counter.leased
                if counter.start > seconds(begins):  # seen by a clock that was ahead
                    ends = period_of(held.period, datetime.fromtimestamp(counter.start, UTC))[1]
                if counter.start == held.start:
                    used -= held.left
            resets = ends if ends is not None and ends < self._ends else None
            found.append(QuotaUse(held.unit, held.period, used, held.count, resets))
        return found

    def forget(self) -> None:
        """Something changed somewhere: ask the store again."""
        with self._guard:
            self._looked = _NEVER

    def give_back(self) -> None:
        """Everything that is held and not spent; for a worker that has nothing to do."""
        with self._guard:
            self._return({key: held.left for key, held in self._held.items()})

    def close(self) -> None:
        """What was reserved before can still be settled."""
        with self._guard:
            self._closed = True
            self._return({key: held.left for key, held in self._held.items()})

    def _enter_periods(self, at: datetime) -> None:
        """Never back: of two periods, the later one."""
        until = _EVER
        for held in self._held.values():
            begins, ends = period_of(held.period, at)
            self._enter(held, seconds(begins))
            until = min(until, ends or _EVER)
        self._until = until
        self._note_starts()

    def _enter(self, held: _Held, start: int) -> None:
        if start > held.start:
            held.start, held.left, held.leased = start, 0, 0

    def _note_starts(self) -> None:
        self._starts = {key: held.start for key, held in self._held.items()}

    def _fetch(self, amounts: Mapping[Unit, int], at: datetime) -> bool:
        """Lease what is missing for `amounts`; whether there is enough now."""
        if self._is_too_much(amounts):
            if self._looked <= at < self._looked + _AGAIN:
                return False
            # Others may have given something back. To look costs no write.
            self._learn(self._current(self._vault.get(self._id, _CELL)), {})
            self._looked = at
            if self._is_too_much(amounts):
                return False

        def lease(kept: bytes | None) -> tuple[bytes | None, _Learned]:
            counters = self._current(kept)
            chunks: dict[Key, int] = {}
            for key, held in self._held.items():
                need, counter = amounts.get(held.unit, 0), counters[held.name]
                left = self._left(held, counter)
                remaining = held.count - counter.leased
                if need > left + remaining:
                    return kept, (counters, {})
                if need > left:
                    fair = min(self._lease * need, remaining // (2 * self._workers))
                    chunks[key] = max(need - left, fair)
            for key, chunk in chunks.items():
                counters[self._held[key].name].leased += chunk
            return encode(counters), (counters, chunks)

        counters, chunks = self._vault.change(self._id, _CELL, lease)
        self._learn(counters, chunks)
        if not chunks:
            self._looked = at
        return bool(chunks)

    def _is_too_much(self, amounts: Mapping[Unit, int]) -> bool:
        """As far as we know. What is refused so is above its count in `used`, too."""
        return any(amounts.get(held.unit, 0) > held.available for held in self._held.values())

    def _current(self, kept: bytes | None) -> Counters:
        """The counters that are kept, each in its latest period; those of other quotas too."""
        counters = decode(kept)
        for held in self._held.values():
            counter = counters.get(held.name)
            if counter is None or counter.start < held.start:
                counters[held.name] = Counter(held.start, 0)
        return counters

    @staticmethod
    def _left(held: _Held, counter: Counter) -> int:
        """What we hold, as far as it was leased in this period, from this store."""
        return min(held.left, counter.leased) if counter.start == held.start else 0

    def _learn(self, counters: Counters, chunks: dict[Key, int]) -> None:
        for key, held in self._held.items():
            counter = counters[held.name]
            self._enter(held, counter.start)
            held.leased = counter.leased
            chunk = chunks.get(key, 0)
            held.left = min(held.left, counter.leased - chunk) + chunk
        self._note_starts()

    def _take(self, held: _Held, more: int) -> int:
        """As much of `more` as there is, of what is held and then of what nobody has."""
        taken = min(more, held.left)
        held.left -= taken
        missing = more - taken
        if not missing:
            return taken

        def lease(kept: bytes | None) -> tuple[bytes | None, tuple[Counters, int]]:
            counters = self._current(kept)
            counter = counters[held.name]
            if counter.start != held.start:
                return kept, (counters, missing)  # that period is over
            chunk = max(0, min(missing, held.count - counter.leased))
            counter.leased += chunk
            return encode(counters), (counters, chunk)

        counters, chunk = self._vault.change(self._id, _CELL, lease)
        self._learn(counters, {})
        return taken + chunk

    def _put_back(self, back: dict[Key, int], usual: Mapping[Unit, int]) -> None:
        """Keep it for the next requests, unless it is more than our part of what is left."""
        if self._closed:
            self._return(back)
            return
        surplus: dict[Key, int] = {}
        for key, amount in back.items():
            held, want = self._held[key], usual.get(key[0], 0)
            held.left += amount
            fair = max(0, held.count - held.leased) // (2 * self._workers)
            if amount and held.left > max(fair, want):
                surplus[key] = held.left - max(want, min(fair, self._lease * want))
        self._return(surplus)

    def _return(self, back: dict[Key, int]) -> None:
        """To the store, out of what is held (or, when closed, of what was reserved)."""
        back = {key: amount for key, amount in back.items() if amount}
        if not back:
            return
        for key, amount in back.items():  # first: should the store fail, it is lost, not doubled
            held = self._held[key]
            held.left = max(0, held.left - amount)

        def put(kept: bytes | None) -> tuple[bytes | None, Counters]:
            counters = self._current(kept)
            for key, amount in back.items():
                counter = counters[self._held[key].name]
                if counter.start == self._held[key].start:
                    counter.leased = max(0, counter.leased - amount)
            return encode(counters), counters

        # To a charter that was destroyed meanwhile nothing is given back.
        with contextlib.suppress(CharterDenied):
            self._learn(self._vault.change(self._id, _CELL, put), {})
