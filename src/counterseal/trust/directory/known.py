"""What a reader remembers of the last directory it believed: the marks that only move up."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

import msgspec

from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp

__all__ = ["Known", "Version"]

_LIMIT: Final = 2 * limits.ROOT_BYTES
Version = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class Known(Message, frozen=True):
    """`card` is the card that `root` is anchored in; `fresh_until` when the first part ends.

    `timestamp_digest` tells a timestamp that comes again from another one of the same number.
    """

    kind: Literal["known-directory"]
    format: Literal[1]
    card: Hex32
    root: bytes
    timestamp: Version
    timestamp_digest: Hex32
    snapshot: Version
    targets: Version
    fresh_until: Timestamp

    @classmethod
    def parse(cls, data: bytes) -> Self:
        return canonical.decode(data, cls, limit=_LIMIT, what="record of a directory")

    def encode(self) -> bytes:
        return canonical.encode(self)
