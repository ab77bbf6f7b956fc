"""Outputs that appear only when they are whole: another name, fsync, rename; gone on error.

After `kill -9` there is the old state or the new one. What may be left is a hidden
`.NAME.*.part` beside it, which the next run with the same output removes: a running one
holds a lock on its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from counterseal.crypto.digest import sha256
from counterseal.errors import CountersealError
from counterseal.trust.atomic import fsync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["publish", "whole_file", "whole_folder"]

MAX_STEM: Final = 255 - len("..000000000000.part")  # file systems end names at 255 bytes


@contextlib.contextmanager
def whole_file(output: Path, *, mode: int = 0o644, replace: bool = False) -> Iterator[int]:
    """Yield a descriptor to write to; `output` appears when the block ends without error.

    Raises FileExistsError, before anything is written, if `output` exists and not `replace`.
    """
    _check_target(output, replace=replace)
    _sweep(output)
    temporary = _temporary(output)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
        os.fsync(descriptor)
        publish(temporary, output, replace=replace)
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    fsync_folder(output.parent)


@contextlib.contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """Yield a folder to fill; it becomes `output` when the block ends without error.

    `output` must not exist, or be an empty folder.
    """
    if output.is_dir() and not output.is_symlink() and not any(output.iterdir()):
        pass
    else:
        _check_target(output, replace=False)
    _sweep(output)
    temporary = _temporary(output)
    temporary.mkdir(mode=0o755)
    lock = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield temporary
        for folder, _, _ in os.walk(temporary):
            fsync_folder(Path(folder))
        temporary.rename(output)  # replaces an empty folder, fails on anything else
    finally:
        os.close(lock)
        shutil.rmtree(temporary, ignore_errors=True)
    fsync_folder(output.parent)


def _check_target(output: Path, *, replace: bool) -> None:
    if not output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {output.parent}")
    if os.path.lexists(output) and (not replace or output.is_dir()):
        raise FileExistsError(f"{output} exists")


def publish(temporary: Path, output: Path, *, replace: bool) -> None:
    if replace:
        temporary.replace(output)
        return
    try:
        os.link(temporary, output)  # unlike rename, link never replaces
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(output):
            raise FileExistsError(f"{output} exists") from None
        temporary.rename(output)


def _temporary(output: Path) -> Path:
    return output.with_name(f".{_stem(output)}.{secrets.token_hex(6)}.part")


def _stem(output: Path) -> str:
    """The output's name, or a digest of one that leaves no room for what is added to it."""
    encoded = os.fsencode(output.name)
    return output.name if len(encoded) <= MAX_STEM else sha256(encoded).hex()


def _sweep(output: Path) -> None:
    """Remove what a killed run left behind."""
    prefix, suffix = f".{_stem(output)}.", ".part"
    for entry in os.scandir(output.parent):
        middle = entry.name[len(prefix) : -len(suffix)]
        if (
            not entry.name.startswith(prefix)
            or not entry.name.endswith(suffix)
            or len(middle) != 12
            or entry.is_symlink()
        ):
            continue
        with contextlib.suppress(OSError, CountersealError):
            _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: still in use
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)
