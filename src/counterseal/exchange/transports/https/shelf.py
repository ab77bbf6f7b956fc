"""Letters on a shelf: who may put one where, who may read it, when it goes (SPEC 14.3.5).

Rules:
1. A letter lies in the box of (who posted it, whom it is for), and nowhere else: nobody can
   put one into a box of two others. The mailbox computes the box itself.
2. Only whom it is for may list, read or delete it. For everybody else it is not there: a box
   that one may not read and a box that is empty look alike.
3. It is visible when it and all its blocks are durable, not before.
4. Its name is a digest of what it says: posted again, after an answer was lost, it is the same.
5. With it go the blocks that no other letter of its sender names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import equal, sha256
from counterseal.errors import FormatError, QuotaExceeded, RolledBack, TrustError
from counterseal.exchange.boxes import box as box_of
from counterseal.exchange.transports.https.blocks import Blocks
from counterseal.exchange.transports.https.limits import PAGE
from counterseal.exchange.transports.https.protocol import Listed, Listing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from counterseal.exchange.transports.https.index import Index
    from counterseal.exchange.transports.https.limits import Limits

__all__ = ["Shelf", "Stored"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A notice on the board."""

    data: bytes
    tag: str


class Shelf:
    """Letters, their blocks, and the notice board."""

    def __init__(self, root: Path, index: Index, limits: Limits) -> None:
        self.blocks = Blocks(root, limits)
        self._index = index
        self._limits = limits

    # ------------------------------------------------------------------ letters

    def post(
        self,
        box: str,
        letter: bytes,
        names: Sequence[str],
        *,
        by: str,
        to: str,
        at: datetime,
    ) -> tuple[str, bool]:
        """(id, whether it is new). Raises TrustError by rule 1, StatusError without its blocks."""
        _check_box(box, by=by, to=to)
        identifier = sha256(bind("mailbox letter", bytes.fromhex(box), letter)).hex()[:32]
        if self._index.rows("SELECT 1 FROM letters WHERE id = ?", identifier):
            return identifier, False
        self._check_quota(by, len(letter))
        with (
            self.blocks.held(by, names, named=lambda name: self.names_block(by, name)),
            self._index.transaction(),
        ):
            ends = int((at + self._limits.letter_life).timestamp())
            rows = self._index.rows(
                "INSERT INTO letters (id, box, sender, recipient, data, ends) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING number",
                *(identifier, box, by, to, letter, ends),
            )
            if not rows:  # posted twice at once
                return identifier, False
            number = rows[0][0]
            self._index.many(
                "INSERT INTO names (name, letter) VALUES (?, ?)",
                [(name, number) for name in dict.fromkeys(names)],
            )
        return identifier, True

    def _check_quota(self, client: str, length: int) -> None:
        count, letters = self._index.rows(
            "SELECT count(*), coalesce(sum(length(data)), 0) FROM letters WHERE sender = ?", client
        )[0]
        if count >= self._limits.letters:
            raise QuotaExceeded(
                "too many letters of yours wait here",
                hint="wait until your partners have fetched them",
            )
        if self.blocks.used(client) + letters + length > self._limits.stored_bytes:
            raise QuotaExceeded(
                "what you may store here is used up",
                hint="wait until your partners have fetched what lies here",
            )

    def names_block(self, client: str, name: str) -> bool:
        """Whether a letter of this client names a block."""
        return bool(
            self._index.rows(
                "SELECT 1 FROM names JOIN letters ON number = letter "
                "WHERE name = ? AND sender = ? LIMIT 1",
                *(name, client),
            )
        )

    def listing(self, boxes: Sequence[str], *, reader: str, after: str | None) -> Listing:
        """What waits in these boxes, or in all, oldest first; `after` is the id of a letter."""
        places = ", ".join("?" * len(boxes))
        only = f"AND box IN ({places})" if boxes else ""
        rows = self._index.rows(
            "SELECT box, id, length(data) FROM letters WHERE recipient = ? AND number > coalesce("  # noqa: S608 - question marks
            f"(SELECT number FROM letters WHERE id = ? AND recipient = ?), 0) {only} "
            f"ORDER BY number LIMIT {PAGE + 1}",
            *(reader, after or "", reader, *boxes),
        )
        letters = tuple(Listed(box=box, id=name, size=size) for box, name, size in rows[:PAGE])
        return Listing(kind="letters", letters=letters, more=len(rows) > PAGE)

    def read(self, box: str, identifier: str, *, reader: str) -> bytes | None:
        rows = self._index.rows(
            "SELECT data FROM letters WHERE id = ? AND box = ? AND recipient = ?",
            *(identifier, box, reader),
        )
        return bytes(rows[0][0]) if rows else None

    def delete(self, box: str, identifier: str, *, reader: str) -> bool:
        rows = self._index.rows(
            "SELECT number, sender FROM letters WHERE id = ? AND box = ? AND recipient = ?",
            *(identifier, box, reader),
        )
        for number, sender in rows:
            self._remove(number, sender)
        return bool(rows)

    def _remove(self, number: int, sender: str) -> None:
        with self._index.transaction():
            rows = self._index.rows("SELECT name FROM names WHERE letter = ?", number)
            self._index.rows("DELETE FROM names WHERE letter = ?", number)
            self._index.rows("DELETE FROM letters WHERE number = ?", number)
        gone = [name for (name,) in rows if not self.names_block(sender, name)]
        self.blocks.drop(sender, gone)

    def readable(self, name: str, *, reader: str) -> Path | None:
        """The file of a block, for its bringer and for whom a letter that names it is for."""
        if self.blocks.size(reader, name) is not None:
            return self.blocks.path(reader, name)
        rows = self._index.rows(
            "SELECT sender FROM names JOIN letters ON number = letter "
            "WHERE name = ? AND recipient = ? LIMIT 1",
            *(name, reader),
        )
        return self.blocks.path(rows[0][0], name) if rows else None

    # ------------------------------------------------------------------ the notice board

    def put_up(
        self, box: str, data: bytes, *, by: str, to: str, expected: set[str] | None, new: bool
    ) -> str:
        """`expected`: tags of which the present notice must have one; `new`: there must be none."""
        _check_box(box, by=by, to=to)
        with self._index.transaction():
            present = self.notice(box, reader=by)
            if (new and present is not None) or (
                expected is not None and (present is None or not expected & {present.tag, "*"})
            ):
                raise RolledBack(
                    "the notice was changed by somebody else",
                    hint="another process of yours? look it up, then publish again",
                )
            self._index.rows(
                "INSERT INTO board VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET data = excluded.data",
                *(box, by, to, data),
            )
        return _tag(data)

    def notice(self, box: str, *, reader: str) -> Stored | None:
        rows = self._index.rows(
            "SELECT data FROM board WHERE box = ? AND ? IN (sender, recipient)", box, reader
        )
        return Stored(bytes(rows[0][0]), _tag(rows[0][0])) if rows else None

    # ------------------------------------------------------------------ time

    def sweep(self, *, at: datetime) -> None:
        """Take away what has ended."""
        ended = self._index.rows(
            "SELECT number, sender FROM letters WHERE ends < ?", int(at.timestamp())
        )
        for number, sender in ended:
            self._remove(number, sender)
        self.blocks.sweep(self.names_block, at=at)


def _check_box(box: str, *, by: str, to: str) -> None:
    if by == to:
        raise FormatError("a letter to oneself")
    if not equal(box_of(by, to).encode(), box.encode()):
        raise TrustError("this is not your box with that recipient")


def _tag(data: bytes) -> str:
    return f'"{sha256(bind("mailbox notice", data)).hex()[:32]}"'
