"""What client and mailbox say to each other: documents and names (SPEC 14.3.3).

GET    /v1/session                     the mailbox's proof
POST   /v1/session                     the client's proof
POST   /v1/blocks/missing              which of these are not here, or only in part
HEAD GET PUT  /v1/blocks/{name}        one block
HEAD PATCH DELETE  /v1/uploads/{id}    an upload that was interrupted
POST   /v1/boxes/{box}/letters         a letter and the names of its blocks
GET    /v1/boxes?box=..&after=..&wait= what waits for us
GET DELETE  /v1/boxes/{box}/letters/{id}
PUT GET  /v1/board/{box}               the notice board
PUT DELETE  /v1/slots/{number}         a meeting place for two who have no keys yet
POST   /v1/slots/{number}/messages     (also strangers)
GET    /v1/slots/{number}/messages/{index}?wait=
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from counterseal.crypto.digest import DIGEST_BYTES
from counterseal.errors import FormatError
from counterseal.exchange.boxes import Box
from counterseal.exchange.transports.https.limits import BLOCKS, PAGE
from counterseal.wire.canonical import Hex32, Message, PrivateMessage

__all__ = [
    "BYTES",
    "JSON",
    "PARTIAL",
    "RECIPIENT",
    "Listed",
    "Listing",
    "Missing",
    "Names",
    "Partial",
    "Posting",
    "join",
    "split",
]

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
PARTIAL: Final = "application/partial-upload"
RECIPIENT: Final = "counterseal-recipient"  # whose box it is, as the sender says

Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]


class Names(Message, frozen=True):
    """Names of blocks: 32-byte digests in a row."""

    kind: Literal["names"]
    names: bytes


class Partial(Message, frozen=True):
    """An upload that can be continued with PATCH /v1/uploads/{id} from `offset`."""

    name: Hex32
    id: Id
    offset: int


class Missing(Message, frozen=True):
    kind: Literal["missing"]
    names: bytes
    partial: Annotated[tuple[Partial, ...], msgspec.Meta(max_length=BLOCKS)]


class Posting(PrivateMessage, frozen=True):
    """A letter for `recipient`; it appears when the mailbox durably has all its blocks."""

    kind: Literal["posting"]
    recipient: Hex32
    letter: bytes
    blocks: bytes


class Listed(Message, frozen=True):
    box: Box
    id: Id
    size: int


class Listing(Message, frozen=True):
    """Oldest first; `more` if there are some after the last one here."""

    kind: Literal["letters"]
    letters: Annotated[tuple[Listed, ...], msgspec.Meta(max_length=PAGE)]
    more: bool


def join(names: list[str]) -> bytes:
    return bytes.fromhex("".join(names))


def split(names: bytes) -> list[str]:
    if len(names) % DIGEST_BYTES or len(names) > BLOCKS * DIGEST_BYTES:
        raise FormatError("this is not a list of names of blocks")
    return [
        names[start : start + DIGEST_BYTES].hex() for start in range(0, len(names), DIGEST_BYTES)
    ]
