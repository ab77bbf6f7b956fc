"""Where private keys live. One seam, `Keystore`: load a key ring, save a key ring.

`file` keeps it encrypted under a passphrase; `token` keeps the P-256 halves in a PKCS#11 token
or a TPM and the rest encrypted under what only that token gives back. Which one it is: `places`.
The `KeyRing` signs, opens and protects; it never shows a private byte to its users. Only a
keystore takes it apart (`keyring.pack`, `token.pack`), to encrypt it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from counterseal.trust.keystores.keyring import Generation, KeyRing
    from counterseal.trust.keystores.uri import TokenUri

__all__ = ["Keystore", "Purpose", "Token"]

Purpose: TypeAlias = Literal["signing", "agreement", "statement"]


class Keystore(Protocol):
    """A place for one identity's key ring."""

    @property
    def place(self) -> str:
        """Where the keys are, in words."""
        ...

    @property
    def asks_for(self) -> str:
        """`passphrase` or `PIN`: what a person is asked for."""
        ...

    def new_keys(self, passphrase: bytes, *, hardware: bool) -> AbstractContextManager[Generation]:
        """Keys for a new card. If the block fails before they are saved, they are gone again."""
        ...

    def load(self, passphrase: bytes) -> KeyRing:
        """Raise TrustError for a wrong passphrase, FormatError for a damaged file."""
        ...

    def save(self, ring: KeyRing, passphrase: bytes) -> None:
        """Replace what is kept, whole or not at all."""
        ...

    def sweep(self) -> None:
        """Destroy what the last `save` left behind elsewhere; it is not needed any more."""
        ...

    def change_passphrase(self, ring: KeyRing, new: bytes) -> KeyRing:
        """Save under another passphrase; returns the ring to go on with."""
        ...

    def check(self) -> str:
        """Say where the keys are if they can be reached; no passphrase. Raises if not."""
        ...

    def close(self) -> None:
        """End the session with a token. Its keys answer no more."""
        ...


class Token(Protocol):
    """A token that has been given its PIN. Everything that fails is a CountersealError.

    A handle is the token's name for one key, a ticket the same for a kept secret. Both are
    worthless elsewhere.
    """

    @property
    def uri(self) -> TokenUri: ...

    @property
    def serial(self) -> str:
        """What tells this token from another with the same label."""
        ...

    def generate(self, purpose: Purpose, tag: str) -> tuple[bytes, bytes]:
        """Make a P-256 key that never leaves; returns (handle, public point)."""
        ...

    def sign(self, handle: bytes, digest: bytes) -> bytes:
        """ECDSA over a SHA-256 digest: r | s."""
        ...

    def exchange(self, handle: bytes, point: bytes) -> bytes:
        """The x coordinate of key times point."""
        ...

    def keep_key(self) -> tuple[bytes, bytes]:
        """A new key and the ticket that brings it back; the key is for one encryption."""
        ...

    def recall_key(self, ticket: bytes) -> bytes: ...

    def destroy(self, handles: Iterable[bytes]) -> None:
        """Of keys or tickets. What is gone already is no error."""
        ...

    def made(self) -> frozenset[bytes]:
        """Handles of all keys that lie in the token because this keystore wanted them."""
        ...

    def change_pin(self, handles: Iterable[bytes], new: bytes) -> Mapping[bytes, bytes]:
        """Returns the new handle of each old one."""
        ...

    def close(self) -> None: ...
