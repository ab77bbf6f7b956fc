"""A way to a TCP server that can be walled up: nothing passes, and nobody is told."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Final, Self

__all__ = ["Wall"]

_PIECE: Final = 1 << 16


class Wall:
    """A context manager; connect to `port` on this machine."""

    def __init__(self, host: str, port: int) -> None:
        self._there = host, port
        self._open = threading.Event()
        self._open.set()
        self._links: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stand(self) -> None:
        """Nothing passes any more."""
        self._open.clear()

    def fall(self) -> None:
        """What waited passes, too."""
        self._open.set()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
                other = socket.create_connection(self._there)
            except OSError:
                return
            self._links += [one, other]
            for source, target in ((one, other), (other, one)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                self._open.wait()
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.fall()
        for one in (self._listener, *self._links):
            with suppress(OSError):
                one.close()
