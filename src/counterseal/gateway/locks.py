"""Locks on a file that end with the process that holds them, however it ends.

`Lock` is of all threads and processes, for a moment. `claim` is for as long as a process lives:
a number that nobody else has, and that others can ask after.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import threading
from typing import TYPE_CHECKING, Final

from counterseal.errors import TrustError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["Lock", "claim", "is_claimed", "open_private"]

_LIVES: Final = 1 << 40  # where the numbers are: beyond the end of the file
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of Linux


class Lock:
    """Of all threads and processes. It ends with the process that holds it."""

    __slots__ = ("_descriptor", "_guard", "_pid")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._guard = threading.Lock()
        self._pid = os.getpid()

    def __enter__(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("opened before a fork: the two would share one lock")
        self._guard.acquire()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._guard.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._guard.release()


def claim(descriptor: int, number: int) -> bool:
    """Be this number until the descriptor is closed, by whatever end of the process.

    A lock of the open file, not of the process: closing another descriptor does not drop it.
    """
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _LIVES + number, 1, 0)
    with contextlib.suppress(BlockingIOError, PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
        return True
    return False


def is_claimed(descriptor: int, number: int) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _LIVES + number, 1, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def open_private(path: Path, flags: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    facts = os.fstat(descriptor)
    if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        os.close(descriptor)
        raise TrustError(f"{path} can be written by others", hint=f"chmod 600 {path}")
    return descriptor
