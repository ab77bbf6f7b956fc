"""Rows on their way from every worker to the one that looks at them: datagrams on one node.

The first worker listens on a socket in the gateway's own folder, which nobody else can enter.
A datagram is a length, a JSON head (charter, model, type, shape) and the rows. Sending never
waits: what cannot be sent is dropped and counted, as by the observer itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

import msgspec

from counterseal.gateway.tensors import numpy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from counterseal.gateway.registry import Offer
    from counterseal.gateway.served import Served

__all__ = ["Listener", "RelayObserver"]

_MOST_BYTES: Final = 160 * 1024  # of a datagram; Linux lets about 200 KiB through
_NUMERIC: Final = "?buif"


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    charter: str
    model: str
    dtype: str
    shape: tuple[int, ...]


def _short(path: Path) -> str:
    """A name for the socket that fits: the address of one has 107 bytes, a home may have more."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{folder}/{path.name}"  # open as long as the process


class RelayObserver:
    """In every worker but the first."""

    def __init__(self, path: Path) -> None:
        self._path = _short(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.dropped = 0

    def observe(self, served: Served, offer: Offer, rows: Any) -> None:
        if rows.dtype.kind not in _NUMERIC:
            return
        one = max(1, rows[:1].nbytes)
        step = _MOST_BYTES // one
        if step == 0:
            self.dropped += 1
            return
        for first in range(0, len(rows), step):
            part = numpy().ascontiguousarray(rows[first : first + step])
            head = _Head(served.charter.id, offer.model, part.dtype.str, part.shape)
            self._send(head, part.tobytes())

    def probe(self, served: Served) -> None:
        self._send(_Head(served.charter.id, "", "", ()), b"")

    def _send(self, head: _Head, data: bytes) -> None:
        encoded = msgspec.json.encode(head)
        try:
            self._socket.sendto(len(encoded).to_bytes(4, "big") + encoded + data, self._path)
        except OSError:  # full, or nobody listens at this moment
            self.dropped += 1

    def close(self) -> None:
        self._socket.close()


class Listener:
    """In the first worker: hands what arrives to `take(charter, model, rows)`, in a thread."""

    def __init__(self, path: Path, take: Callable[[str, str, Any], None]) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(_short(path))
        path.chmod(0o600)
        self._take = take
        self._thread = threading.Thread(target=self._run, name="rows", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            try:
                data = self._socket.recv(_MOST_BYTES + 4096)
            except OSError:
                return
            if not data:
                return
            with contextlib.suppress(ValueError, msgspec.DecodeError, TypeError):
                self._take(*_read(data))


def _read(data: bytes) -> tuple[str, str, Any]:
    length = int.from_bytes(data[:4], "big")
    head = msgspec.json.decode(data[4 : 4 + length], type=_Head)
    if not head.model:
        return head.charter, "", None
    np = numpy()
    kind = np.dtype(head.dtype)
    if kind.kind not in _NUMERIC:
        raise ValueError("no rows of numbers")
    return (
        head.charter,
        head.model,
        np.frombuffer(data[4 + length :], kind).reshape(head.shape),
    )
