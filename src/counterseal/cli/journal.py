"""Where commands write down what they did, for everything that has our keys at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterseal.cli.output import say
from counterseal.cli.settings import settings

if TYPE_CHECKING:
    from counterseal.errors import CountersealError
    from counterseal.jobs.journal import Journal
    from counterseal.trust.identity import Identity

__all__ = ["journal"]


def journal(by: Identity) -> Journal:
    """The journal of `by`; one that fails is a remark, and the command has done its work."""
    from counterseal.jobs.journal import Journal

    return Journal(by, home=settings().home, warn=_warn)


def _warn(error: CountersealError) -> None:
    say(error.message + (f" ({error.hint})" if error.hint else ""))
