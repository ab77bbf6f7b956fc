"""Letters and blocks in a folder: a share that both sides see, or a stick that is carried.

Others may write here. Names are followed one folder at a time and never through a link, and
what is no plain file is not there: else a link in the place of a box would let the folder's
owner choose where on our machine we write.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from typing import TYPE_CHECKING, Final

from counterseal.errors import CountersealError, Dropped, FormatError
from counterseal.exchange.transports.objects import ObjectTransport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["FolderObjects", "FolderTransport"]

LEFT_SECONDS: Final = 86_400.0  # what a killed writer left is a day old; nobody writes so long
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INNER: Final = _FOLDER | os.O_NOFOLLOW
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class FolderObjects:
    """Named bytes as files. Satisfies `Objects`."""

    parallel = 4  # a block is synced while the next ones are read and written

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: str, data: bytes) -> None:
        with _reaching(self._root), self._parent(name, create=True) as (parent, last):
            temporary = f".{secrets.token_hex(8)}.part"
            descriptor = os.open(temporary, _WRITE, 0o644, dir_fd=parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, last, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            with contextlib.suppress(OSError):  # some network shares cannot
                os.fsync(parent)

    def get(self, name: str, *, limit: int) -> bytes | None:
        with _reaching(self._root, absent=True), self._parent(name) as (parent, last):
            descriptor = _open(last, parent)
            try:
                size = os.fstat(descriptor).st_size
                if size > limit:
                    raise FormatError(f"{self._root / name} is longer than it may be")
                return _read(descriptor, size)
            finally:
                os.close(descriptor)
        return None

    def names(self, folder: str) -> Iterable[str]:
        with _reaching(self._root, absent=True), self._parent(f"{folder}/.") as (parent, _):
            with os.scandir(parent) as entries:
                files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
            for entry in files:
                if entry.name.startswith(".") and entry.name.endswith(".part"):
                    _remove_left(entry, parent)
            return [entry.name for entry in files if not entry.name.startswith(".")]
        return []

    def delete(self, name: str) -> None:
        with _reaching(self._root, absent=True), self._parent(name) as (parent, last):
            os.unlink(last, dir_fd=parent)

    @contextlib.contextmanager
    def _parent(self, name: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """The folder that `name` is in, and its last part."""
        *folders, last = name.split("/")
        try:
            at = os.open(self._root, _FOLDER)  # never made: a stick that was pulled stays away
        except OSError as error:
            raise _dropped(self._root, error) from error
        try:
            mode = stat.S_IMODE(os.fstat(at).st_mode) & ~stat.S_ISVTX
            for folder in folders:
                inner = _enter(folder, at, mode if create else None)
                os.close(at)
                at = inner
            yield at, last
        finally:
            os.close(at)


class FolderTransport(ObjectTransport):
    """`root` must exist: a missing one is most often a stick that is not mounted."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise CountersealError(
                f"there is no folder {root}", hint="create or mount it, then try again"
            )
        super().__init__(FolderObjects(root))


def _enter(folder: str, at: int, create_with: int | None) -> int:
    """Open a folder, made with the rights of the root: the partner may be another user here."""
    try:
        return os.open(folder, _INNER, dir_fd=at)
    except FileNotFoundError:
        if create_with is None:
            raise
    made = True
    try:
        os.mkdir(folder, dir_fd=at)
    except FileExistsError:  # somebody else was quicker
        made = False
    inner = os.open(folder, _INNER, dir_fd=at)
    if made:
        with contextlib.suppress(OSError):  # a file system without rights
            os.fchmod(inner, create_with)
    return inner


def _open(name: str, parent: int) -> int:
    """A plain file to read from; FileNotFoundError for a link, a pipe or a folder."""
    try:
        descriptor = os.open(name, _READ, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise FileNotFoundError from error
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError


def _read(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size)  # whole at once, but for signals and network shares
    while len(data) < size:
        piece = os.read(descriptor, size - len(data))
        if not piece:
            break
        data += piece
    return data


def _remove_left(entry: os.DirEntry[str], parent: int) -> None:
    with contextlib.suppress(OSError):
        if time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFT_SECONDS:
            os.unlink(entry.name, dir_fd=parent)


class _reaching(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads like a verb
    """Says what went wrong. `absent`: it is all right if there is no such thing."""

    def __init__(self, root: Path, *, absent: bool = False) -> None:
        self._root, self._absent = root, absent

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if self._absent and isinstance(error, FileNotFoundError):
            return True
        if isinstance(error, OSError):
            raise _dropped(self._root, error) from error
        return False


def _dropped(root: Path, error: OSError) -> Dropped:
    return Dropped(f"cannot use the folder {root}: {error.strerror}", hint="is it still there?")
