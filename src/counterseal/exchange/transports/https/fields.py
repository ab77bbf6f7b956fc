"""Header fields with a form of their own: digests, ranges, tags, uploads. Strict and small.

What cannot be read is as if it were not there, where the standard says so (structured fields,
Range), and FormatError where ignoring it would mean doing something else than was asked.

| field | standard |
|---|---|
| Repr-Digest, Content-Digest, Want-Repr-Digest | RFC 9530, only `sha-256` |
| Range, If-Range, ETag, If-Match, If-None-Match | RFC 9110 |
| Upload-Complete, -Offset, -Length, -Limit | draft-ietf-httpbis-resumable-upload-12 |
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from counterseal.crypto.digest import DIGEST_BYTES
from counterseal.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "INTEROP",
    "INTEROP_FIELD",
    "boolean",
    "digest_field",
    "integer",
    "read_digest",
    "read_range",
    "tag",
    "tags",
    "wants_digest",
]

INTEROP_FIELD: Final = "upload-draft-interop-version"
INTEROP: Final = "8"  # of the draft; a peer of another version is not told that we can resume

_INTEGER: Final = re.compile(r"[0-9]{1,15}")
_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/=]{44}):")
_WANTED: Final = re.compile(r"(?:^|,)\s*sha-256=([0-9]|10)\s*(?:$|,)")
_RANGE: Final = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")
_TAG: Final = re.compile(r'"[!#-~]{0,128}"')


def boolean(headers: Mapping[str, str], name: str) -> bool | None:
    """A structured boolean; None if absent or not one."""
    return {"?1": True, "?0": False}.get(headers.get(name, ""))


def integer(headers: Mapping[str, str], name: str) -> int | None:
    """A structured integer that is not negative; None if absent or not one."""
    value = headers.get(name, "")
    return int(value) if _INTEGER.fullmatch(value) else None


def digest_field(digest: bytes) -> str:
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def read_digest(headers: Mapping[str, str], name: str) -> bytes | None:
    """The SHA-256 in a digest field; None if there is none (other algorithms are ignored)."""
    members = [member.strip() for member in headers.get(name, "").split(",")]
    ours = [member for member in members if member.partition("=")[0] == "sha-256"]
    if not ours:
        return None
    match = _DIGEST.fullmatch(ours[0])
    try:
        digest = base64.b64decode(match[1] if match and len(ours) == 1 else "", validate=True)
    except (ValueError, binascii.Error):
        digest = b""
    if len(digest) != DIGEST_BYTES:
        raise FormatError(f"{name} has no sha-256 that can be read")
    return digest


def wants_digest(headers: Mapping[str, str]) -> bool:
    found = _WANTED.search(headers.get("want-repr-digest", ""))
    return found is not None and found[1] != "0"


def read_range(headers: Mapping[str, str], size: int) -> tuple[int, int] | None:
    """(offset, length) of one range; None for the whole. Raises ValueError if it lies outside.

    Several ranges at once are answered with the whole, as RFC 9110 allows: they are how a
    client makes a server send the same bytes a thousand times.
    """
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = min(int(match[2]), size)
        start = size - length
    else:
        start = int(match[1])
        end = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < start:
            return None
        length = end - start + 1
    if start >= size or length < 1:
        raise ValueError("outside")
    return start, length


def tag(text: str) -> str:
    """An entity tag; all of ours are strong."""
    return f'"{text}"'


def tags(value: str) -> set[str]:
    """The tags in If-Match or If-None-Match; {"*"} for any."""
    if value.strip() == "*":
        return {"*"}
    return set(_TAG.findall(value))
