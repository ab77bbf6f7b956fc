"""A no, on its way: problem+json (RFC 9457), or OpenAI's form for OpenAI's clients (SPEC 18.5).

    {"type": "urn:counterseal:problem:QuotaExceeded", "status": 429, "title": "...",
     "detail": the hint, "instance": the request's record id, "policy": "limits.quotas[0]",
     "retry_at": "2026-12-01T00:00:00Z"}

`policy` is where the charter says so. What a stranger did wrong is not explained to them: to
whoever has no session all refusals look alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - msgspec reads it at run time
from typing import TYPE_CHECKING, Final

import msgspec

from counterseal import errors
from counterseal.errors import (
    CharterDenied,
    CountersealError,
    PurposeMismatch,
    QuotaExceeded,
    SessionExpired,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterseal.charter.decision import Decision

__all__ = [
    "PROBLEM",
    "PROBLEM_BYTES",
    "CutOffError",
    "ModelFailedError",
    "NotServedError",
    "Problem",
    "RateExceeded",
    "Refusal",
    "TooLarge",
    "denied",
    "from_problem",
    "is_inside",
    "refusal",
]

PROBLEM: Final = "application/problem+json"
PROBLEM_BYTES: Final = 16 * 1024
_URN: Final = "urn:counterseal:problem:"
_QUOTA: Final = "charter_quota"


class RateExceeded(QuotaExceeded):
    """More requests at once than the rate allows; soon again."""


class TooLarge(errors.FormatError):
    """More bytes than anybody may send; they were not read."""


class NotServedError(CountersealError):
    """No such path, model or version here."""


class CutOffError(CountersealError):
    """The gateway cannot say whether this is still allowed, and so it is not."""


class ModelFailedError(CountersealError):
    """What went wrong inside is the owner's to know."""


# The class, the status, OpenAI's `type`. The first that fits, by the class's ancestors.
_STATUS: Final[Mapping[str, tuple[int, str]]] = {
    "TooLarge": (413, "invalid_request_error"),
    "NotServedError": (404, "invalid_request_error"),
    "CutOffError": (503, "server_error"),
    "SessionExpired": (401, "authentication_error"),
    "QuotaExceeded": (429, "insufficient_quota"),
    "CharterDenied": (403, "permission_error"),
    "RolledBack": (412, "permission_error"),
    "TrustError": (403, "permission_error"),
    "ReplayedMessage": (409, "invalid_request_error"),
    "TamperError": (403, "permission_error"),
    "FormatError": (400, "invalid_request_error"),
    "TimedOut": (504, "server_error"),
    "PeerMisbehaved": (502, "server_error"),
    "CountersealError": (500, "server_error"),
}
_HERE: Final = {"TooLarge": TooLarge, "NotServedError": NotServedError, "CutOffError": CutOffError}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Unknown members are ignored, as RFC 9457 wants."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str | None = None
    instance: str | None = None
    policy: str | None = None
    retry_at: datetime | None = None


class _OpenAiError(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str


class _OpenAi(msgspec.Struct, frozen=True):
    error: _OpenAiError


@dataclass(frozen=True, slots=True)
class Refusal:
    """`policy`: where the charter says so. `retry_after`: seconds, if waiting helps."""

    kind: str
    status: int
    message: str
    hint: str | None = None
    policy: str | None = None
    retry_at: datetime | None = None
    retry_after: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, record: str | None) -> bytes:
        return msgspec.json.encode(
            Problem(
                type=_URN + self.kind,
                title=self.message,
                status=self.status,
                detail=self.hint,
                instance=None if record is None else f"urn:counterseal:record:{record}",
                policy=self.policy,
                retry_at=self.retry_at,
            )
        )

    def openai_body(self) -> bytes:
        """The hint travels in the message: their clients show nothing else."""
        hint = "" if self.hint is None else f" ({self.hint})"
        kind = _STATUS.get(self.kind, _STATUS["CountersealError"])[1]
        code = _QUOTA if self.status == 429 else self.kind
        error = _OpenAiError(self.message + hint, kind, self.policy, code)
        return msgspec.json.encode(_OpenAi(error))

    def all_headers(self) -> dict[str, str]:
        found = {"cache-control": "no-store", **self.headers}
        if self.retry_after is not None:
            found["retry-after"] = str(self.retry_after)
        if self.status == 401:
            found["www-authenticate"] = 'Bearer realm="counterseal"'
        if self.status in {429, 403}:
            found["x-should-retry"] = "false"  # what the openai client asks
        return found


def refusal(
    error: CountersealError,
    *,
    policy: str | None = None,
    at: datetime | None = None,
    headers: Mapping[str, str] | None = None,
) -> Refusal:
    """What an error looks like from outside."""
    names = [kind.__name__ for kind in type(error).__mro__]
    name = next(name for name in names if name in _STATUS)
    retry_at = error.retry_at if isinstance(error, QuotaExceeded) else None
    after = None
    if retry_at is not None and at is not None:
        after = max(1, math.ceil((retry_at - at).total_seconds()))
    elif name == "CutOffError":
        after = 1
    said = next(one for one in names if hasattr(errors, one) or one in _HERE)
    inside = is_inside(error)
    return Refusal(
        kind=said,
        status=_STATUS[name][0],
        message="the gateway failed" if inside else error.message,
        hint=None if inside else error.hint,
        policy=policy,
        retry_at=retry_at,
        retry_after=after,
        headers=headers or {},
    )


def is_inside(error: CountersealError) -> bool:
    """Whether it tells of disks and databases, which are nobody's business outside."""
    return type(error) is CountersealError


def denied(decision: Decision) -> tuple[CharterDenied, str]:
    """A decision that denies, as the error that it is and the first place that says so."""
    try:
        decision.raise_for_denied()
    except CharterDenied as error:
        path = decision.reasons[0].path if decision.reasons else "permissions"
        return error, path
    raise ValueError("this decision allows")


def from_problem(status: int, document: bytes) -> CountersealError:
    """What a client raises. The words come from outside: they are cut and cleaned."""
    said = _said(document[:PROBLEM_BYTES])
    policy = f" [{_clean(said.policy)}]" if said.policy else ""
    message = f"the gateway says: {_clean(said.title) or f'no ({status})'}{policy}"
    hint = _clean(said.detail or "") or None
    name = said.type.removeprefix(_URN) if said.type.startswith(_URN) else ""
    if name in {"QuotaExceeded", "RateExceeded"}:
        at = said.retry_at
        retry_at = at if at is not None and at.tzinfo is not None else None
        return QuotaExceeded(message, retry_at=retry_at, hint=hint)
    if name in _HERE:
        return _HERE[name](message, hint=hint)
    if name in _SAID:
        return _SAID[name](message, hint=hint)
    return errors.Aborted(message, party="gateway", check=f"HTTP status {status}", hint=hint)


def _said(document: bytes) -> Problem:
    """In either form."""
    for form in (Problem, _OpenAi):
        try:
            said = msgspec.json.decode(document, type=form)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
        if isinstance(said, Problem):
            if said.title:
                return said
        elif isinstance(said, _OpenAi):
            kind = "QuotaExceeded" if said.error.code == _QUOTA else said.error.code
            return Problem(_URN + kind, said.error.message, policy=said.error.param)
    return Problem()


# What a gateway may say; it has no say about signatures or ledgers that we check ourselves.
_SAID: Final[Mapping[str, type[CountersealError]]] = {
    kind.__name__: kind
    for kind in (
        CharterDenied,
        CountersealError,
        PurposeMismatch,
        SessionExpired,
        errors.Dropped,
        errors.ExpiredKey,
        errors.FormatError,
        errors.ReplayedMessage,
        errors.RevokedKey,
        errors.RolledBack,
        errors.TimedOut,
        errors.TrustError,
        errors.UnsafeFormat,
    )
}


def _clean(text: str) -> str:
    """One line of printable text: a gateway does not write escape sequences to our terminal."""
    return "".join(c for c in text[:600] if c.isprintable())
