"""A package on its way: a front that nobody between may see, and blocks named by their digest.

    package     front (header and stanzas)       body (ciphertext already)
    travels as  encrypted under a fresh key,     cut into blocks of 1 MiB
                then cut into blocks

The header names the sender, so the front is encrypted once more; the body needs nothing. The
notice, a letter, holds the key and lists the blocks by BLAKE3-256: they can come in any order,
from any store, twice, or in another session, and a wrong one is recognized at once (SPEC 13).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.crypto.chunked import ChunkedMessage, sealed_bytes
from counterseal.crypto.derive import KEY_BYTES, bind, derive
from counterseal.crypto.digest import DIGEST_BYTES, LEAF_BYTES, leaf_digest, leaf_stream
from counterseal.errors import FormatError, TamperError
from counterseal.exchange import layout, workers
from counterseal.exchange.payload import pread_exactly
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import PrivateMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from counterseal.exchange.reader import Front
    from counterseal.exchange.workers import Scratch

__all__ = ["Notice", "Outgoing", "Plan", "file_name", "front_message"]

BLOCK_BYTES: Final = LEAF_BYTES
MAX_BLOCKS: Final = 32_768
LARGE: Final = 256 * limits.MIB
MAX_SIZE: Final = 1 << 43  # 4 TiB of model and all that is added to it
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"

FileName = Annotated[str, msgspec.Meta(pattern=_NAME, max_length=128)]
Hex16 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]


class Notice(PrivateMessage, frozen=True):
    """The body of a shipment's letter. `front` and `blocks` are 32-byte digests in a row.

    `body` is where the body starts: as many bytes of front were encrypted under `key`.
    """

    kind: Literal["shipment"]
    format: Literal[1]
    file: FileName
    package: Hex16
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIZE)]
    body: Annotated[int, msgspec.Meta(ge=1, le=layout.MAX_BODY)]
    block_bytes: Annotated[int, msgspec.Meta(ge=BLOCK_BYTES)]
    key: bytes
    front: bytes
    blocks: bytes

    @classmethod
    def parse(cls, data: bytes) -> Notice:
        notice = canonical.decode(data, cls, limit=limits.LETTER_BYTES, what="notice of a shipment")
        if len(notice.key) != KEY_BYTES or notice.body >= notice.size:
            raise FormatError("a notice contradicts itself")
        # A block is held in memory: how long one is, is not for a sender to choose.
        if notice.block_bytes != block_bytes_for(notice.size):
            raise FormatError("a notice has blocks of another length than its size asks for")
        plan = notice.plan
        if len(notice.front) != DIGEST_BYTES * len(plan.front) or (
            len(notice.blocks) != DIGEST_BYTES * len(plan.blocks)
        ):
            raise FormatError("a notice does not list all its blocks")
        lengths: dict[str, int] = {}
        for name, (_, length) in zip(notice.names(), notice.places(), strict=True):
            if lengths.setdefault(name, length) != length:
                raise FormatError("a notice contradicts itself: one block, two lengths")
        return notice

    @property
    def plan(self) -> Plan:
        return Plan.of(body=self.body, size=self.size, block_bytes=self.block_bytes)

    @property
    def secret(self) -> bytes:
        """Only sender and receiver have it: a transport may authenticate its messages with it."""
        return derive(self.key, "transfer")

    def names(self) -> list[str]:
        """Of all blocks, the front's first."""
        both = self.front + self.blocks
        return [both[i : i + DIGEST_BYTES].hex() for i in range(0, len(both), DIGEST_BYTES)]

    def places(self) -> list[tuple[int, int]]:
        """(offset, length) of all blocks while it arrives: the encrypted front after the rest."""
        plan = self.plan
        moved = [(self.size + offset, length) for offset, length in plan.front]
        return [*moved, *plan.blocks]


@dataclass(frozen=True, slots=True)
class Plan:
    """(offset, length) of each block: of the encrypted front, and of the body in the package."""

    front: tuple[tuple[int, int], ...]
    blocks: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, *, body: int, size: int, block_bytes: int) -> Plan:
        front = _cut(0, sealed_bytes(body), block_bytes)
        blocks = _cut(body, size, block_bytes)
        if len(front) + len(blocks) > MAX_BLOCKS:
            raise FormatError(f"a shipment of more than {MAX_BLOCKS} blocks")
        return cls(front, blocks)


def _cut(start: int, end: int, length: int) -> tuple[tuple[int, int], ...]:
    if (end - start) // length > MAX_BLOCKS:  # a notice must not choose how much memory we take
        raise FormatError(f"a shipment of more than {MAX_BLOCKS} blocks")
    return tuple((at, min(length, end - at)) for at in range(start, end, length))


def block_bytes_for(size: int) -> int:
    """1 MiB; 2 MiB from 256 MiB on: each block costs every carrier the same work once more.

    Doubled until the notice stays small, from 32 GiB on.
    """
    length = BLOCK_BYTES if size < LARGE else 2 * BLOCK_BYTES
    while size // length > MAX_BLOCKS // 2:
        length *= 2
    return length


def file_name(path: Path) -> str:
    """The name to propose for a package: what every file system takes, at most 128 characters."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", path.name)[-128:].lstrip("._-")
    return plain or "package.sealed"


def front_message(key: bytes, size: int, *, prefix: bytes | None = None) -> ChunkedMessage:
    context = bind("shipment front")
    if prefix is None:
        return ChunkedMessage(key, context=context, size=size)
    return ChunkedMessage.opened(key, context=context, size=size, prefix=prefix)


class Outgoing:
    """The blocks of one package, read where it lies. Satisfies `BlockSource`."""

    def __init__(
        self,
        path: Path,
        descriptor: int,
        notice: Notice,
        *,
        plain_front: bytes,
        sealed_front: bytes,
    ) -> None:
        self.notice = notice
        self.path = path
        self.plain_front = plain_front
        self.sealed_front = sealed_front
        self._descriptor = descriptor
        self.names: Sequence[str] = notice.names()
        plan = notice.plan
        self._front = dict(zip(self.names, plan.front, strict=False))
        body = zip(self.names[len(plan.front) :], plan.blocks, strict=True)
        self._body = dict(body)

    def size(self, name: str) -> int:
        return self._place(name)[1]

    @property
    def secret(self) -> bytes:
        return self.notice.secret

    @property
    def total(self) -> int:
        """Bytes of all blocks."""
        return len(self.sealed_front) + self.notice.size - self.notice.body

    def read(self, name: str) -> bytes:
        data = bytearray(self.size(name))
        self.fill(name, memoryview(data))
        # Not by the file's time: a write of the same tick, or through a mapping, keeps that.
        if leaf_digest(data).hex() != name:
            raise self._changed()
        return bytes(data)

    def fill(self, name: str, view: memoryview) -> None:
        if name in self._front:
            offset, length = self._front[name]
            view[:] = self.sealed_front[offset : offset + length]
            return
        offset, _ = self._body[name]
        while view:
            count = os.preadv(self._descriptor, [view], offset)
            if not count:
                raise self._changed()
            view, offset = view[count:], offset + count

    def _changed(self) -> TamperError:
        return TamperError(f"{self.path} changed while it was being sent", hint="send it again")

    def _place(self, name: str) -> tuple[int, int]:
        return self._front[name] if name in self._front else self._body[name]

    @classmethod
    def of(
        cls,
        path: Path,
        descriptor: int,
        *,
        front: Front,
        progress: Callable[[int, int], None] | None = None,
    ) -> Outgoing:
        """List a package's blocks under a new front key. The descriptor stays the caller's.

        `front` was verified, and is what travels: in the file it may be half written, with the
        whole of it in the journal of a change that was interrupted.
        """
        plain = _front_bytes(front)
        body, size = len(plain), front.header.size
        block_bytes = block_bytes_for(size)
        plan = Plan.of(body=body, size=size, block_bytes=block_bytes)
        key = os.urandom(KEY_BYTES)
        sealed = front_message(key, body).seal_whole(plain)
        notice = Notice(
            kind="shipment",
            format=1,
            file=file_name(path),
            package=front.header.core.package,
            size=size,
            body=body,
            block_bytes=block_bytes,
            key=key,
            front=b"".join(leaf_digest(sealed[a : a + n]) for a, n in plan.front),
            blocks=digests(descriptor, plan.blocks, progress=progress),
        )
        return cls(path, descriptor, notice, plain_front=plain, sealed_front=sealed)

    def with_front(self, notice: Notice, sealed_front: bytes) -> Outgoing:
        """The same package under the notice of an earlier attempt."""
        return Outgoing(
            self.path,
            self._descriptor,
            notice,
            plain_front=self.plain_front,
            sealed_front=sealed_front,
        )


def digests(
    descriptor: int,
    places: Sequence[tuple[int, int]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> bytes:
    """The BLAKE3-256 of each place of a file, in a row; on all cores."""
    results = [b""] * len(places)

    def task(index: int) -> Callable[[Scratch], int]:
        offset, length = places[index]

        def work(scratch: Scratch) -> int:
            stream = leaf_stream()
            for at in range(offset, offset + length, LEAF_BYTES):
                piece = scratch.plain[: min(LEAF_BYTES, offset + length - at)]
                pread_exactly(descriptor, piece, at)
                stream.update(piece)
            results[index] = stream.digest()
            return length

        return work

    total = sum(length for _, length in places)
    workers.run(map(task, range(len(places))), total=total, count=len(places), progress=progress)
    return b"".join(results)


def _front_bytes(front: Front) -> bytes:
    """All that stands before the body: there is one encoding of everything in it."""
    text = canonical.encode(front.envelope)
    written = layout.fixed(front.lengths) + text + front.stanzas
    return written + bytes(front.header.body - len(written))
