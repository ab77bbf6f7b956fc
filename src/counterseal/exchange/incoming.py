"""A package that is arriving: blocks in any order, over any number of attempts (SPEC 11.3).

They are written where they belong in a hidden file beside the output. No bitmap says which are
there: a new attempt reads the file and compares digests, at 4 GiB/s, so that neither `kill -9`
nor a crash of the machine can leave a claim behind that the bytes do not keep. The file gets
its name when every block is there and the caller has verified the whole.

    [0, size)      the package; its front stays empty until the end
    [size, ...)    the encrypted front, cut off at the end
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from typing import TYPE_CHECKING, Final, Self

from counterseal.crypto.chunked import PREFIX_BYTES, sealed_bytes
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import DIGEST_BYTES, leaf_digest, sha256
from counterseal.errors import BadCiphertext, CountersealError, FormatError, TamperError
from counterseal.exchange.payload import pread_exactly
from counterseal.exchange.shipment import digests, front_message
from counterseal.exchange.whole import publish
from counterseal.trust.atomic import fsync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from counterseal.exchange.shipment import Notice

__all__ = ["Incoming"]

SUFFIX: Final = ".incoming"


class Incoming:
    """The blocks of one package at its receiver. Satisfies `BlockSink`; a context manager."""

    def __init__(self, notice: Notice, output: Path) -> None:
        """Continue what an earlier attempt left. Raises CountersealError while another one runs."""
        self.notice = notice
        self.output = output
        self._lock = threading.Lock()
        self._places: dict[str, list[tuple[int, int]]] = {}
        plan = notice.plan
        moved = [(notice.size + offset, length) for offset, length in plan.front]
        self._all = [*moved, *plan.blocks]
        for name, place in zip(notice.names(), self._all, strict=True):
            self._places.setdefault(name, []).append(place)
        self.path = _hidden(output, notice)
        self._descriptor = _open(self.path)
        try:
            self._missing = self._look()
        except BaseException:
            os.close(self._descriptor)
            raise
        self.kept = self.total - self._bytes(self._missing)

    @property
    def total(self) -> int:
        """Bytes of all blocks."""
        return sum(length for _, length in self._all)

    def missing(self) -> Sequence[str]:
        with self._lock:
            return list(self._missing)

    def size(self, name: str) -> int:
        return self._places[name][0][1]

    def put(self, name: str, data: bytes) -> None:
        places = self._places.get(name)
        if places is None or len(data) != places[0][1] or leaf_digest(data).hex() != name:
            raise BadCiphertext("a block of this shipment was changed on the way")
        with _full_disk(self.path):
            for offset, length in places:
                if os.pwrite(self._descriptor, data, offset) != length:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self._lock:
            self._missing.pop(name, None)

    def finish(self, verify: Callable[[int], object]) -> Path:
        """Put the front in place, let the caller `verify` the whole, and give it its name.

        If `verify` raises, nothing appears. After a TamperError or FormatError what arrived is
        thrown away: every block was what the sender listed, fetching again would bring the same.
        """
        if self._missing:
            raise RuntimeError("there are blocks missing")
        size = self.notice.size
        sealed = bytearray(sealed_bytes(self.notice.body))
        pread_exactly(self._descriptor, memoryview(sealed), size)
        prefix = bytes(sealed[:PREFIX_BYTES])
        try:
            message = front_message(self.notice.key, self.notice.body, prefix=prefix)
            front = message.open_whole(bytes(sealed))
            with _full_disk(self.path):
                os.pwrite(self._descriptor, front, 0)
            os.ftruncate(self._descriptor, size)
            verify(self._descriptor)
        except (TamperError, FormatError):
            self.discard()
            raise
        os.fsync(self._descriptor)
        publish(self.path, self.output, replace=False)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        fsync_folder(self.output.parent)
        return self.output

    def discard(self) -> None:
        """Throw away what arrived."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """What arrived stays for the next attempt."""
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

    def _look(self) -> dict[str, None]:
        """The names whose bytes are not there, in order, each once."""
        end = self.notice.size + sealed_bytes(self.notice.body)
        length = os.fstat(self._descriptor).st_size
        names = dict.fromkeys(self.notice.names())
        if length == 0:
            try:
                with _full_disk(self.path):
                    os.posix_fallocate(self._descriptor, 0, end)  # a full disk shows itself now
            except BaseException:
                self.discard()
                raise
            return names
        if length < end:
            os.ftruncate(self._descriptor, end)
        found = digests(self._descriptor, self._all)
        there: set[str] = set()
        wrong: set[str] = set()
        for index, name in enumerate(self.notice.names()):
            digest = found[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES].hex()
            (there if digest == name else wrong).add(name)
        return {name: None for name in names if name in wrong or name not in there}

    def _bytes(self, names: Sequence[str] | dict[str, None]) -> int:
        return sum(length for name in names for _, length in self._places[name])


def _hidden(output: Path, notice: Notice) -> Path:
    """Named by the blocks, so that a second letter about the same package continues the first."""
    digest = sha256(bind("incoming", notice.blocks)).hex()[:16]
    stem = output.name.encode()[:200].decode(errors="ignore")
    return output.with_name(f".{stem}.{digest}{SUFFIX}")


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CountersealError(
            f"another command is receiving {path.name} just now", hint="wait for it to end"
        ) from None
    return descriptor


class _full_disk(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads like a verb
    """A full disk ends an attempt; what arrived stays, and the next attempt continues."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise CountersealError(
                f"no space left in {self._path.parent} for {self._path.name}",
                hint="free some space and receive again: what arrived is kept",
            ) from error
