"""Where private keys live. One seam, `Keystore`: load a key ring, save a key ring.

`file` keeps it encrypted under a passphrase, `memory` keeps it for the life of the process.
The `KeyRing` signs, opens and protects; it never shows a private byte to its users. Only a
keystore takes it apart (`keyring.pack`), to encrypt it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from counterseal.trust.keystores.keyring import KeyRing

__all__ = ["Keystore"]


class Keystore(Protocol):
    """A place for one identity's key ring."""

    def load(self, passphrase: bytes) -> KeyRing:
        """Raise TrustError for a wrong passphrase, FormatError for a damaged file."""
        ...

    def save(self, ring: KeyRing, passphrase: bytes) -> None:
        """Replace what is kept, whole or not at all."""
        ...
