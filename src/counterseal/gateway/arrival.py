"""A request as it came in, the answer as it goes out, and what a request says of itself.

What is named twice has to be named the same: a header and a body that differ are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable  # noqa: TC003 - msgspec reads it
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from counterseal.errors import FormatError, PurposeMismatch
from counterseal.ledger.entry import ID_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from counterseal.gateway.refusals import Refusal
    from counterseal.gateway.work import Draft

__all__ = ["Answer", "Arrival", "one_model", "one_purpose", "record_id"]

_PURPOSE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:/#._-]{0,199}\Z")  # a charter's PurposeCode


class Arrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request as it came in. `read` decodes its body; `record`: the id that the client chose."""

    certificate: str | None
    token: str | None
    address: str
    purpose: str | None
    record: str | None
    model: str | None
    version: str | None
    body: bytes
    read: Callable[[bytes], Draft]


@dataclass(slots=True)
class Answer:
    """`stream`: what follows the headers, instead of `body`. `refused`: why, if it was."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    refused: Refusal | None = None
    record: str | None = None
    stream: AsyncIterator[bytes] | None = None


def record_id(text: str | None) -> bytes:
    """The client's, or a random one."""
    if text is None:
        return os.urandom(ID_BYTES)
    try:
        found = bytes.fromhex(text) if len(text) == 2 * ID_BYTES else b""
    except ValueError:
        found = b""
    if len(found) != ID_BYTES:
        raise FormatError("`counterseal-record` is 32 hex characters")
    return found


def one_purpose(header: str | None, body: str | None) -> str | None:
    """Declared once, or twice the same."""
    if header is not None and body is not None and header != body:
        raise PurposeMismatch("the request declares two purposes, in its header and its body")
    said = header or body
    if said is not None and not _PURPOSE.match(said):  # no ledger could say what was refused
        raise FormatError("a purpose is 1 to 200 of A-Z a-z 0-9 : / # . _ -")
    return said


def one_model(path: str | None, body: str | None) -> str:
    model = path or body
    if model is None:
        raise FormatError("the request names no model")
    return model
