"""Letters and blocks in a dictionary: for tests, and for two parties in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterseal.errors import FormatError
from counterseal.exchange.transports.objects import ObjectTransport

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MemoryObjects", "MemoryTransport"]


class MemoryObjects:
    """Named bytes in a dictionary, which two parties may share. Satisfies `Objects`."""

    parallel = 1

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        self.stored[name] = bytes(data)

    def get(self, name: str, *, limit: int) -> bytes | None:
        data = self.stored.get(name)
        if data is not None and len(data) > limit:
            raise FormatError("a stored object is longer than it may be")
        return data

    def names(self, folder: str) -> Iterable[str]:
        prefix = f"{folder}/"
        return [name[len(prefix) :] for name in list(self.stored) if name.startswith(prefix)]

    def delete(self, name: str) -> None:
        self.stored.pop(name, None)


class MemoryTransport(ObjectTransport):
    """Give both parties the same one."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        super().__init__(self.objects)
