"""The hidden file that a package arrives in, in a folder where others may write too (SPEC 11.3)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from counterseal.exchange.shipment import Notice

__all__ = ["open_alone", "path_of", "sweep"]

ABANDONED: Final = timedelta(days=31)  # the letter has ended by then
_HIDDEN: Final = re.compile(r"\.[0-9a-f]{32}\.incoming")
_ATTEMPTS: Final = 8


def path_of(folder: Path, notice: Notice, *, sender: str) -> Path:
    """Named by the blocks, so that a second letter about the same package continues the first;
    and by the sender, so that no other partner can spoil what has arrived of it.
    """
    parts = bytes.fromhex(sender), bytes.fromhex(notice.package), notice.blocks
    return folder / f".{sha256(bind('incoming', *parts))[:16].hex()}.incoming"


def open_alone(path: Path) -> int:
    """The hidden file, ours alone. Others may be able to write in the folder."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(_ATTEMPTS):
        try:
            _clear(path)
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise CountersealError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise CountersealError(
                f"another command is receiving this package in {path.parent} just now",
                hint="wait for it to end",
            ) from None
        except OSError:
            pass  # a file system without locks
        if _is_there(descriptor, path):
            return descriptor
        os.close(descriptor)
    raise CountersealError(f"{path} changes all the time", hint="who else works in this folder?")


def _clear(path: Path) -> None:
    """Take away what is not a file of one name: a planted link, or one that was published.

    Written through its second name, a package that already has its own would be destroyed.
    """
    with contextlib.suppress(FileNotFoundError):
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            path.unlink()


def _is_there(descriptor: int, path: Path) -> bool:
    """False if who held the lock before us published or removed it in the meantime."""
    facts = os.fstat(descriptor)
    try:
        return os.path.samestat(facts, path.lstat()) and facts.st_nlink == 1
    except FileNotFoundError:
        return False


def sweep(folder: Path, *, at: datetime) -> None:
    """Remove what nobody has continued for a month, and the other name of what has its own."""
    for path in folder.iterdir():
        if not _HIDDEN.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):
            facts = path.lstat()
            old = at.timestamp() - facts.st_mtime > ABANDONED.total_seconds()
            if stat.S_ISREG(facts.st_mode) and (old or facts.st_nlink > 1):
                _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)
