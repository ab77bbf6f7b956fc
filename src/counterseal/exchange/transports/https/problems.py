"""Errors on their way: problem+json (RFC 9457) that comes out as the class it was (SPEC 14.3.3).

A mailbox may say the classes below and no others: it has no say about our ledger or our budget.
"""

from __future__ import annotations

import math
from datetime import datetime  # noqa: TC003 - msgspec reads it at run time
from typing import Final

import msgspec

from counterseal import errors
from counterseal.errors import Aborted, CountersealError, QuotaExceeded
from counterseal.exchange.transports.https.messages import Response
from counterseal.wire import limits

__all__ = ["PROBLEM", "PROBLEM_BYTES", "StatusError", "from_problem", "nothing", "problem"]

PROBLEM: Final = "application/problem+json"
PROBLEM_BYTES: Final = 16 * limits.KIB
_URN: Final = "urn:counterseal:problem:"

_STATUS: Final[dict[str, int]] = {
    "UnknownPartner": 403,
    "RevokedKey": 403,
    "ExpiredKey": 403,
    "RolledBack": 412,
    "TrustError": 403,
    "BadSignature": 403,
    "BadCiphertext": 422,
    "QuotaExceeded": 429,
    "Aborted": 409,
    "TimedOut": 408,
    "UnknownVersion": 400,
    "FormatError": 400,
    "CountersealError": 400,
}


class StatusError(CountersealError):
    """What HTTP can say more exactly than our tree of errors."""

    def __init__(self, message: str, status: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class _Problem(msgspec.Struct, frozen=True):
    """Unknown members are ignored, as RFC 9457 wants."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str | None = None
    retry_at: datetime | None = None
    party: str = "mailbox"
    check: str = "unknown"


def problem(
    error: CountersealError, status: int | None = None, *, at: datetime | None = None
) -> Response:
    """An error as a response. A class that may not be said travels as its nearest ancestor."""
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _STATUS)
    if isinstance(error, StatusError):
        status = error.status
    status = status or _STATUS[name]
    document = _Problem(
        type=_URN + name,
        title=error.message,
        status=status,
        detail=error.hint,
        retry_at=error.retry_at if isinstance(error, QuotaExceeded) else None,
        party=error.party if isinstance(error, Aborted) else "mailbox",
        check=error.check if isinstance(error, Aborted) else "unknown",
    )
    headers = {"content-type": PROBLEM, "cache-control": "no-store"}
    if isinstance(error, QuotaExceeded) and error.retry_at is not None and at is not None:
        seconds = (error.retry_at - at).total_seconds()
        headers["retry-after"] = str(max(1, math.ceil(seconds)))
    return Response(status, msgspec.json.encode(document), headers)


def nothing() -> Response:
    """It is not there, or not for them: that looks the same."""
    return problem(CountersealError("there is no such thing here"), 404)


def from_problem(status: int, document: bytes) -> CountersealError:
    """What a client raises. The words come from outside: they are cut and cleaned."""
    try:
        said = msgspec.json.decode(document, type=_Problem)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        said = _Problem()
    message = f"the mailbox says: {_clean(said.title) or f'no ({status})'}"
    hint = _clean(said.detail or "") or None
    name = said.type.removeprefix(_URN)
    if name not in _STATUS or not said.type.startswith(_URN):
        return Aborted(message, party="mailbox", check=f"HTTP status {status}", hint=hint)
    if name == "QuotaExceeded":
        at = said.retry_at
        retry_at = at if at is not None and at.tzinfo is not None else None
        return QuotaExceeded(message, retry_at=retry_at, hint=hint)
    if name == "Aborted":
        check = _clean(said.check)
        return Aborted(message, party=_clean(said.party), check=check, hint=hint)
    kind: type[CountersealError] = getattr(errors, name)
    return kind(message, hint=hint)


def _clean(text: str) -> str:
    """One line of printable text: a mailbox does not write escape sequences to our terminal."""
    return "".join(c for c in text[:300] if c.isprintable())
