"""A package that is arriving: blocks in any order, over any number of attempts (SPEC 13.3).

They are written where they belong in a `hidden` file beside the output. No bitmap says which are
there: a new attempt reads the file and compares digests, at 4 GiB/s, so that neither `kill -9`
nor a crash of the machine can leave a claim behind that the bytes do not keep. The file gets
its name when every block is there and the caller has verified the whole.

    [0, size)      the package; its front stays empty until the end
    [size, ...)    the encrypted front, cut off at the end
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING, Self

from counterseal.crypto.chunked import PREFIX_BYTES, leaf_count, sealed_bytes
from counterseal.crypto.digest import DIGEST_BYTES, leaf_digest
from counterseal.errors import (
    BadCiphertext,
    CountersealError,
    FormatError,
    TamperError,
    UnknownVersion,
)
from counterseal.exchange import hidden, workers
from counterseal.exchange.letter import Ended
from counterseal.exchange.payload import pread_exactly, pwrite_all
from counterseal.exchange.shipment import digests, front_message
from counterseal.exchange.whole import publish
from counterseal.trust.atomic import fsync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from counterseal.exchange.shipment import Notice

__all__ = ["Incoming"]


class Incoming:
    """The blocks of one package at its receiver. Satisfies `BlockSink`; a context manager."""

    def __init__(self, notice: Notice, output: Path, *, sender: str) -> None:
        """Continue what an earlier attempt left. `sender`: the identity whose notice it is.

        Raises CountersealError while another attempt runs, or if there is no room.
        """
        self.notice = notice
        self.output = output
        self._lock = threading.Lock()
        self._places: dict[str, list[tuple[int, int]]] = {}
        self._all = notice.places()
        for name, place in zip(notice.names(), self._all, strict=True):
            self._places.setdefault(name, []).append(place)
        self.path = hidden.path_of(output.parent, notice, sender=sender)
        self._descriptor = hidden.open_alone(self.path)
        try:
            self._missing = self._look()
        except BaseException:
            if not os.fstat(self._descriptor).st_size:
                self.discard()
            os.close(self._descriptor)
            raise
        self.kept = self.total - self._bytes(self._missing)

    @property
    def secret(self) -> bytes:
        return self.notice.secret

    @property
    def total(self) -> int:
        """Bytes of all blocks."""
        return sum(length for _, length in self._all)

    def missing(self) -> Sequence[str]:
        with self._lock:
            return list(self._missing)

    def size(self, name: str) -> int:
        return self._places[name][0][1]

    def put(self, name: str, data: bytes | memoryview) -> None:
        places = self._places.get(name)
        if places is None or len(data) != places[0][1] or leaf_digest(data).hex() != name:
            raise BadCiphertext("a block of this shipment was changed on the way")
        with _full_disk(self.path):
            for offset, _ in places:
                pwrite_all(self._descriptor, memoryview(data), offset)
        with self._lock:
            self._missing.pop(name, None)

    def finish(self, verify: Callable[[int], object]) -> Path:
        """Put the front in place, let the caller `verify` the whole, and give it its name.

        If `verify` raises, nothing appears. After a TamperError, FormatError or Ended what
        arrived is thrown away: every block was what the sender listed, fetching again would
        bring the same.
        """
        if self._missing:
            raise RuntimeError("there are blocks missing")
        try:
            self._open_front()
            os.ftruncate(self._descriptor, self.notice.size)
            verify(self._descriptor)
        except UnknownVersion:
            raise  # good after an upgrade
        except (TamperError, FormatError, Ended):
            self.discard()
            raise
        with _full_disk(self.path):
            os.fsync(self._descriptor)
        try:
            publish(self.path, self.output, replace=False)
        except FileExistsError:
            raise _appeared(self.output) from None
        self.discard()
        fsync_folder(self.output.parent)
        return self.output

    def discard(self) -> None:
        """Throw away what arrived."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """What arrived stays for the next attempt."""
        if len(self._missing) == len(self._places):
            self.discard()  # nothing came: a promise alone leaves no trace here
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open_front(self) -> None:
        """Leaf by leaf: a front for thousands of recipients is not held in memory."""
        start, body = self.notice.size, self.notice.body
        prefix = bytearray(PREFIX_BYTES)
        pread_exactly(self._descriptor, memoryview(prefix), start)
        message = front_message(self.notice.key, body, prefix=bytes(prefix))
        scratch = workers.borrow()
        for leaf in range(leaf_count(body)):
            at, length, sealed_at, sealed_length = message.leaf_range(leaf)
            plain, sealed = scratch.plain[:length], scratch.sealed[:sealed_length]
            pread_exactly(self._descriptor, sealed, start + sealed_at)
            message.open_leaf(leaf, sealed, plain)
            with _full_disk(self.path):
                pwrite_all(self._descriptor, plain, at)
        workers.give_back(scratch)

    def _look(self) -> dict[str, None]:
        """The names whose bytes are not there, in order, each once."""
        if os.path.lexists(self.output):
            raise _appeared(self.output)
        end = self.notice.size + sealed_bytes(self.notice.body)
        facts = os.fstat(self._descriptor)
        self._check_room(end - facts.st_blocks * 512)
        if facts.st_size < end:
            with _full_disk(self.path):
                os.ftruncate(self._descriptor, end)
        names = dict.fromkeys(self.notice.names())
        if facts.st_size == 0:
            return names
        found = digests(self._descriptor, self._all)
        there: set[str] = set()
        wrong: set[str] = set()
        for index, name in enumerate(self.notice.names()):
            digest = found[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES].hex()
            (there if digest == name else wrong).add(name)
        return {name: None for name in names if name in wrong or name not in there}

    def _check_room(self, wanted: int) -> None:
        """Said before the first block, not after the last. Room is looked for, never reserved:
        else a partner could fill our disk with a letter.
        """
        facts = os.fstatvfs(self._descriptor)
        if facts.f_blocks and wanted > facts.f_bavail * facts.f_frsize:
            raise _no_room(self.path, os.strerror(errno.ENOSPC))

    def _bytes(self, names: Sequence[str] | dict[str, None]) -> int:
        return sum(length for name in names for _, length in self._places[name])


def _appeared(output: Path) -> CountersealError:
    return CountersealError(
        f"{output} appeared in the meantime", hint="receive again: what arrived is kept"
    )


def _no_room(path: Path, reason: str) -> CountersealError:
    return CountersealError(
        f"there is no room in {path.parent} for this package: {reason}",
        hint="free some space and receive again: what arrived is kept",
    )


class _full_disk(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads like a verb
    """A full disk ends an attempt; what arrived stays, and the next attempt continues."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in {
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
        }:
            raise _no_room(self._path, os.strerror(error.errno)) from error
