"""Which keystore: chosen once when an identity is made, afterwards read from its file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from counterseal.errors import TrustError
from counterseal.trust import atomic
from counterseal.trust.keystores import halves, keyring, token, uri
from counterseal.trust.keystores.file import FileKeystore
from counterseal.trust.keystores.token import TokenKeystore
from counterseal.wire import limits

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.trust.keystores import Keystore
    from counterseal.trust.keystores.keyring import KeyRing

__all__ = ["FILE", "at", "new", "pack", "restore", "spec_of"]

FILE: Final = "file"


def new(spec: str, path: Path, *, name: str) -> Keystore:
    """A keystore yet to be written. `spec` is `file`, or a token by the rules of `uri`."""
    if spec == FILE:
        return FileKeystore(path)
    return TokenKeystore(path, uri.parse(spec), name=name)


def at(path: Path) -> Keystore:
    """The keystore that lies at `path`; one that is not there is an (empty) file keystore."""
    if not path.exists():
        return FileKeystore(path)
    data = atomic.read_bounded(path, limits.KEYSTORE_BYTES, what="keystore")
    if _kind(data) == token.KIND:
        return TokenKeystore.at(path)
    return FileKeystore(path)


def spec_of(path: Path) -> str:
    """What `new` would need to be told to make another like the one at `path`."""
    kept = at(path)
    return str(kept.where) if isinstance(kept, TokenKeystore) else FILE


def pack(ring: KeyRing) -> bytes:
    """What a backup can have of a ring, to be encrypted at once. Never write it."""
    holder = halves.token_of(ring)
    return keyring.pack(ring) if holder is None else halves.pack(ring, holder)


def restore(
    packed: bytes, path: Path, *, passphrase: bytes, pin: bytes, spec: str
) -> tuple[Keystore, KeyRing]:
    """Keep at `path` what `pack` made, under `passphrase` or with the token and its `pin`."""
    if _kind(packed) != halves.KIND:
        file, ring = FileKeystore(path), keyring.unpack(packed)
        file.save(ring, passphrase)
        return file, ring
    data = halves.read(packed)
    if not pin:
        raise TrustError(
            f"half of these keys are in a token ({data.token}) and in no backup",
            hint="with the token: --keystore TOKEN --passphrase-file PIN; if it is lost: "
            "--without-keys, then counterseal id recover",
        )
    where = uri.parse(spec or data.token)
    if isinstance(where, uri.Pkcs11Uri):  # not the name that the first keystore may still sweep
        where = replace(where, object=None)
    kept = TokenKeystore(path, where, name=path.parent.name, serial=data.serial)
    ring = kept.adopt(data, pin)
    kept.save(ring, pin)
    return kept, ring


class _Kind(msgspec.Struct):  # only to choose the reader, which reads strictly
    kind: str


def _kind(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=_Kind).kind
    except msgspec.DecodeError:
        return ""
