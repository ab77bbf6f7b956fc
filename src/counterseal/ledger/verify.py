"""Verify a whole log from its static resources, trusting nobody but its keys (SPEC 17.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterseal.errors import FormatError, LedgerBroken
from counterseal.ledger import entry as entries
from counterseal.ledger.reader import TileReader, fetch_bounded
from counterseal.ledger.stored import check_goes_on
from counterseal.ledger.tiles import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from counterseal.ledger.checkpoint import Checkpoint
    from counterseal.ledger.keys import LogKeys, Seen
    from counterseal.ledger.reader import Fetch

__all__ = ["verify"]


def verify(
    fetch: Fetch,
    keys: LogKeys,
    *,
    earlier: Checkpoint | None = None,
    having: Mapping[int, bytes] | None = None,
    read: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Seen:
    """Return the checkpoint of a log in which everything fits together.

    Both signatures; every tile and entry up to the signed root; every entry in the form of this
    version (`read=False`: whatever the entries are); that the log goes on from `earlier`; that it
    has the entries in `having`, by index. Raises BadSignature for a forged checkpoint, RolledBack
    for an older log than `earlier`, LedgerBroken for a split view and for what is missing or
    altered.
    """
    seen = keys.open(fetch_bounded(fetch, CHECKPOINT))
    reader = TileReader(fetch, seen.checkpoint)
    if earlier is not None:
        if earlier.origin != seen.checkpoint.origin:
            raise LedgerBroken("the earlier checkpoint is of another log")
        check_goes_on(reader, earlier)
    wanted = dict(having or {})
    for first, found in reader.bundles(0, reader.size):
        if read:
            for index, data in enumerate(found, first):
                try:
                    entries.decode(data)
                except FormatError as error:
                    raise LedgerBroken(f"entry {index} cannot be read: {error.message}") from None
        for index in [one for one in wanted if first <= one < first + len(found)]:
            if found[index - first] != wanted.pop(index):
                raise LedgerBroken(f"altered entry: {index} is not the one that we have")
        progress(first + len(found), reader.size)
    if wanted:
        raise LedgerBroken(f"missing entry: {min(wanted)} is not in a log of {reader.size}")
    return seen
