"""What a gateway has to remember: small blobs ("cells") named by charter and name.

One seam, three places: memory (tests), SQLite (one node, the default), PostgreSQL (several
nodes). The rules that every one of them keeps:

1. `change` reads and writes alone among all processes, for all cells of that charter. It is
   durable on return. When it raises, the caller does not know whether it happened, and has to
   act as if whatever is worse for himself were true.
2. The function given to `change` may `get` cells of the same charter. It changes nothing else,
   and takes no time: others wait. It may be called again after a lost connection.
3. What is deleted by `delete_all` is in no journal afterwards.
4. Whoever watches and cannot learn of changes any more is not alive, and denies (fail closed).

The charter "" is for what belongs to none.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")
    Change = Callable[[bytes | None], tuple[bytes | None, T]]

__all__ = ["NO_CHARTER", "AlwaysAlive", "MemoryState", "State", "Watch", "check_names"]

NO_CHARTER: Final = ""
_CHARTER: Final = re.compile(r"([0-9a-f]{32})?\Z")
_NAME: Final = re.compile(r"[ -~]{1,200}\Z")


class Watch(Protocol):
    def alive(self, now: float) -> bool:
        """Whether at `now` (time.monotonic) everything that was bumped is known here."""
        ...

    def close(self) -> None: ...


class State(Protocol):
    def get(self, charter: str, name: str) -> bytes | None: ...

    def items(self, charter: str, prefix: str) -> list[tuple[str, bytes]]:
        """All cells whose name begins so, in order."""
        ...

    def change(self, charter: str, name: str, change: Change[T]) -> T:
        """`change` gets what is there, and returns what is to be there (None: nothing), and
        what this returns. If it raises, nothing is changed."""
        ...

    def delete_all(self, charter: str) -> None: ...

    def charters(self) -> list[str]:
        """Those that have cells."""
        ...

    def bump(self) -> None:
        """Let every other node that watches know that something changed."""
        ...

    def watch(self, on_change: Callable[[], None], *, lease_seconds: float = 2.0) -> Watch:
        """`on_change` is called, in a thread, after each bump on any node.

        Watch first, then read: what is bumped before is not reported.
        """
        ...

    def close(self) -> None: ...


def check_names(charter: str, name: str) -> None:
    if not _CHARTER.match(charter) or not _NAME.match(name):
        raise ValueError("a cell is named by the id of a charter and 200 letters at most")


class AlwaysAlive:
    """Where all workers are on one node, `Shared` has the epoch: nothing can be missed."""

    def alive(self, now: float) -> bool:  # noqa: ARG002 - the seam's
        return True

    def close(self) -> None:
        pass


class MemoryState:
    """For tests, and for what need not outlive the process."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], bytes] = {}
        self._lock = threading.RLock()
        self._watching: list[Callable[[], None]] = []

    def get(self, charter: str, name: str) -> bytes | None:
        check_names(charter, name)
        with self._lock:
            return self._cells.get((charter, name))

    def items(self, charter: str, prefix: str) -> list[tuple[str, bytes]]:
        with self._lock:
            return sorted(
                (name, blob)
                for (owner, name), blob in self._cells.items()
                if owner == charter and name.startswith(prefix)
            )

    def change(self, charter: str, name: str, change: Change[T]) -> T:
        check_names(charter, name)
        with self._lock:
            new, result = change(self._cells.get((charter, name)))
            if new is None:
                self._cells.pop((charter, name), None)
            else:
                self._cells[charter, name] = new
            return result

    def delete_all(self, charter: str) -> None:
        with self._lock:
            self._cells = {key: blob for key, blob in self._cells.items() if key[0] != charter}

    def charters(self) -> list[str]:
        with self._lock:
            return sorted({charter for charter, _ in self._cells} - {NO_CHARTER})

    def bump(self) -> None:
        for on_change in tuple(self._watching):
            on_change()

    def watch(
        self,
        on_change: Callable[[], None],
        *,
        lease_seconds: float = 2.0,  # noqa: ARG002 - the seam's
    ) -> Watch:
        self._watching.append(on_change)
        return AlwaysAlive()

    def close(self) -> None:
        pass
