"""Letters and blocks in a folder: a share that both sides see, or a stick that is carried."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from counterseal.errors import CountersealError, FormatError
from counterseal.exchange.transports.objects import ObjectTransport
from counterseal.trust.atomic import fsync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["FolderObjects", "FolderTransport"]


class FolderObjects:
    """Named bytes as files. Satisfies `Objects`. Others may write here: links are not followed."""

    parallel = 1

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: str, data: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        fsync_folder(path.parent)

    def get(self, name: str, *, limit: int) -> bytes | None:
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(self._root / name, flags)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise FormatError(f"{self._root / name} is longer than it may be")
        return data

    def names(self, folder: str) -> Iterable[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return [
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return []

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._root / name).unlink()


class FolderTransport(ObjectTransport):
    """`root` must exist: a missing one is most often a stick that is not mounted."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise CountersealError(
                f"there is no folder {root}", hint="create or mount it, then try again"
            )
        super().__init__(FolderObjects(root))
