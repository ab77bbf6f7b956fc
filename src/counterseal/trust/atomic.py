"""Small files: read with a bound, written whole or not at all; secrets from private files only."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import TYPE_CHECKING

from counterseal.errors import CountersealError, FormatError, TrustError
from counterseal.wire import limits

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["fsync_folder", "read_bounded", "read_secret", "write_whole"]


def read_bounded(path: Path, limit: int, *, what: str) -> bytes:
    """Read a whole file of at most `limit` bytes; more is a FormatError before it is read."""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FormatError(f"{path}: the {what} is longer than {limit} bytes")
    return data


def read_secret(path: Path, *, what: str, limit: int = limits.PASSPHRASE_FILE_BYTES) -> bytes:
    """A passphrase, password or session: what the file holds, without the end of its line.

    Raises TrustError if others can read the file; a pipe is whoever made it's business.
    """
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        if stat.S_ISREG(facts.st_mode) and stat.S_IMODE(facts.st_mode) & 0o077:
            raise TrustError(f"{path} can be read by others", hint=f"chmod 600 {path}")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FormatError(f"{path}: the {what} is longer than {limit} bytes")
    secret = data.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise CountersealError(f"the {what} {path} is empty")
    return secret


def write_whole(path: Path, data: bytes, *, mode: int = 0o644, replace: bool = True) -> None:
    """Write under another name, make it durable, then rename: no reader sees a half.

    With `replace=False` an existing file raises FileExistsError and stays as it is.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
