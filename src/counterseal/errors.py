"""Every way counterseal says no, on one page.

```
CountersealError(message, hint)                         exit 1
├ TrustError           who is speaking?                      3
│ ├ UnknownPartner     no card of theirs is pinned
│ ├ RevokedKey         the key was withdrawn by its owner
│ ├ ExpiredKey         the card's time is over: freeze is noticed
│ └ RolledBack         older than what was already seen
├ TamperError          are these their bytes?                4
│ ├ BadSignature       not signed by whom it claims
│ ├ BadCiphertext      not sealed for this key, or changed on the way
│ ├ ReplayedMessage    seen before
│ └ LedgerBroken       the log contradicts itself
├ CharterDenied        may they?                             5
│ ├ QuotaExceeded      later: `retry_at` says when
│ ├ SessionExpired
│ ├ PurposeMismatch
│ └ BudgetSpent
├ PeerMisbehaved       did they follow the protocol?         7
│ ├ Aborted            which party, which check
│ ├ Dropped
│ └ TimedOut
├ FormatError          do we understand it?                  1
│ ├ UnknownVersion
│ └ UnsafeFormat       understood well enough to refuse
└ MissingExtraError    is it installed?                      6
```

A programmer's mistake stays what the language calls it: `ValueError`, `TypeError`,
`RuntimeError`. Towards a sender all tamper errors are to look alike (no oracle); the
message here is for the person at this end only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "Aborted",
    "BadCiphertext",
    "BadSignature",
    "BudgetSpent",
    "CharterDenied",
    "CountersealError",
    "Dropped",
    "ExpiredKey",
    "FormatError",
    "LedgerBroken",
    "MissingExtraError",
    "PeerMisbehaved",
    "PurposeMismatch",
    "QuotaExceeded",
    "ReplayedMessage",
    "RevokedKey",
    "RolledBack",
    "SessionExpired",
    "TamperError",
    "TimedOut",
    "TrustError",
    "UnknownPartner",
    "UnknownVersion",
    "UnsafeFormat",
]


class CountersealError(Exception):
    """The common root. `message` says what is wrong, `hint` what to do next.

    `exit_code` is what the command line ends with; it is part of the interface.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class TrustError(CountersealError):
    """We do not know, or no longer trust, who is speaking."""

    exit_code = 3


class UnknownPartner(TrustError):
    """No card is pinned under this name or key id."""


class RevokedKey(TrustError):
    """The key was withdrawn by its owner."""


class ExpiredKey(TrustError):
    """The time of a card, bundle or package is over."""


class RolledBack(TrustError):
    """Something older than, or in conflict with, what this home has already seen."""


class TamperError(CountersealError):
    """These are not the bytes that the sender made."""

    exit_code = 4


class BadSignature(TamperError):
    """A required signature is missing or wrong."""


class BadCiphertext(TamperError):
    """Not sealed for this key, or changed on the way. Deliberately one error for both."""


class ReplayedMessage(TamperError):
    """This message was accepted before."""


class LedgerBroken(TamperError):
    """The log contradicts itself or what its owner signed."""


class CharterDenied(CountersealError):
    """The charter does not permit this."""

    exit_code = 5


class QuotaExceeded(CharterDenied):
    """The quota is used up until `retry_at` (UTC; None if it never refills)."""

    def __init__(
        self, message: str, *, retry_at: datetime | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_at = retry_at


class SessionExpired(CharterDenied):
    """The session is too old or was idle for too long."""


class PurposeMismatch(CharterDenied):
    """The declared purpose is not one the charter allows."""


class BudgetSpent(CharterDenied):
    """The privacy or query budget is spent."""


class PeerMisbehaved(CountersealError):
    """The other side did not follow the protocol."""

    exit_code = 7


class Aborted(PeerMisbehaved):
    """The protocol stopped because `party` failed `check`."""

    def __init__(self, message: str, *, party: str, check: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.party = party
        self.check = check


class Dropped(PeerMisbehaved):
    """The other side went away."""


class TimedOut(PeerMisbehaved):
    """The other side did not answer in time."""


class FormatError(CountersealError):
    """The bytes are not in a form we read."""


class UnknownVersion(FormatError):
    """A version or suite that this release does not know. It is never guessed."""


class UnsafeFormat(FormatError):
    """A file that could run code when loaded, or that tries to escape its folder."""


class MissingExtraError(CountersealError):
    """An optional dependency is not installed; the hint has the pip line."""

    exit_code = 6
