"""Where the parts of a package lie (SPEC 3.1).

0        magic, 16 bytes
16       H: u32 length of the header envelope
20       S: u32 length of the stanzas
24       header envelope (H bytes), stanzas (S bytes), zeros
body     manifest message, then one message for each file; `size` is the end
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from counterseal.crypto import chunked
from counterseal.crypto.chunked import PREFIX_BYTES
from counterseal.errors import FormatError, UnknownVersion
from counterseal.wire import limits

__all__ = [
    "FIXED_BYTES",
    "MAGIC",
    "PREFIX_BYTES",
    "Lengths",
    "body_offset",
    "parse_fixed",
    "plain_bytes",
]

# A high first byte, CR LF and Ctrl-Z: a transfer that "helps" with text breaks it visibly.
MAGIC: Final = b"\x89counterseal\x01\r\n\x1a"
FIXED_BYTES: Final = 24
ALIGNMENT: Final = 4096
MAX_BODY: Final = FIXED_BYTES + limits.HEADER_BYTES + 2 * limits.STANZAS_BYTES
HEADER_ROOM: Final = 8 * limits.KIB  # a header with two signatures takes about 6.5 KiB
MAX_SPARE: Final = 256 * limits.KIB  # about a hundred recipients added later


@dataclass(frozen=True, slots=True)
class Lengths:
    header: int
    stanzas: int

    @property
    def end(self) -> int:
        return FIXED_BYTES + self.header + self.stanzas


def parse_fixed(data: bytes) -> Lengths:
    """Read the first 24 bytes; lengths are bounded before anything else is read."""
    if len(data) < FIXED_BYTES or data[:12] != MAGIC[:12]:
        raise FormatError(
            "this is not a sealed package",
            hint="counterseal inspect FILE tells what a file is",
        )
    if data[: len(MAGIC)] != MAGIC:
        raise UnknownVersion(
            f"this package has format version {data[12]}; this counterseal reads version 1",
            hint="pip install --upgrade counterseal",
        )
    lengths = Lengths(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    if not 0 < lengths.header <= limits.HEADER_BYTES:
        raise FormatError("the header's length is out of range")
    if not 0 < lengths.stanzas <= limits.STANZAS_BYTES:
        raise FormatError("the stanzas' length is out of range")
    return lengths


def fixed(lengths: Lengths) -> bytes:
    return MAGIC + lengths.header.to_bytes(4, "big") + lengths.stanzas.to_bytes(4, "big")


def body_offset(stanza_bytes: int, payload_bytes: int) -> int:
    """Where the body starts: room for the header, the stanzas and, in a large package, more.

    The spare room (1/4096 of the payload) lets recipients be added without moving the
    payload; a small package is simply written again.
    """
    spare = min(payload_bytes // 4096, MAX_SPARE)
    needed = FIXED_BYTES + HEADER_ROOM + stanza_bytes + spare
    return -(-needed // ALIGNMENT) * ALIGNMENT


def plain_bytes(sealed: int) -> int:
    """The plaintext length of a chunked message of `sealed` bytes; FormatError if there is none."""
    chunks, rest = divmod(sealed - chunked.PREFIX_BYTES, chunked.SEALED_CHUNK_BYTES)
    if sealed < chunked.PREFIX_BYTES or rest < chunked.TAG_BYTES:
        raise FormatError("a message has an impossible length")
    return chunks * chunked.CHUNK_BYTES + rest - chunked.TAG_BYTES
