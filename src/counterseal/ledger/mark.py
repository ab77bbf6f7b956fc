"""The mark of a ledger: its last checkpoint signed, kept in the state of the home.

A copy of the ledger's file does not bring its mark along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from counterseal.errors import LedgerBroken
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message

if TYPE_CHECKING:
    from counterseal.ledger.keys import LogKeys
    from counterseal.trust.store import Store as Records

__all__ = ["HomeMark", "marked"]

_MARK: Final = "ledger"


class MarkDocument(Message, frozen=True):
    kind: Literal["ledger-mark"]
    format: Literal[1]
    keys: tuple[str, str]
    size: int
    root: Hex32


class HomeMark:
    """The mark of one log."""

    def __init__(self, records: Records, log: LogKeys) -> None:
        self._records, self._log = records, log

    def get(self) -> Checkpoint | None:
        found = marked(self._records, self._log.origin)
        if found is None:
            return None
        if found.keys != self._log.texts:
            raise LedgerBroken(
                "this is another ledger than the one that was signed under this name",
                hint="bring back its file, or begin one with another name",
            )
        return Checkpoint(self._log.origin, found.size, bytes.fromhex(found.root))

    def put(self, checkpoint: Checkpoint) -> None:
        document = MarkDocument(
            kind="ledger-mark",
            format=1,
            keys=self._log.texts,
            size=checkpoint.size,
            root=checkpoint.root.hex(),
        )
        self._records.put(_MARK, self._log.origin, canonical.encode(document))


def marked(records: Records, origin: str) -> MarkDocument | None:
    data = records.get(_MARK, origin)
    if data is None:
        return None
    return canonical.decode(
        data, MarkDocument, limit=limits.LEDGER_KEY_BYTES, what="mark of a ledger"
    )
