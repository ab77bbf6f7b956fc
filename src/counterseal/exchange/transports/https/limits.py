"""How much of anything a mailbox takes, and from whom (SPEC 14.3.6). An operator may change it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from counterseal.exchange.transports.https.rates import Rate
from counterseal.wire import limits

__all__ = ["HEAD_BYTES", "POSTING_BYTES", "SLOT_MESSAGES", "SLOT_MESSAGE_BYTES", "Limits"]

# What the protocol says; both ends know it.
HEAD_BYTES: Final = 64 * limits.KIB  # a request that asks for 1024 boxes is 40 KiB long
BLOCKS: Final = 32_768  # in one letter, and in one question
POSTING_BYTES: Final = 8 * limits.MIB  # a letter and 32,768 names, in base64
BOXES: Final = 1024  # in one question
PAGE: Final = 100  # letters in one answer
LONGEST_WAIT: Final = 30.0  # seconds a question for letters stays open
SLOT_MESSAGES: Final = 8
SLOT_MESSAGE_BYTES: Final = 256 * limits.KIB
SLOTS: Final = 1_000_000_000  # numbers


_REQUESTS: Final = Rate(count=5000, seconds=1, burst=10_000)
_POSTINGS: Final = Rate(count=600, seconds=3600, burst=100)
_STRANGERS: Final = Rate(count=60, seconds=60, burst=60)
_SESSIONS: Final = Rate(count=20, seconds=1, burst=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one mailbox grants."""

    # what a client may keep here
    stored_bytes: int = 64 << 30
    letters: int = 10_000
    uploads: int = 256  # unfinished
    slots: int = 16
    block_bytes: int = 1 << 30
    spare_bytes: int = 64 << 20  # of the disk, which no upload may touch

    # how long
    letter_life: timedelta = timedelta(days=30)
    orphan_life: timedelta = timedelta(days=1)  # blocks and uploads that no letter names
    slot_life: timedelta = timedelta(hours=1)
    slot_rest: timedelta = timedelta(minutes=1)  # closed, but still to be read

    # how often
    requests: Rate = _REQUESTS  # a client
    postings: Rate = _POSTINGS  # a client: letters and notices
    strangers: Rate = _STRANGERS  # an address, before it has proven anything
    sessions: Rate = _SESSIONS  # an address; each proof costs a signature

    # how slowly and how many at once
    connections: int = 256
    connections_per_address: int = 64
    connections_per_client: int = 32
    head_seconds: float = 10.0  # from the first byte of a request to the end of its head
    idle_seconds: float = 75.0  # between requests
    stranger_seconds: float = 20.0  # the same, before a client has said who it is
    stall_seconds: float = 20.0  # in the middle of a body
    slowest: int = 4 * limits.KIB  # bytes a second, over a whole body
