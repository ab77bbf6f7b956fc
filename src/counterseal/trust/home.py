"""The home folder: identities, and one store for everything this side remembers.

HOME/identities/NAME/card.json      public
HOME/identities/NAME/keystore.json  encrypted private keys, mode 600
HOME/state.db                       partners, prekeys, high-water marks
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from counterseal.errors import FormatError, TrustError
from counterseal.trust.store import Store

__all__ = ["Home"]


class Home:
    """A folder that only its owner can enter. Nothing is created before `ensure`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._store: Store | None = None

    @classmethod
    def locate(cls, override: str | None = None) -> Home:
        """`override`, else COUNTERSEAL_HOME, else XDG_DATA_HOME/counterseal."""
        chosen = override or os.environ.get("COUNTERSEAL_HOME")
        if chosen:
            return cls(chosen)
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        return cls(Path(data) / "counterseal")

    @property
    def store(self) -> Store:
        if self._store is None:
            self.ensure()
            self._store = Store(self.path / "state.db")
        return self._store

    def ensure(self) -> None:
        """Create the folder, or refuse one that others can write to."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & 0o077:
            raise TrustError(
                f"{self.path} is open to others (mode {mode:o})",
                hint=f"chmod 700 {self.path}",
            )

    def identities(self) -> list[str]:
        folder = self.path / "identities"
        # An identity exists when its card does: `Identity.create` writes it last.
        return sorted(card.parent.name for card in folder.glob("*/card.json"))

    def identity_folder(self, name: str) -> Path:
        return self.path / "identities" / name

    def only_identity(self) -> str:
        """The name of the one identity here; several or none is an error with a hint."""
        names = self.identities()
        if len(names) == 1:
            return names[0]
        if not names:
            raise TrustError("there is no identity here yet", hint="counterseal init NAME")
        raise FormatError(
            f"there are several identities here: {', '.join(names)}", hint="choose one: --as NAME"
        )

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
