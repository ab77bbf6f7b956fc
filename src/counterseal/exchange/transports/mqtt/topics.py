"""Where things are published. No topic says a name, an identity or a box (SPEC 14.4.1).

    cs1/B/letters   letters into a box; B is a digest of its name
    cs1/B/board     the letter that is put up there; the only retained message
    cs1/T/wants     what the receiver of a shipment says; T is a digest of topic and letter
    cs1/T/blocks    what its sender says: blocks

Exact topics only, never a wildcard: a subscription brings what it names and nothing else. A
topic for each shipment keeps several at once apart, and a sender's work to one `T`.
"""

from __future__ import annotations

from typing import Final

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256

__all__ = ["blocks", "board", "letters", "transfer", "wants"]

PREFIX: Final = "cs1"
TRANSFER_BYTES: Final = 16


def letters(box: str) -> str:
    return f"{PREFIX}/{_place(box)}/letters"


def board(box: str) -> str:
    return f"{PREFIX}/{_place(box)}/board"


def transfer(topic: str, letter: bytes) -> str:
    """32 hex characters for a letter in one place. Both ends have it, neither tells the other.

    With the place: a letter that somebody copies into another box is another shipment, and what
    its reader says about the copy means nothing to the sender.
    """
    return sha256(bind("mqtt transfer", topic.encode(), letter))[:TRANSFER_BYTES].hex()


def wants(transfer: str) -> str:
    return f"{PREFIX}/{transfer}/wants"


def blocks(transfer: str) -> str:
    return f"{PREFIX}/{transfer}/blocks"


def _place(box: str) -> str:
    # A digest of the box, not the box: who reads one cannot write the other's paths in a store.
    return sha256(bind("mqtt box", box.encode()))[:TRANSFER_BYTES].hex()
