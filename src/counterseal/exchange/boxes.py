"""Where letters from one sender to one recipient go; the name says neither (SPEC 12.1)."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256

__all__ = ["BOX_BYTES", "BlockName", "Box", "box"]

BOX_BYTES: Final = 16

Box = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]
BlockName = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]


def box(sender: str, recipient: str) -> str:
    """32 hex characters for a pair of identities (the key ids of their first cards).

    One box for each pair and direction: a relay sees neither name nor key id, and cannot tell
    two partners of one recipient from two recipients. Whoever holds both cards can compute it.
    """
    parts = bytes.fromhex(sender), bytes.fromhex(recipient)
    return sha256(bind("box", *parts))[:BOX_BYTES].hex()
