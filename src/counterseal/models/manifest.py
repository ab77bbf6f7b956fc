"""The manifest: what a package holds, signed through the header and encrypted with it (SPEC 3.6).

    u32 length | canonical JSON | 32-byte leaf digests of all files, in order | zeros

The zeros hide the length of the names and let a writer place the payload before it knows
the digests. Leaves are raw because a terabyte has a million of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.crypto.chunked import SALT_BYTES
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import DIGEST_BYTES, LEAF_BYTES, leaf_digest, sha256
from counterseal.errors import FormatError
from counterseal.models import names
from counterseal.models.files import read
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from counterseal.models.files import Files

__all__ = [
    "MAX_FILE_BYTES",
    "FileEntry",
    "Manifest",
    "ManifestDocument",
    "Owner",
    "content_of",
    "leaf_digests",
    "padded_bytes",
]

PAD_BYTES: Final = 1024
MAX_FILE_BYTES: Final = 1 << 50  # 1 PiB; C2SP chunked encryption ends at 4 PiB
_MODEL = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]

# Outside the class, where `bytes` is a field.
_SALT = Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]


class FileEntry(Message, frozen=True):
    """`salt` is that of the file's message: with it the ciphertext is determined to the last bit,
    so that a recipient, who holds the content key, cannot seal even the same bytes anew.
    `sha256` is null in a package sealed without a model statement.
    """

    name: str
    media_type: Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,127}\Z")]
    bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]
    salt: _SALT
    sha256: Hex32 | None


class Owner(Message, frozen=True):
    """Who made the statement; not always who sealed this package."""

    identity: Hex32
    card: Hex32


class ManifestDocument(Message, frozen=True):
    """The JSON part. `version` counts up per sender and model: a lower one is a rollback."""

    kind: Literal["manifest"]
    format: Literal[1]
    model: _MODEL
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    layout: Literal["file", "folder"]
    files: tuple[FileEntry, ...]
    owner: Owner | None
    statement: str | None

    def with_files(
        self, files: tuple[FileEntry, ...], *, statement: str | None
    ) -> ManifestDocument:
        return msgspec.structs.replace(self, files=files, statement=statement)


@dataclass(frozen=True)
class Manifest:
    """The document with the leaf digests of all its files."""

    document: ManifestDocument
    leaves: bytes

    def __post_init__(self) -> None:
        entries = self.document.files
        if not entries or (self.document.layout == "file" and len(entries) != 1):
            raise FormatError("the manifest lists no files, or too many for one file")
        if self.document.layout == "file" and "/" in entries[0].name:
            raise FormatError("the one file of the package is named as if it were in a folder")
        names.check_names(entry.name for entry in entries)
        listed = [entry.name for entry in entries]
        if listed != sorted(listed):
            raise FormatError("the manifest is not in order")
        if len(self.leaves) != DIGEST_BYTES * sum(leaf_digests(e.bytes) for e in entries):
            raise FormatError("the manifest has the wrong number of leaf digests")
        if self.document.statement and len(self.document.statement) > limits.STATEMENT_BYTES:
            raise FormatError("the model statement is too long")
        if (self.document.owner is None) != (self.document.statement is None):
            raise FormatError("an owner without a statement, or the other way round")

    @cached_property
    def first_leaf(self) -> tuple[int, ...]:
        """Index of each file's first leaf digest."""
        first, at = [], 0
        for entry in self.document.files:
            first.append(at)
            at += leaf_digests(entry.bytes)
        return tuple(first)

    def leaf(self, file: int, leaf: int) -> bytes:
        at = DIGEST_BYTES * (self.first_leaf[file] + leaf)
        return self.leaves[at : at + DIGEST_BYTES]

    @cached_property
    def content(self) -> str:
        """The model digest: SHA-256 over names, sizes and leaves; the same in every re-sealing."""
        found = []
        for index, entry in enumerate(self.document.files):
            start = DIGEST_BYTES * self.first_leaf[index]
            end = start + DIGEST_BYTES * leaf_digests(entry.bytes)
            found.append((entry.name, entry.bytes, self.leaves[start:end]))
        return _content(found)

    def encode(self, size: int) -> bytes:
        """Exactly `size` bytes; ValueError if they do not suffice."""
        document = canonical.encode(self.document)
        padding = size - 4 - len(document) - len(self.leaves)
        if padding < 0:
            raise ValueError("the manifest is longer than planned")
        return b"".join((len(document).to_bytes(4, "big"), document, self.leaves, bytes(padding)))

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        length = int.from_bytes(data[:4], "big")
        if length > limits.MANIFEST_JSON_BYTES or 4 + length > len(data):
            raise FormatError("the manifest is longer than it may be")
        document = canonical.decode(
            data[4 : 4 + length],
            ManifestDocument,
            limit=limits.MANIFEST_JSON_BYTES,
            what="manifest",
        )
        leaves = DIGEST_BYTES * sum(leaf_digests(entry.bytes) for entry in document.files)
        end = 4 + length + leaves
        if data[end:] != bytes(max(0, len(data) - end)):
            raise FormatError("the manifest is followed by something that is not padding")
        return cls(document, data[4 + length : end])


def content_of(files: Files) -> str:
    """The model digest of files that are in no package: the one that a package of them has."""
    found = []
    for name in files.names():
        size = files.size(name)
        leaves = bytearray()
        for at in range(0, size, LEAF_BYTES):
            leaves += leaf_digest(read(files, name, at, min(LEAF_BYTES, size - at)))
        found.append((name, size, bytes(leaves)))
    return _content(found)


def _content(files: Iterable[tuple[str, int, bytes]]) -> str:
    """Of names, sizes and leaf digests, in order."""
    parts: list[bytes] = []
    for name, size, leaves in files:
        parts += [name.encode(), size.to_bytes(8, "big"), sha256(leaves)]
    return sha256(bind("content", *parts)).hex()


def leaf_digests(size: int) -> int:
    """How many leaf digests a file of `size` bytes has; none if it is empty."""
    return -(-size // LEAF_BYTES)


def padded_bytes(document: ManifestDocument, sizes: Sequence[int]) -> int:
    """How much room a manifest needs, from a document whose digests are still blank."""
    leaves = DIGEST_BYTES * sum(leaf_digests(size) for size in sizes)
    if leaves > DIGEST_BYTES * limits.LEAVES:
        raise FormatError("the model is larger than 4 TiB")
    needed = 4 + len(canonical.encode(document)) + leaves
    return -(-needed // PAD_BYTES) * PAD_BYTES
