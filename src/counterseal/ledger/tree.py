"""The Merkle tree of RFC 6962, section 2.1: hashes, proofs and their checks.

Pure. A check returns None or raises LedgerBroken; `Range` is how proofs ask for hashes:
`(start, end)` gives the Merkle tree hash of the entries from `start` up to, not including, `end`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from counterseal.errors import LedgerBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Range = Callable[[int, int], bytes]

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "MAX_PROOF",
    "check_consistency",
    "check_inclusion",
    "leaf_hash",
    "node_hash",
    "perfect_root",
    "prove_consistency",
    "prove_inclusion",
    "root",
    "split",
]

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
MAX_PROOF: Final = 63  # hashes: a tree has less than 2^63 entries


def leaf_hash(entry: bytes) -> bytes:
    # The prefixes keep a node from being shown as an entry, and the other way round.
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def split(count: int) -> int:
    """The largest power of two smaller than `count`, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 2^k hashes."""
    while len(hashes) > 1:
        pairs = iter(hashes)
        hashes = [
            sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)
        ]
    return hashes[0]


def root(hashes: Sequence[bytes]) -> bytes:
    """The root over any number of hashes."""
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) & (len(hashes) - 1) == 0:
        return perfect_root(hashes)
    middle = split(len(hashes))
    return node_hash(perfect_root(hashes[:middle]), root(hashes[middle:]))


def prove_inclusion(index: int, size: int, mth: Range) -> list[bytes]:
    """PATH(index, D[size]), from the leaf's sibling up."""
    if not 0 <= index < size:
        raise ValueError("there is no such entry")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            proof.append(mth(middle, end))
            end = middle
        else:
            proof.append(mth(start, middle))
            start = middle
    return proof[::-1]


def check_inclusion(
    proof: Sequence[bytes], *, index: int, size: int, leaf: bytes, root: bytes
) -> None:
    """Return only if the tree with this root and size has `leaf` at `index`."""
    if not 0 <= index < size:
        raise LedgerBroken(f"entry {index} is not in a log of {size} entries")
    # How many steps there are, and to which side, follows from index and size alone.
    node, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise LedgerBroken("the inclusion proof is too long")
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or current != root:
        raise LedgerBroken(f"entry {index} is not what the log's checkpoint stands for")


def prove_consistency(old: int, new: int, mth: Range) -> list[bytes]:
    """PROOF(old, D[new]); empty if there is nothing to prove."""
    if not 0 <= old <= new:
        raise ValueError("a proof leads from a smaller tree to a larger one")
    if old in {0, new}:
        return []
    proof: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + split(end - start)
        if old <= middle:
            proof.append(mth(middle, end))
            end = middle
        else:
            proof.append(mth(start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(mth(start, end))
    return proof[::-1]


def check_consistency(
    proof: Sequence[bytes], *, old: int, new: int, old_root: bytes, new_root: bytes
) -> None:
    """Return only if the new tree begins with all of the old one, unchanged."""
    if not 0 <= old <= new:
        raise LedgerBroken(f"a log of {old} entries has shrunk to {new}")
    if old in {0, new}:
        expected = EMPTY_ROOT if old == 0 else new_root
        if proof or old_root != expected or (new == 0 and new_root != EMPTY_ROOT):
            raise LedgerBroken(f"split view: two different logs of {old} entries are signed")
        return
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    first, second, complete = _climb(path, old - 1, new - 1)
    if not complete or first != old_root or second != new_root:
        raise LedgerBroken(
            f"split view: the log of {new} entries does not go on from the one of {old}"
        )


def _climb(path: Sequence[bytes], node: int, last: int) -> tuple[bytes, bytes, bool]:
    """RFC 9162, section 2.1.4.2, steps 3 to 7: both roots, and whether the path was all of it."""
    if not path:
        return b"", b"", False
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for step in path[1:]:
        if last == 0:
            return first, second, False
        if node & 1 or node == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, step)
        node, last = node >> 1, last >> 1
    return first, second, last == 0
