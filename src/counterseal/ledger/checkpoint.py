"""What a log signs: its origin, its size, its root (c2sp.org/tlog-checkpoint)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from counterseal.errors import FormatError
from counterseal.ledger.tree import EMPTY_ROOT, HASH_BYTES

__all__ = ["Checkpoint", "decimal", "strict_base64"]

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_ORIGIN_BYTES: Final = 255  # what an ML-DSA-44 cosignature can name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The body of the note."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a body of exactly three lines.

        Extension lines are refused: nobody could audit them, and an ML-DSA-44 cosignature does
        not cover them.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise FormatError("a checkpoint has three lines: origin, size, root")
        origin = lines[0]
        if len(origin.encode()) > _ORIGIN_BYTES:
            raise FormatError(f"the origin of a checkpoint is longer than {_ORIGIN_BYTES} bytes")
        size, root = decimal(lines[1], "tree size"), strict_base64(lines[2], "root hash")
        if len(root) != HASH_BYTES or (size == 0 and root != EMPTY_ROOT):
            raise FormatError("the root hash of a checkpoint is not one of its size")
        return cls(origin, size, root)


def decimal(text: str, what: str) -> int:
    """A number below 2^63 in its only spelling."""
    if not _DECIMAL.fullmatch(text) or int(text) >= 1 << 63:
        raise FormatError(f"the {what} is not a number as it must be written")
    return int(text)


def strict_base64(text: str, what: str) -> bytes:
    """Standard base64 with padding, in its only spelling."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"the {what} is not base64") from None
    if base64.b64encode(data).decode() != text:  # bits that padding would hide
        raise FormatError(f"the {what} is not base64 as it must be written")
    return data
