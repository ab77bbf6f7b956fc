"""The four messages of a pairing, and what both sides must have seen alike (SPEC 2.9).

    head = step 1 | version 1 | session 32

    1 accepter -> inviter   head | share 32 | key 1216                              1282 bytes
    2 inviter -> accepter   head | share 32 | answer 1120 | attempts 1 | tag 64     1251
    3 accepter -> inviter   head | tag 64 | sealed introduction
    4 inviter -> accepter   head | sealed introduction

`session` is random and the accepter's; key and answer are those of `crypto.ephemeral`, so that
who records this and breaks X25519 later still does not learn who met whom.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final, Literal

from counterseal.crypto.cpace import CONFIRMATION_BYTES
from counterseal.crypto.cpace import SHARE_BYTES as POINT_BYTES
from counterseal.crypto.derive import bind, derive, derive_from_shares
from counterseal.crypto.digest import sha256
from counterseal.crypto.ephemeral import ANSWER_BYTES, SHARE_BYTES
from counterseal.errors import FormatError, UnknownVersion
from counterseal.trust.pairing_code import ATTEMPTS
from counterseal.wire import limits

__all__ = [
    "SESSION_BYTES",
    "TRANSCRIPT_FIELDS",
    "VERSION",
    "Answer",
    "Head",
    "Hello",
    "Role",
    "Schedule",
    "Transcript",
    "split_confirmed",
]

VERSION: Final = 1
SESSION_BYTES: Final = 32
HEAD_BYTES: Final = 2 + SESSION_BYTES

Role = Literal["accepter", "inviter"]

# In this order, all of them; docs/formal/pairing.pv hashes the same terms.
TRANSCRIPT_FIELDS: Final = (
    "version",
    "slot",
    "session",
    "accepter_share",
    "accepter_key",
    "inviter_share",
    "inviter_answer",
    "attempts",
    "accepter_card",
    "accepter_contact",
    "inviter_card",
    "inviter_contact",
)


@dataclass(frozen=True)
class Transcript:
    """The fields, as bytes. What is not known yet is empty, which is encoded like a value."""

    version: bytes
    slot: bytes
    session: bytes
    accepter_share: bytes
    accepter_key: bytes
    inviter_share: bytes
    inviter_answer: bytes
    attempts: bytes
    accepter_card: bytes = b""
    accepter_contact: bytes = b""
    inviter_card: bytes = b""
    inviter_contact: bytes = b""

    @cached_property
    def digest(self) -> bytes:
        fields = (getattr(self, name) for name in TRANSCRIPT_FIELDS)
        return sha256(bind("pairing transcript", *fields))

    def introducing(self, role: Role, card: bytes, contact: bytes | None) -> Transcript:
        """With the card of `role`. No contact is empty here: an introduction cannot hold one."""
        if role == "accepter":
            return replace(self, accepter_card=card, accepter_contact=contact or b"")
        return replace(self, inviter_card=card, inviter_contact=contact or b"")


class Schedule:
    """The keys of one pairing: secret while CPace or the hybrid key exchange is."""

    __slots__ = ("_root",)

    def __init__(self, isk: bytes, ephemeral: bytes, transcript: Transcript) -> None:
        """`transcript`: up to both shares, before anybody has said who they are."""
        self._root = derive_from_shares(isk + ephemeral, "pairing root", salt=transcript.digest)

    def introduction_key(self, role: Role, transcript: Transcript) -> bytes:
        """Encrypts the one message in which `role` says who it is. `transcript`: all before it."""
        return derive(self._root, "pairing introduction", role.encode(), transcript.digest)

    def __repr__(self) -> str:
        return "<Schedule>"


@dataclass(frozen=True, slots=True)
class Head:
    step: int
    session: bytes

    def encode(self) -> bytes:
        return bytes([self.step, VERSION]) + self.session

    @classmethod
    def parse(cls, message: bytes) -> tuple[Head, bytes]:
        """The head and what follows it. Raises UnknownVersion before anything else is read."""
        if len(message) > limits.PAIRING_MESSAGE_BYTES:
            raise FormatError("a pairing message is too long")
        if len(message) < HEAD_BYTES or not 1 <= message[0] <= 4:
            raise FormatError("this is not a pairing message")
        if message[1] != VERSION:
            raise UnknownVersion(
                f"a pairing of version {message[1]}",
                hint="one of the two sides needs a newer release of counterseal",
            )
        return cls(message[0], message[2:HEAD_BYTES]), message[HEAD_BYTES:]


@dataclass(frozen=True, slots=True)
class Hello:
    """Message 1."""

    share: bytes
    key: bytes

    def encode(self, session: bytes) -> bytes:
        return Head(1, session).encode() + self.share + self.key

    @classmethod
    def parse(cls, body: bytes) -> Hello:
        if len(body) != POINT_BYTES + SHARE_BYTES:
            raise FormatError("the first message of a pairing has the wrong length")
        return cls(body[:POINT_BYTES], body[POINT_BYTES:])


@dataclass(frozen=True, slots=True)
class Answer:
    """Message 2. `attempts`: how many are left after this one; a hint until it is confirmed."""

    share: bytes
    answer: bytes
    attempts: bytes
    confirmation: bytes

    def encode(self, session: bytes) -> bytes:
        parts = (self.share, self.answer, self.attempts, self.confirmation)
        return Head(2, session).encode() + b"".join(parts)

    @classmethod
    def parse(cls, body: bytes) -> Answer:
        at = list(accumulate((0, POINT_BYTES, ANSWER_BYTES, 1, CONFIRMATION_BYTES)))
        if len(body) != at[-1]:
            raise FormatError("the second message of a pairing has the wrong length")
        found = cls(*(body[start:end] for start, end in pairwise(at)))
        if found.attempts[0] >= ATTEMPTS:
            raise FormatError("a pairing with more attempts left than there are")
        return found


def split_confirmed(body: bytes) -> tuple[bytes, bytes]:
    """Confirmation and sealed introduction of message 3."""
    if len(body) <= CONFIRMATION_BYTES:
        raise FormatError("the third message of a pairing is too short")
    return body[:CONFIRMATION_BYTES], body[CONFIRMATION_BYTES:]
