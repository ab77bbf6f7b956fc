"""What both ends of a shipment say to each other, as bytes (SPEC 14.4.2).

    message = kind 1 | run 8 | number 4 | body | tag 16 [| data]      integers big-endian

    from the receiver, body                           from the sender, body
    WANT    last 1 | bytes 8 | 8 for each block       HELLO   empty
    STATE   top 4 | seen 128 | base 4 | there ...     PART    block 4 | offset 4 | length 4
    DONE    empty                                             then the data
    CANCEL  empty

`run` names one list of wanted blocks, drawn by the receiver; blocks are counted in its order.
A block itself is named by its digest, so PART needs no more than a tag over its head.

`tag` is keyed by a secret that only the two ends have, if the caller has one; else by nothing
secret, and then it recognizes accidents only. Without a secret, whoever may write to the topic
can make the ends repeat themselves or give up: it can delay, never forge a block.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from counterseal.crypto.derive import bind, derive
from counterseal.crypto.digest import equal, sha256

__all__ = [
    "HEAD_BYTES",
    "MAX_CONTROL",
    "MAX_PART",
    "MAX_WANTED",
    "SEEN",
    "Kind",
    "Lock",
    "Message",
    "Part",
    "State",
    "Want",
    "short",
]

MAX_WANTED: Final = 4096  # blocks in one list: 32 KiB, and 4 GiB on the way
MAX_PART: Final = 1 << 20
SEEN: Final = 1024  # numbers of parts that a STATE reports on
RUN_BYTES: Final = 8
NAME_BYTES: Final = 8  # of a block's digest: enough to tell the blocks of one letter apart

_TAG_BYTES: Final = 16
_HEAD: Final = struct.Struct(f">B{RUN_BYTES}sI")
_PART: Final = struct.Struct(">III")
_STATE: Final = struct.Struct(f">I{SEEN // 8}sI")
_WANT: Final = struct.Struct(">BQ")

HEAD_BYTES: Final = _HEAD.size + _PART.size + _TAG_BYTES  # before the data of a PART
MAX_CONTROL: Final = _HEAD.size + _WANT.size + NAME_BYTES * MAX_WANTED + _TAG_BYTES


class Kind(IntEnum):
    WANT = 1
    STATE = 2
    DONE = 3
    CANCEL = 4
    HELLO = 5
    PART = 6


@dataclass(frozen=True, slots=True)
class Want:
    """Blocks by the first bytes of their names. `last`: nothing else is missing."""

    last: bool
    remaining: int  # bytes missing in all, also those of later lists
    names: tuple[bytes, ...]

    def encode(self) -> bytes:
        return _WANT.pack(self.last, self.remaining) + b"".join(self.names)

    @classmethod
    def parse(cls, body: bytes) -> Want | None:
        names = body[_WANT.size :]
        if len(body) < _WANT.size or len(names) % NAME_BYTES or body[0] > 1:
            return None
        cut = range(0, len(names), NAME_BYTES)
        last, remaining = _WANT.unpack_from(body)
        return cls(bool(last), remaining, tuple(names[i : i + NAME_BYTES] for i in cut))


@dataclass(frozen=True, slots=True)
class State:
    """What arrived. A snapshot: each says all there is to say, so a lost one costs nothing.

    Bit k of `seen`: the part numbered `top - 1 - k` came. All blocks before `base` are there;
    bit k of `there`: so is block `base + k`.
    """

    top: int
    seen: int
    base: int
    there: int

    def encode(self) -> bytes:
        there = self.there.to_bytes((self.there.bit_length() + 7) // 8, "big")
        return _STATE.pack(self.top, self.seen.to_bytes(SEEN // 8, "big"), self.base) + there

    @classmethod
    def parse(cls, body: bytes) -> State | None:
        if not _STATE.size <= len(body) <= _STATE.size + MAX_WANTED // 8:
            return None
        top, seen, base = _STATE.unpack_from(body)
        there = int.from_bytes(body[_STATE.size :], "big")
        return cls(top, int.from_bytes(seen, "big"), base, there)


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes of which block follow."""

    block: int
    offset: int
    length: int

    def encode(self) -> bytes:
        return _PART.pack(self.block, self.offset, self.length)

    @classmethod
    def parse(cls, body: bytes) -> Part:
        return cls(*_PART.unpack(body))


@dataclass(frozen=True, slots=True)
class Message:
    kind: Kind
    run: bytes
    number: int
    body: bytes
    data: memoryview  # of a PART


class Lock:
    """Closes and opens the messages of one shipment."""

    def __init__(self, transfer: str, secret: bytes = b"") -> None:
        self._transfer = bytes.fromhex(transfer)
        self._key = secret or sha256(bind("mqtt no secret", self._transfer))
        self.secret = bool(secret)

    def close(self, kind: Kind, run: bytes, number: int, body: bytes = b"") -> bytes:
        message = _HEAD.pack(kind, run, number) + body
        return message + self._tag(message)

    def open(self, data: bytes) -> Message | None:
        """None for whatever is not of this shipment: anyone may publish anything."""
        if len(data) < _HEAD.size + _TAG_BYTES or data[0] not in Kind.__members__.values():
            return None
        part = data[0] == Kind.PART
        end = HEAD_BYTES if part else len(data)
        if len(data) < end or (not part and end > MAX_CONTROL):
            return None
        head, tag = data[: end - _TAG_BYTES], data[end - _TAG_BYTES : end]
        if not equal(tag, self._tag(head)):
            return None
        kind, run, number = _HEAD.unpack_from(head)
        return Message(Kind(kind), run, number, head[_HEAD.size :], memoryview(data)[end:])

    def _tag(self, message: bytes) -> bytes:
        # HKDF-Expand with one block of output is HMAC-SHA-512 of its info: a MAC.
        return derive(self._key, "mqtt message", self._transfer, message, length=_TAG_BYTES)


def short(name: str) -> bytes:
    return bytes.fromhex(name)[:NAME_BYTES]
