"""The key ring in one file, encrypted under a passphrase: Argon2id and AES-256-GCM (SPEC 2.6)."""

from __future__ import annotations

import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from counterseal.crypto import passphrase as passphrases
from counterseal.crypto.derive import bind
from counterseal.errors import BadCiphertext, FormatError, TrustError
from counterseal.trust import atomic
from counterseal.trust.keystores import keyring
from counterseal.trust.keystores.keyring import Generation
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from counterseal.trust.keystores.keyring import KeyRing

__all__ = ["FileKeystore", "check_private", "decrypt", "encrypt"]


class _Encrypted(Message, frozen=True):
    kind: Literal["keystore", "recovery-key", "backup", "online-key"]
    format: Literal[1]
    memory_kib: Annotated[int, msgspec.Meta(ge=0, le=2**32)]
    passes: Annotated[int, msgspec.Meta(ge=0, le=2**16)]
    lanes: Annotated[int, msgspec.Meta(ge=0, le=2**16)]
    sealed: bytes


class FileKeystore:
    """One encrypted file, readable by its owner only."""

    def __init__(self, path: Path, *, cost: passphrases.Cost | None = None) -> None:
        self._path = path
        self._cost = cost or passphrases.Cost()

    @property
    def place(self) -> str:
        return "file, under a passphrase"

    @property
    def asks_for(self) -> str:
        return "passphrase"

    @contextmanager
    def new_keys(self, passphrase: bytes, *, hardware: bool) -> Iterator[Generation]:  # noqa: ARG002 - the seam
        yield Generation.create(hardware=hardware)

    def load(self, passphrase: bytes) -> KeyRing:
        check_private(self._path)
        data = atomic.read_bounded(self._path, limits.KEYSTORE_BYTES, what="keystore")
        return keyring.unpack(decrypt(data, passphrase, kind="keystore"))

    def save(self, ring: KeyRing, passphrase: bytes) -> None:
        data = encrypt(keyring.pack(ring), passphrase, kind="keystore", cost=self._cost)
        atomic.write_whole(self._path, data, mode=0o600)

    def sweep(self) -> None:
        """Nothing lies elsewhere."""

    def change_passphrase(self, ring: KeyRing, new: bytes) -> KeyRing:
        self.save(ring, new)
        return ring

    def check(self) -> str:
        check_private(self._path)
        return self.place

    def close(self) -> None:
        """There is no session."""


def check_private(path: Path) -> None:
    """Raise TrustError unless the keystore is there and nobody else can read it."""
    if not path.exists():
        raise TrustError(
            f"the keystore {path} is gone",
            hint="counterseal id restore BACKUP, or counterseal id recover with recovery keys",
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise TrustError(
            f"{path} can be read by others",
            hint=f"chmod 600 {path}; if others were there, rotate: counterseal id rotate",
        )


def encrypt(
    secret: bytes,
    passphrase: bytes,
    *,
    kind: Literal["keystore", "recovery-key", "backup", "online-key"],
    cost: passphrases.Cost | None = None,
) -> bytes:
    """Encrypt a secret document. Its kind is bound, so one cannot stand in for another."""
    cost = cost or passphrases.Cost()
    sealed = passphrases.wrap(secret, passphrase, context=bind(kind), cost=cost)
    return canonical.encode(
        _Encrypted(
            kind=kind,
            format=1,
            memory_kib=cost.memory_kib,
            passes=cost.passes,
            lanes=cost.lanes,
            sealed=sealed,
        )
    )


def decrypt(
    data: bytes, passphrase: bytes, *, kind: str, limit: int = limits.KEYSTORE_BYTES
) -> bytes:
    """Raise TrustError for a wrong passphrase, FormatError for another kind of file."""
    document = canonical.decode(data.strip(), _Encrypted, limit=limit, what=kind)
    if document.kind != kind:
        raise FormatError(f"this is a {document.kind}, not a {kind}")
    cost = passphrases.Cost(document.memory_kib, document.passes, document.lanes)
    try:
        return passphrases.unwrap(document.sealed, passphrase, context=bind(kind), cost=cost)
    except BadCiphertext:
        raise TrustError(
            f"wrong passphrase, or the {kind} was changed",
            hint="if it is lost: counterseal id restore BACKUP, or counterseal id recover"
            if kind == "keystore"
            else None,
        ) from None
