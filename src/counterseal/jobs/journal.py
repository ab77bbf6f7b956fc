"""The journal: what an identity's commands did, in a ledger of its own called `main`.

Rules:
1. It is written after what it tells has happened; of a revocation before, while our card can
   still sign. Nothing is written while our newest card is revoked.
2. A journal that fails undoes and hides nothing: `warn` hears why, and nothing is raised.
3. One that we cannot go on from (its keys are lost after a recovery, its file is gone, older or
   damaged) is left as it is. The next one is `main-2`, and so on; its first entry names the
   origin of the one before and, as `document`, the digest of its last checkpoint that we signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

from counterseal.crypto.digest import sha256
from counterseal.errors import (
    BadCiphertext,
    CountersealError,
    LedgerBroken,
    RevokedKey,
    RolledBack,
)
from counterseal.jobs.ledger import open_ledger
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.entry import Record
from counterseal.ledger.keys import origin_of
from counterseal.ledger.mark import marked
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message, Name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from counterseal.ledger.entry import Event
    from counterseal.ledger.ledger import Ledger
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity

__all__ = ["MAIN", "Journal", "Writes"]

MAIN: Final = "main"
_KIND: Final = "journal"


class Writes(Protocol):
    """Where a job writes down what it did: a `Ledger`, or the `Journal` of a home.

    What a `Ledger` raises is raised after the deed, and does not undo it.
    """

    def record_all(self, records: Sequence[Record]) -> object: ...


class _Current(Message, frozen=True):
    kind: Literal["journal"]
    format: Literal[1]
    name: Name


class Journal:
    """The journal of one unlocked identity. Opened for each writing: commands are short."""

    def __init__(
        self, by: Identity, *, home: Home, warn: Callable[[CountersealError], None]
    ) -> None:
        self._by, self._home, self._warn = by, home, warn

    @property
    def name(self) -> str:
        """What it is called now: `main`, or `main-2` after the first was lost."""
        data = self._by.store.get(_KIND, self._by.history.identity)
        if data is None:
            return MAIN
        return canonical.decode(data, _Current, limit=limits.KIB, what="name of a journal").name

    def key(
        self,
        action: str,
        *,
        key: str | None = None,
        partner: str | None = None,
        reason: str | None = None,
        event: Event = "key",
    ) -> None:
        """Write down what was done with our keys; `key`: of which card, if not of the newest."""
        record = Record(
            event=event,
            actor=self._by.history.identity,
            partner=partner,
            action=action,
            document=key or self._by.key_id,
            reason=reason,
        )
        self.record_all([record])

    def record_all(self, records: Sequence[Record]) -> None:
        """Write records down, durable and signed when it returns; if that fails, warn."""
        try:
            with self._open() as ledger:
                ledger.record_all(records)
        except (CountersealError, OSError) as error:
            why = error.message if isinstance(error, CountersealError) else str(error)
            hint = error.hint if isinstance(error, CountersealError) else None
            self._warn(CountersealError(f"not written down in the ledger: {why}", hint=hint))

    def _open(self) -> Ledger:
        if self._by.history.newest.revoked is not None:
            raise RevokedKey("our own key is revoked", hint="counterseal id rotate --recovery KEY")
        name = self.name
        try:
            return open_ledger(name, by=self._by, home=self._home)
        except (BadCiphertext, RolledBack, LedgerBroken) as error:
            return self._next(name, error)

    def _next(self, before: str, error: CountersealError) -> Ledger:
        """Rule 3."""
        us = self._by.history.identity
        number = 1 if before == MAIN else int(before.removeprefix(f"{MAIN}-"))
        name = f"{MAIN}-{number + 1}"
        ledger = open_ledger(name, by=self._by, home=self._home)
        try:
            if ledger.size == 0:
                lost = isinstance(error, BadCiphertext)  # as it must be after a recovery
                ledger.record_all([_continues(self._by, before, "note" if lost else "incident")])
                if not lost:
                    self._warn(_ends(before, name, error))
            current = _Current(kind="journal", format=1, name=name)
            self._by.store.put(_KIND, us, canonical.encode(current))
        except BaseException:
            ledger.close()
            raise
        return ledger


def _ends(before: str, name: str, error: CountersealError) -> CountersealError:
    return CountersealError(
        f'the ledger "{before}" ends here: {error.message}',
        hint=f'it goes on as "{name}", whose first entry says so',
    )


def _continues(by: Identity, before: str, event: Event) -> Record:
    us = by.history.identity
    origin = origin_of(us, before)
    mark = marked(by.store, origin)
    last = None
    if mark is not None:
        text = Checkpoint(origin, mark.size, bytes.fromhex(mark.root)).text
        last = sha256(text.encode()).hex()
    return Record(event=event, actor=us, action="continues", reason=origin, document=last)
