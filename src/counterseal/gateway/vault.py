"""Cells sealed under a key per charter, which can be destroyed.

    state cell "key"          protect(charter key, label "gateway charter ID"): by the identity
    state cell "cell/NAME"    salt 16 | AES-256-GCM(derive(charter key, "gateway cell", NAME, salt))
    state cell of no charter  "shredded/ID": there is nothing more to come under this id

A cell that was moved to another name or charter does not open. An older one of the same name
does: who can write the database can put yesterday's counters back, and only the ledger shows it.

`shred` first says that the charter is gone, for good, then destroys its key and all its cells.
Killed between, it is done again; nothing is kept under that id in the meantime or afterwards.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from counterseal.crypto.derive import KEY_BYTES, derive
from counterseal.crypto.record import open_once, seal_once
from counterseal.errors import BadCiphertext, CharterDenied
from counterseal.gateway.state import NO_CHARTER

if TYPE_CHECKING:
    from counterseal.gateway.state import Change, State

    T = TypeVar("T")

__all__ = ["Protect", "Vault"]

_SALT_BYTES: Final = 16
_KEY: Final = "key"
_CELL: Final = "cell/"
_SHREDDED: Final = "shredded/"


class Protect(Protocol):
    """`Identity.protect` and `Identity.unprotect`."""

    def __call__(self, secret: bytes, /, *, label: str) -> bytes: ...


class Vault:
    def __init__(self, state: State, *, protect: Protect, unprotect: Protect) -> None:
        self.state = state
        self._protect = protect
        self._unprotect = unprotect
        self._keys: dict[str, tuple[bytes, bytes]] = {}  # charter: (as it is kept, the key)

    def get(self, charter: str, name: str) -> bytes | None:
        sealed = self.state.get(charter, _CELL + name)
        return None if sealed is None else _open(self._key(charter), name, sealed)

    def items(self, charter: str, prefix: str) -> list[tuple[str, bytes]]:
        cells = self.state.items(charter, _CELL + prefix)
        if not cells:
            return []
        key = self._key(charter)
        names = [(name.removeprefix(_CELL), sealed) for name, sealed in cells]
        return [(name, _open(key, name, sealed)) for name, sealed in names]

    def change(self, charter: str, name: str, change: Change[T]) -> T:
        """Raises CharterDenied if the charter was shredded."""
        self._make_key(charter)

        def sealed_change(sealed: bytes | None) -> tuple[bytes | None, T]:
            key = self._key(charter)  # here, alone: a moment ago it may have been shredded
            new, result = change(None if sealed is None else _open(key, name, sealed))
            return None if new is None else _seal(key, name, new), result

        return self.state.change(charter, _CELL + name, sealed_change)

    def delete_all(self, charter: str) -> None:
        """All cells and their key. The charter may begin anew."""
        if charter == NO_CHARTER:
            raise ValueError("what was shredded would be forgotten")
        self._keys.pop(charter, None)
        self.state.delete_all(charter)

    def shred(self, charter: str) -> None:
        """Nothing of this charter can be read or written any more."""
        if charter == NO_CHARTER:
            raise ValueError("what belongs to no charter is not shredded")
        self.state.change(NO_CHARTER, _SHREDDED + charter, lambda _: (b"1", None))
        self.delete_all(charter)

    def is_shredded(self, charter: str) -> bool:
        return self.state.get(NO_CHARTER, _SHREDDED + charter) is not None

    def _check(self, charter: str) -> None:
        if charter != NO_CHARTER and self.is_shredded(charter):
            self._keys.pop(charter, None)
            raise CharterDenied(
                "what this gateway kept of the charter was destroyed",
                hint="a partnership that goes on needs a new charter",
            )

    def _make_key(self, charter: str) -> None:
        self._check(charter)
        if self.state.get(charter, _KEY) is not None:
            return
        # Made before it is needed: to protect it may take a hardware token a second.
        made = self._protect(os.urandom(KEY_BYTES), label=_label(charter))

        def keep(held: bytes | None) -> tuple[bytes, None]:
            self._check(charter)  # once more: nothing shredded is begun anew
            return made if held is None else held, None  # whoever was first

        self.state.change(charter, _KEY, keep)

    def _key(self, charter: str) -> bytes:
        held = self.state.get(charter, _KEY)
        if held is None:
            self._check(charter)
            raise BadCiphertext("a cell of the gateway without the key of its charter")
        known = self._keys.get(charter)
        if known is None or known[0] != held:
            known = held, self._unprotect(held, label=_label(charter))
            self._keys[charter] = known
        return known[1]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _label(charter: str) -> str:
    return f"gateway charter {charter}"


def _seal(key: bytes, name: str, plain: bytes) -> bytes:
    salt = os.urandom(_SALT_BYTES)
    return salt + seal_once(derive(key, "gateway cell", name.encode(), salt), plain)


def _open(key: bytes, name: str, sealed: bytes) -> bytes:
    salt = sealed[:_SALT_BYTES]
    return open_once(derive(key, "gateway cell", name.encode(), salt), sealed[_SALT_BYTES:])
