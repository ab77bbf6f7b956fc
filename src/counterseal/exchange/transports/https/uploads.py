"""One block on its way in, and what is kept of it when the way is lost (SPEC 14.3.4).

All state is the file: its name says whose it is, which block, how long and which digest was
promised; its length is the offset. So an upload survives `kill -9`, and after a crash of the
machine, which may leave zeros in the file, the block's own name finds it out.

    uploads/CLIENT/ID.NAME.LENGTH.SHA256
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from typing import TYPE_CHECKING, Final

from counterseal.crypto.digest import equal, leaf_stream, sha256_stream
from counterseal.errors import BadCiphertext, FormatError, TimedOut
from counterseal.exchange.transports.https.problems import StatusError
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import blake3

    from counterseal.exchange.transports.https.messages import Body

__all__ = ["PIECE_BYTES", "Upload", "file_is", "file_sha256"]

PIECE_BYTES: Final = 512 * limits.KIB  # of each connection, what `kill -9` costs at most
TAKE_OVER_SECONDS: Final = 10.0
NO_DIGEST: Final = "-"
_FILE: Final = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})\.([0-9]{1,15})\.([0-9a-f]{64}|-)")

_own = threading.local()


def _piece() -> memoryview:
    """One buffer for each thread: its pages are paid for once."""
    if not hasattr(_own, "piece"):
        _own.piece = memoryview(bytearray(PIECE_BYTES))
    piece: memoryview = _own.piece
    return piece


class Upload:
    """`append` as often as needed, then `verify`; whoever began it publishes the file."""

    def __init__(self, path: Path, *, client: str, offset: int = 0) -> None:
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise FormatError(f"{path} is not an upload")
        self.path = path
        self.client = client
        self.id, self.name = match[1], match[2]
        self.length = int(match[3])
        self._promised = None if match[4] == NO_DIGEST else match[4]
        self.offset = offset
        self._digest: blake3.blake3 | None = leaf_stream() if self.offset == 0 else None
        self.ended = False
        self._turn = threading.Condition()
        self._body: Body | None = None

    @staticmethod
    def file_name(identifier: str, name: str, length: int, promised: bytes | None) -> str:
        return f"{identifier}.{name}.{length}.{promised.hex() if promised else NO_DIGEST}"

    @property
    def busy(self) -> bool:
        return self._body is not None

    @contextlib.contextmanager
    def turn(self, body: Body) -> Iterator[None]:
        """The newest request has the upload; an older one, most likely a dead one, is ended."""
        with self._turn:
            while self._body is not None:
                self._body.abort()
                if not self._turn.wait(TAKE_OVER_SECONDS):
                    raise TimedOut("an earlier request for this upload does not end")
            if self.ended:
                raise StatusError("this upload has ended", 404)
            self._body = body
        try:
            yield
        finally:
            with self._turn:
                self._body = None
                self._turn.notify_all()

    def append(self, body: Body, *, promised: bytes | None = None) -> None:
        """Take what comes, as it comes: it stays when the way is lost or the mailbox is killed.

        `promised` is the SHA-256 of this content: if it is wrong, none of it stays.
        """
        if self.offset + body.left > self.length:
            raise FormatError("more bytes than were announced")
        begin = self.offset
        running = None if promised is None else sha256_stream()
        digest = self._digest_so_far()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            buffer = _piece()
            while body.left:
                piece = buffer[: body.read_into(buffer[: body.left])]
                _write(descriptor, piece, self.offset)  # first: from here on it outlives us
                self.offset += len(piece)
                digest.update(piece)
                if running is not None:
                    running.update(piece)
            if running is not None and not equal(running.digest(), promised or b""):
                os.ftruncate(descriptor, begin)
                self.offset, self._digest = begin, None
                raise BadCiphertext("the content was changed on the way")
        except OSError:
            self._digest = None
            self.offset = os.fstat(descriptor).st_size
            raise
        finally:
            os.close(descriptor)

    def verify(self) -> None:
        """Raises BadCiphertext unless these are the bytes that the name and the promise say."""
        if self.offset != self.length:
            raise FormatError("the upload is not complete")
        good = equal(self._digest_so_far().hexdigest().encode(), self.name.encode())
        if good and self._promised is not None:
            good = equal(self.sha256().hex().encode(), self._promised.encode())
        if not good:
            raise BadCiphertext("these bytes are not the block of this name")

    def sha256(self) -> bytes:
        return file_sha256(self.path)

    def _digest_so_far(self) -> blake3.blake3:
        if self._digest is None:
            self._digest = leaf_stream()
            for piece in _file_pieces(self.path):
                self._digest.update(piece)
        return self._digest


def file_sha256(path: Path) -> bytes:
    digest = sha256_stream()
    for piece in _file_pieces(path):
        digest.update(piece)
    return digest.digest()


def file_is(path: Path, name: str) -> bool:
    """Whether a file holds the block of this name."""
    digest = leaf_stream()
    for piece in _file_pieces(path):
        digest.update(piece)
    return equal(digest.hexdigest().encode(), name.encode())


def _file_pieces(path: Path) -> Iterator[memoryview]:
    piece = _piece()
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            yield piece[:count]


def _write(descriptor: int, piece: memoryview, offset: int) -> None:
    while piece:
        count = os.pwrite(descriptor, piece, offset)
        piece, offset = piece[count:], offset + count
