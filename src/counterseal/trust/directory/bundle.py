"""A directory as it travels: one document that holds all files, by name (SPEC 2.8).

Nothing in here is believed; `reader` decides. The names are those of a TUF repository without
consistent snapshots, so that the files, written to a folder, are one.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

import msgspec

from counterseal.errors import FormatError
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message

__all__ = [
    "CARD",
    "CONTACT",
    "PREKEYS",
    "SNAPSHOT",
    "TARGETS",
    "TIMESTAMP",
    "Contact",
    "DirectoryBundle",
    "root_name",
]

TIMESTAMP: Final = "timestamp.json"
SNAPSHOT: Final = "snapshot.json"
TARGETS: Final = "targets.json"
CARD: Final = "card.json"
PREKEYS: Final = "prekeys.json"
CONTACT: Final = "contact.json"

_ROOT: Final = re.compile(r"([1-9][0-9]{0,8})\.root\.json")
FileName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.]{0,31}\Z", max_length=32)]
Url = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,1024}\Z", max_length=1024)]


def root_name(version: int) -> str:
    return f"{version}.root.json"


class DirectoryBundle(Message, frozen=True):
    """All files of one directory. Reading it checks names and lengths, nothing else."""

    kind: Literal["directory"]
    format: Literal[1]
    files: Annotated[
        dict[FileName, bytes], msgspec.Meta(min_length=1, max_length=limits.DIRECTORY_FILES)
    ]

    @classmethod
    def of(cls, files: dict[str, bytes]) -> Self:
        return cls(kind="directory", format=1, files=files)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        return canonical.decode(data, cls, limit=limits.DIRECTORY_BYTES, what="directory")

    def encode(self) -> bytes:
        data = canonical.encode(self)
        if len(data) > limits.DIRECTORY_BYTES:
            raise FormatError("the directory is too long", hint="offer fewer prekeys at a time")
        return data

    def file(self, name: str) -> bytes:
        if name not in self.files:
            raise FormatError(f"the directory has no {name}")
        return self.files[name]

    def roots(self) -> dict[int, bytes]:
        """The root metadata by version, oldest first."""
        found = {}
        for name, data in self.files.items():
            match = _ROOT.fullmatch(name)
            if match:
                found[int(match[1])] = data
        if len(found) > limits.DIRECTORY_ROOTS:
            raise FormatError("the directory has too many roots")
        return dict(sorted(found.items()))


class Contact(Message, frozen=True):
    """Where the organization receives mail; an order of preference."""

    kind: Literal["contact"]
    format: Literal[1]
    urls: Annotated[tuple[Url, ...], msgspec.Meta(min_length=1, max_length=limits.CONTACT_URLS)]

    @classmethod
    def of(cls, *urls: str) -> Self:
        return cls(kind="contact", format=1, urls=urls)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        return canonical.decode(data, cls, limit=limits.CONTACT_BYTES, what="contact")
