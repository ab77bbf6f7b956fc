"""How letters and blocks travel. One seam, `Transport`; four ways behind it.

| module | carries through | needs |
|---|---|---|
| `memory` | this process | nothing |
| `folder` | a folder, a stick, an object store | nothing; `obstore` for buckets |
| `https` | a mailbox (`counterseal mailbox serve`) | the mailbox's card |
| `mqtt` | a broker, over TLS | the extra `mqtt` |

None of them is trusted: whatever lies between may read, drop, repeat, reorder, change, delay
or invent. Letters are sealed and signed end to end, blocks are named by their digest in a
letter; so a transport can lose things, never forge or learn them (SPEC 14).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "BlockSink",
    "BlockSource",
    "NoBlocks",
    "Progress",
    "Transport",
    "Waiting",
    "Whole",
    "silent",
]

Progress: TypeAlias = "Callable[[int, int], None]"  # (bytes done, bytes in all)


def silent(_done: int, _all: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A letter that waits in a box; `id` is the transport's own name for it."""

    box: str
    id: str
    data: bytes = field(repr=False)


class BlockSource(Protocol):
    """The blocks of a shipment, at the sender. A name is the BLAKE3-256 of the block, in hex."""

    @property
    def names(self) -> Sequence[str]:
        """In order; a name may repeat."""
        ...

    def size(self, name: str) -> int: ...

    def read(self, name: str) -> bytes:
        """Raise TamperError if the file changed since it was listed."""
        ...

    def fill(self, name: str, view: memoryview) -> None:
        """As it is now, into a buffer of its size: for a carrier that finds changes itself."""
        ...


class BlockSink(Protocol):
    """The blocks of a shipment, at the receiver. Safe to call from several threads."""

    def missing(self) -> Sequence[str]:
        """The names still wanted, each once."""
        ...

    def size(self, name: str) -> int: ...

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Take a block, durably or not at all; raises BadCiphertext if it is not that block.

        The data is the caller's again when this returns.
        """
        ...


class NoBlocks:
    """The source of a letter that comes alone."""

    names: Final[Sequence[str]] = ()

    def size(self, name: str) -> int:
        raise KeyError(name)

    def read(self, name: str) -> bytes:
        raise KeyError(name)

    def fill(self, name: str, view: memoryview) -> None:  # noqa: ARG002 - the seam's
        raise KeyError(name)


class Whole:
    """The sink of a shipment that is here: tells a sender over a broker who did not hear it."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def missing(self) -> Sequence[str]:
        return ()

    def size(self, name: str) -> int:
        raise KeyError(name)

    def put(self, name: str, data: bytes | memoryview) -> None:  # noqa: ARG002 - the seam's
        raise KeyError(name)


class Transport(Protocol):
    """Carries letters and blocks between boxes.

    Raises Dropped when the way is lost, TimedOut without an answer, TrustError if it refuses
    us, QuotaExceeded if it wants us to wait. Every method can be repeated after an error.
    """

    @property
    def live(self) -> bool:
        """Whether both ends are there at once: then the receipt follows the last block."""
        ...

    def deliver(
        self, box: str, letter: bytes, blocks: BlockSource, *, progress: Progress = silent
    ) -> None:
        """Carry a letter and its blocks into a box.

        A store returns when it holds all of it, and shows the letter only then; a broker
        returns when the receiver has every block.
        """
        ...

    def waiting(self, boxes: Sequence[str], *, wait: float) -> Iterator[Waiting]:
        """Letters that are there, oldest first; if none, wait up to `wait` seconds for one."""
        ...

    def fetch(self, letter: Waiting, sink: BlockSink, *, progress: Progress = silent) -> None:
        """Bring every block that `sink` is missing, in any order."""
        ...

    def done(self, letter: Waiting) -> None:
        """The receiver needs it no longer: letter and blocks may be forgotten."""
        ...

    def publish(self, box: str, letter: bytes) -> None:
        """Put up a letter that replaces the one before and stays until replaced."""
        ...

    def lookup(self, box: str) -> bytes | None:
        """The letter that is put up in this box."""
        ...

    def close(self) -> None: ...
