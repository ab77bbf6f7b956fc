"""The header: what the sender signs, readable without a key (SPEC 3.2).

`core` is fixed when the package is made and bound into every stanza; the rest changes when
a recipient is added. Through `manifest` and `stanzas` the signature covers every byte of the
package, so no recipient, who also holds the content key, can change it in the sender's name.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.crypto.chunked import sealed_bytes
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import DIGEST_BYTES, sha256
from counterseal.errors import ExpiredKey, FormatError
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["PACKAGE_TYPE", "SUITE", "Core", "Header", "parse"]

PACKAGE_TYPE: Final = "application/vnd.counterseal.package.v1+json"
SUITE: Final = "counterseal-1"
_MAX_INT: Final = 2**53 - 1
# It is read whole, so a sender must not choose how much memory that takes.
MAX_MANIFEST: Final = sealed_bytes(
    limits.KIB + limits.MANIFEST_JSON_BYTES + DIGEST_BYTES * limits.LEAVES
)

Hex16 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]
CharterId = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,128}\Z")]


class Core(Message, frozen=True):
    """`manifest` is the SHA-256 of the encrypted manifest; `commitment` that of the content key."""

    kind: Literal["package"]
    format: Literal[1]
    suite: Literal["counterseal-1"]
    package: Hex16
    sender: Hex32
    created: Timestamp
    expires: Timestamp | None
    charter: CharterId | None
    commitment: Hex32
    manifest: Hex32
    manifest_bytes: Annotated[int, msgspec.Meta(ge=0, le=_MAX_INT)]

    def digest(self) -> bytes:
        return _digest(self)

    def check_time(self, *, at: datetime) -> None:
        if self.expires is not None and at > self.expires:
            raise ExpiredKey(
                f"this package ended on {self.expires:%Y-%m-%d %H:%M} UTC",
                hint="ask the sender for a fresh one",
            )


class Header(Message, frozen=True):
    """`card` is the key id that signs; `body` and `size` are offsets from the start."""

    core: Core
    card: Hex32
    recipients: Annotated[int, msgspec.Meta(ge=1, le=limits.RECIPIENTS)]
    stanzas: Hex32
    body: Annotated[int, msgspec.Meta(ge=1, le=_MAX_INT)]
    size: Annotated[int, msgspec.Meta(ge=1, le=_MAX_INT)]


@lru_cache(maxsize=16)  # a package for a thousand recipients asks three thousand times
def _digest(core: Core) -> bytes:
    return sha256(bind("core", canonical.encode(core)))


def parse(data: bytes) -> tuple[Envelope, Header]:
    """Read header bytes. Nothing in them is trusted before the signature is checked."""
    envelope = canonical.decode(data, Envelope, limit=limits.HEADER_BYTES, what="header envelope")
    header = canonical.decode(
        envelope.payload, Header, limit=limits.HEADER_BYTES, what="package header"
    )
    if not header.body < header.size or header.core.manifest_bytes > header.size - header.body:
        raise FormatError("the header's offsets contradict each other")
    if header.core.manifest_bytes > MAX_MANIFEST:
        raise FormatError("the manifest is longer than it may be")
    return envelope, header
