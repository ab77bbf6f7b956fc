"""One charter as a worker serves it: its rules, what is used, its ledger, how far risk went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from counterseal.charter.decision import Rules
from counterseal.errors import CharterDenied, RolledBack
from counterseal.gateway.ladder import Standing
from counterseal.gateway.quota import period_of
from counterseal.ledger.entry import CharterRef
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.charter.chain import Chain
    from counterseal.charter.document import Charter, Period, Rate
    from counterseal.gateway.quota import Quotas
    from counterseal.gateway.vault import Vault
    from counterseal.ledger.ledger import Ledger

__all__ = ["Chains", "Served", "read_standing", "write_standing"]

_MARK: Final = "chain"
_STANDING: Final = "ladder"
SLOWER: Final = 4  # what "throttle" does to the rate


class Chains(Protocol):
    """Where charters are kept: the chain of one, as it stands now, or None."""

    def __call__(self, identifier: str) -> Chain | None: ...


class _Mark(Message, frozen=True):
    """The last step that was served under: an older chain is a rollback."""

    kind: str
    format: int
    step: int
    digest: str


@dataclass(slots=True)
class Served:
    """`standing`: of the monitoring ladder; `state` comes from the chain and the clock."""

    chain: Chain
    rules: Rules
    quotas: Quotas
    ledger: Ledger
    ref: CharterRef
    slot: bytes
    standing: Standing
    rate: Rate | None
    _ends: dict[Period, datetime | None] = field(default_factory=dict)

    def ends_of(self, period: Period, at: datetime) -> datetime | None:
        """When the period around `at` ends."""
        ends = self._ends.get(period)
        if ends is None or at >= ends:
            ends = self._ends[period] = period_of(period, at)[1]
        return ends

    @property
    def charter(self) -> Charter:
        return self.chain.charter

    @property
    def rung(self) -> str | None:
        return self.standing.rung

    def check_active(self, at: datetime) -> None:
        """Raises CharterDenied unless the charter is in force."""
        state = self.chain.standing.at(at)
        if state != "active":
            last = self.chain.standing.last
            why = f" ({last.reason})" if last is not None and last.reason else ""
            raise CharterDenied(
                f"the charter is {state}{why}: nothing is allowed under it",
                hint="resuming needs both sides: counterseal charter resume",
            )

    def reread(self, vault: Vault) -> None:
        """Others may have moved it on the ladder, or spent of its quotas."""
        self.standing = read_standing(vault, self.charter.id)
        rate = self.charter.limits.rate
        self.rate = _slowed(rate) if self.standing.slowed else rate
        self.quotas.forget()

    @classmethod
    def of(cls, chain: Chain, *, vault: Vault, quotas: Quotas, ledger: Ledger) -> Served:
        """Raises RolledBack if this gateway has served a later step of it."""
        charter = chain.charter
        _check_mark(chain, vault)
        standing = read_standing(vault, charter.id)
        return cls(
            chain=chain,
            rules=Rules(charter),
            quotas=quotas,
            ledger=ledger,
            ref=CharterRef(id=charter.id, version=charter.version),
            slot=bytes.fromhex(charter.id),
            standing=standing,
            rate=_slowed(charter.limits.rate) if standing.slowed else charter.limits.rate,
        )


def read_standing(vault: Vault, charter: str) -> Standing:
    data = vault.get(charter, _STANDING)
    return Standing() if data is None else Standing.decode(data)


def write_standing(vault: Vault, charter: str, standing: Standing) -> None:
    vault.change(charter, _STANDING, lambda _: (standing.encode(), None))


def _check_mark(chain: Chain, vault: Vault) -> None:
    last = chain.standing.last
    if last is None:
        raise CharterDenied("the charter has no step yet")
    mark = _Mark(kind="chain-mark", format=1, step=last.number, digest=last.digest)

    def forward(data: bytes | None) -> tuple[bytes, _Mark | None]:
        kept = None if data is None else _read(data)
        newer = kept is None or kept.step < mark.step
        return canonical.encode(mark) if newer or kept is None else canonical.encode(kept), kept

    before = vault.change(chain.charter.id, _MARK, forward)
    if before is not None and (
        before.step > mark.step or (before.step == mark.step and before.digest != mark.digest)
    ):
        raise RolledBack(
            f"the charter here has {mark.step} steps, but {before.step} were served under",
            hint="bring back the newest copy of this home's state",
        )


def _read(data: bytes) -> _Mark:
    return canonical.decode(data, _Mark, limit=limits.KIB, what="mark of a charter")


def _slowed(rate: Rate | None) -> Rate:
    """A quarter of what was agreed; one a second where nothing was."""
    from counterseal.charter.document import Rate as Agreed

    if rate is None:
        return Agreed(count=1, seconds=1, burst=1)
    return msgspec.structs.replace(
        rate, seconds=rate.seconds * SLOWER, burst=max(1, rate.burst // SLOWER)
    )
