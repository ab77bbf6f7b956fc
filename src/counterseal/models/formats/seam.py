"""The one seam between counterseal and model formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:
    from counterseal.models.files import Files

__all__ = ["HEAD_BYTES", "Format", "Framework", "LoadOptions"]

HEAD_BYTES: Final = 4096  # what `claims` is shown of a file

Framework = Literal["torch", "numpy"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the caller decides. `trusted` names types that skops may build beside its own."""

    framework: Framework | None = None
    trusted: tuple[str, ...] = ()
    device: str | None = None


class Format(Protocol):
    """One model format. A file is loaded by the first format that claims it."""

    name: str
    media_type: str

    def claims(self, name: str, head: bytes) -> bool:
        """Tell from the name and first bytes whether this is ours to judge."""
        ...

    def check(self, files: Files, name: str) -> None:
        """Raise UnsafeFormat if loading could run code. Reads only headers and needs no
        library: the sender runs it before sealing, `load` runs it again on arrival.
        """
        ...

    def load(self, files: Files, name: str, options: LoadOptions) -> Any:
        """Build the model in memory; plaintext never touches the disk."""
        ...
