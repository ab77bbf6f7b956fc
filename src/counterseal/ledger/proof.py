"""A proof file: one entry, its path to the root, the checkpoint (c2sp.org/tlog-proof).

c2sp.org/tlog-proof@v1
extra BASE64             the entry itself, so that the file stands alone
index 73894
BASE64 ...               from the leaf's sibling up

(the checkpoint, with every signature it has)
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from counterseal.errors import FormatError
from counterseal.ledger import tree
from counterseal.ledger.checkpoint import decimal, strict_base64
from counterseal.ledger.reader import TileReader
from counterseal.wire import limits

if TYPE_CHECKING:
    from counterseal.ledger.keys import LogKeys, Seen
    from counterseal.ledger.reader import Fetch

__all__ = ["Proof", "prove"]

_HEADER: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """`entry` is None in a proof of another tool: then whoever checks it must have it."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    entry: bytes | None

    def encode(self) -> bytes:
        lines = [_HEADER]
        if self.entry is not None:
            lines.append(f"extra {base64.b64encode(self.entry).decode()}")
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(one).decode() for one in self.hashes]
        return "".join(f"{line}\n" for line in [*lines, ""]).encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        if len(data) > limits.LEDGER_PROOF_BYTES:
            raise FormatError(f"the proof is longer than {limits.LEDGER_PROOF_BYTES} bytes")
        head, gap, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise FormatError("the proof is not in its form") from None
        if not gap or lines.pop(0) != _HEADER:
            raise FormatError("this is not a proof of a ledger, or of an unknown version")
        entry = None
        if lines and lines[0].startswith("extra "):
            entry = strict_base64(lines.pop(0).removeprefix("extra "), "entry in the proof")
        if not lines or not lines[0].startswith("index "):
            raise FormatError("the proof does not say which entry it is of")
        index = decimal(lines.pop(0).removeprefix("index "), "index")
        hashes = tuple(strict_base64(line, "hash in the proof") for line in lines)
        if len(hashes) > tree.MAX_PROOF or any(len(one) != tree.HASH_BYTES for one in hashes):
            raise FormatError("the proof has hashes that are none")
        return cls(index, hashes, checkpoint, entry)

    def check(self, keys: LogKeys, *, entry: bytes | None = None) -> Seen:
        """Return the checkpoint under which `entry` (default: that in the file) stands.

        Raises BadSignature if it is not of the log with these keys, LedgerBroken if the entry is
        another.
        """
        seen = keys.open(self.checkpoint)
        chosen = self.entry if entry is None else entry
        if chosen is None:
            raise FormatError("the proof comes without its entry")
        tree.check_inclusion(
            self.hashes,
            index=self.index,
            size=seen.checkpoint.size,
            leaf=tree.leaf_hash(chosen),
            root=seen.checkpoint.root,
        )
        return seen


def prove(fetch: Fetch, seen: Seen, index: int) -> Proof:
    """That the log under a checkpoint has the entry with this index."""
    if not 0 <= index < seen.checkpoint.size:
        raise FormatError(
            f"there is no entry {index} under this checkpoint: it has {seen.checkpoint.size}"
        )
    reader = TileReader(fetch, seen.checkpoint)
    path = tree.prove_inclusion(index, reader.size, reader.root_of)
    return Proof(index, tuple(path), seen.note, reader.entry(index))
