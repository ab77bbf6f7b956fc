"""Blocks as files, each in the folder of who brought it (SPEC 14.3.4).

    blocks/CLIENT/XX/NAME     whole and verified, or not there
    uploads/CLIENT/...        on its way in (`uploads`)

A client's folder is its own: what it is told is missing depends on what it brought itself and
on nothing else, or the answer would tell it what others exchange. Two who bring the same block
store it twice. A block lives as long as a letter of its bringer names it; one that no letter
names, for `orphan_life`.

No block is synced when it arrives: a letter's are, together, before it becomes visible. What
an earlier run of the mailbox left unnamed is hashed again then, because a crash of the machine
may have kept the name and lost the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from counterseal.errors import QuotaExceeded
from counterseal.exchange.transports.https.problems import StatusError
from counterseal.exchange.transports.https.uploads import Upload, file_is
from counterseal.trust.atomic import fsync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from counterseal.exchange.transports.https.limits import Limits

__all__ = ["Blocks"]

SYNC_THREADS: Final = 8  # a journal commits for many waiting files at once


class Blocks:
    """Safe to call from several threads; only one process may have the folder."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._blocks = root / "blocks"
        self._uploads = root / "uploads"
        self._limits = limits
        self._lock = threading.Lock()
        self._held: Counter[tuple[str, str]] = Counter()
        self._fresh: set[tuple[str, str]] = set()  # verified in this run, not synced yet
        self._used: Counter[str] = Counter()
        self._folders: set[str] = set()  # clients whose folder for uploads is there
        self._open: dict[tuple[str, str], Upload] = {}
        self._blocks.mkdir(exist_ok=True)
        self._uploads.mkdir(exist_ok=True)
        fsync_folder(root)
        self._look()

    def _look(self) -> None:
        for client, path in _files(self._blocks):
            self._used[client] += path.stat().st_size
        for client, path in _files(self._uploads):
            upload = Upload(path, client=client, offset=path.stat().st_size)
            self._open[client, upload.id] = upload
            self._used[client] += upload.length

    def used(self, client: str) -> int:
        """Bytes stored or announced."""
        return self._used[client]

    def path(self, client: str, name: str) -> Path:
        return Path(self._place(client, name))

    def _place(self, client: str, name: str) -> str:
        return f"{self._blocks}/{client}/{name[:2]}/{name}"

    def size(self, client: str, name: str) -> int | None:
        try:
            # Not a Path: this is asked for every block of a shipment, and twice.
            return os.stat(self._place(client, name)).st_size  # noqa: PTH116
        except FileNotFoundError:
            return None

    def missing(self, client: str, names: Iterable[str]) -> tuple[list[str], list[Upload]]:
        """Which are not here, in order, and for which of them there is a beginning."""
        absent = [name for name in dict.fromkeys(names) if self.size(client, name) is None]
        wanted = set(absent)
        best: dict[str, Upload] = {}
        for (owner, _), upload in list(self._open.items()):
            if owner != client or upload.name not in wanted or upload.busy or not upload.offset:
                continue
            if upload.name not in best or best[upload.name].offset < upload.offset:
                best[upload.name] = upload
        return absent, list(best.values())

    # ------------------------------------------------------------------ in

    def begin(self, client: str, name: str, length: int, *, promised: bytes | None) -> Upload:
        """Announce a block. Raises QuotaExceeded, or OSError(ENOSPC) before a byte is taken."""
        with self._lock:
            if self._used[client] + length > self._limits.stored_bytes:
                raise QuotaExceeded(
                    "what you may store here is used up",
                    hint="wait until your partners have fetched what lies here",
                )
            if sum(owner == client for owner, _ in self._open) >= self._limits.uploads:
                raise QuotaExceeded("too many unfinished uploads", hint="continue or cancel some")
            space = os.statvfs(self._uploads)
            if space.f_bavail * space.f_frsize < length + self._limits.spare_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            identifier = secrets.token_hex(16)
            if client not in self._folders:
                (self._uploads / client).mkdir(exist_ok=True)
                self._folders.add(client)
            file = Upload.file_name(identifier, name, length, promised)
            upload = Upload(self._uploads.joinpath(client, file), client=client)
            self._open[client, identifier] = upload
            self._used[client] += length
        return upload

    def upload(self, client: str, identifier: str) -> Upload | None:
        return self._open.get((client, identifier))

    def finish(self, upload: Upload) -> None:
        """Give a verified block its name."""
        target = self.path(upload.client, upload.name)
        with self._lock:
            if self._open.pop((upload.client, upload.id), None) is None:
                raise StatusError("this upload was canceled", 404)
            upload.ended = True
            if target.exists():
                self._used[upload.client] -= upload.length
            try:
                upload.path.rename(target)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                upload.path.rename(target)
            self._fresh.add((upload.client, upload.name))
        others = [o for (c, _), o in list(self._open.items()) if c == upload.client]
        for other in others:
            if other.name == upload.name and not other.busy:
                self.cancel(other)

    def cancel(self, upload: Upload) -> None:
        with self._lock:
            if self._open.pop((upload.client, upload.id), None) is not None:
                upload.ended = True
                self._used[upload.client] -= upload.length
                with contextlib.suppress(FileNotFoundError):
                    upload.path.unlink()

    # ------------------------------------------------------------------ letters

    @contextlib.contextmanager
    def held(
        self, client: str, names: Sequence[str], *, named: Callable[[str], bool]
    ) -> Iterator[None]:
        """Inside, these blocks are here, durable, and stay. Raises StatusError (409) if not.

        `named` tells whether another letter of the client names a block: then its name is durable.
        """
        keys = [(client, name) for name in dict.fromkeys(names)]
        with self._lock:
            self._held.update(keys)
        try:
            new = [key for key in keys if key in self._fresh or not named(key[1])]
            # All are looked at: else one that was damaged since could never be brought again.
            shares = [keys[start::SYNC_THREADS] for start in range(SYNC_THREADS)]
            with ThreadPoolExecutor(SYNC_THREADS) as pool:
                good = list(pool.map(self._all_made_durable, shares))
            if not all(good) or any(self.size(*key) is None for key in keys):
                raise StatusError("not all blocks of this letter are here", 409)
            for folder in sorted({self.path(*key).parent for key in new}):
                fsync_folder(folder)
            if new:
                fsync_folder(self._blocks / client)
                fsync_folder(self._blocks)
            self._fresh.difference_update(new)
            yield
        finally:
            with self._lock:
                self._held.subtract(keys)
                self._held += Counter()  # forget the zeros

    def _all_made_durable(self, keys: Sequence[tuple[str, str]]) -> bool:
        good = [self._made_durable(key) for key in keys]  # of all: every bad one goes
        return all(good)

    def _made_durable(self, key: tuple[str, str]) -> bool:
        path = self.path(*key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            if key not in self._fresh and not file_is(path, key[1]):
                with self._lock:
                    self._unlink(key)
                return False
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        return True

    def drop(self, client: str, names: Iterable[str]) -> None:
        """No letter of the client names these any more."""
        for name in names:
            with self._lock:
                if not self._held[client, name]:
                    self._unlink((client, name))

    def sweep(self, named: Callable[[str, str], bool], *, at: datetime) -> None:
        """Remove what no letter names and nobody continued."""
        oldest = (at - self._limits.orphan_life).timestamp()
        for (_, _), upload in list(self._open.items()):
            if not upload.busy and _changed(upload.path) < oldest:
                self.cancel(upload)
        for client, path in _files(self._blocks):
            if _changed(path) < oldest and not named(client, path.name):
                self.drop(client, [path.name])

    def _unlink(self, key: tuple[str, str]) -> None:
        path = self.path(*key)
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            self._used[key[0]] -= size
        self._fresh.discard(key)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """(client, file) of everything below."""
    for client in sorted(root.iterdir()):
        for folder, _, names in os.walk(client):
            for name in names:
                yield client.name, Path(folder, name)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
