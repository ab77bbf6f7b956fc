"""Messages within an epoch: one key for each message, from the epoch's (SPEC 11.3).

    version 1 | epoch u32 | sender u16 | run 16 | number u64 | AES-256-GCM(message)

`sender` is a place in the roster, so that a relay learns no identities. `run` is drawn anew
whenever a sender starts: one that lost its count (a crash, a copy, a second machine) repeats
no number within a run, hence no key. Everything above the ciphertext goes into its key.

Whoever has the epoch key can write as any member: this tells members from strangers, not
members from each other. What must be attributed is signed by itself, as packages are.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from counterseal.crypto.derive import derive
from counterseal.crypto.record import TAG_BYTES, open_once, seal_once
from counterseal.errors import FormatError, QuotaExceeded, ReplayedMessage, UnknownVersion
from counterseal.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "GROUP_MESSAGE_BYTES",
    "OVERHEAD_BYTES",
    "Received",
    "Seen",
    "Writer",
    "number_of",
    "read",
]

GROUP_MESSAGE_BYTES: Final = MIB
VERSION: Final = 1
RUN_BYTES: Final = 16
BEHIND: Final = 1024  # how many numbers of a run may overtake one that is still accepted
MOST_RUNS: Final = 4096  # of one sender in one epoch
_HEAD: Final = struct.Struct(f">BIH{RUN_BYTES}sQ")
OVERHEAD_BYTES: Final = _HEAD.size + TAG_BYTES


@dataclass(frozen=True, slots=True)
class Received:
    sender: str  # an identity of the roster; see above for what that is worth
    message: bytes


class Writer:
    """Our messages of one epoch."""

    def __init__(self, key: bytes, digest: bytes, *, epoch: int, seat: int, identity: str) -> None:
        self._key, self._digest, self._epoch = key, digest, epoch
        self._seat, self._identity = seat, identity
        self._run, self._number = os.urandom(RUN_BYTES), 0

    def seal(self, message: bytes) -> bytes:
        if len(message) > GROUP_MESSAGE_BYTES:
            raise ValueError(f"a message to a group has at most {GROUP_MESSAGE_BYTES} bytes")
        head = _HEAD.pack(VERSION, self._epoch, self._seat, self._run, self._number)
        self._number += 1  # before anything can fail
        return head + seal_once(
            _message_key(self._key, self._digest, head, self._identity), message
        )

    def __repr__(self) -> str:
        return f"<Writer of epoch {self._epoch}>"


class Seen:
    """The numbers that were received in one epoch: in any order, each once."""

    def __init__(self) -> None:
        self._runs: dict[int, dict[bytes, tuple[int, int]]] = {}  # seat -> run -> (next, bits)

    def admit(self, seat: int, run: bytes, number: int) -> None:
        """Raise ReplayedMessage for a number that was here, or is too old to tell."""
        runs = self._runs.setdefault(seat, {})
        if run not in runs and len(runs) >= MOST_RUNS:
            raise QuotaExceeded(
                "a member began too often in this epoch", hint="ask the owner for a new epoch"
            )
        following, bits = runs.get(run, (0, 0))
        if number >= following:
            ahead = number + 1 - following
            bits = (bits << ahead if ahead < BEHIND else 0) & ((1 << BEHIND) - 1) | 1
            runs[run] = number + 1, bits
            return
        bit = 1 << (following - 1 - number)
        if following - number > BEHIND or bits & bit:
            raise ReplayedMessage("this message of the group was received before")
        runs[run] = following, bits | bit


def number_of(sealed: bytes) -> int:
    """The epoch that a message says it is of."""
    if not _HEAD.size + TAG_BYTES <= len(sealed) <= GROUP_MESSAGE_BYTES + OVERHEAD_BYTES:
        raise FormatError("this is no message of a group")
    version, epoch, *_ = _HEAD.unpack_from(sealed)
    if version != VERSION:
        raise UnknownVersion(f"a group message of version {version}")
    return int(epoch)


def read(
    sealed: bytes, key: bytes, digest: bytes, *, identities: Sequence[str], seen: Seen
) -> Received:
    """Open a message of this epoch; `number_of` has looked at it before."""
    head = sealed[: _HEAD.size]
    _, _, seat, run, number = _HEAD.unpack(head)
    if seat >= len(identities):
        raise FormatError("this message is from nobody in the group")
    message = open_once(_message_key(key, digest, head, identities[seat]), sealed[_HEAD.size :])
    seen.admit(seat, run, number)  # after opening: a stranger must not use numbers up
    return Received(identities[seat], message)


def _message_key(key: bytes, digest: bytes, head: bytes, identity: str) -> bytes:
    return derive(key, "group message", digest, head, bytes.fromhex(identity))
