"""One encrypted file from which an identity comes back after the machine is lost (SPEC 2.6).

It holds the keys, the card history, the pinned partners and the high-water marks. It holds no
one-time prekeys and no kept content keys: a backup that could open old packages would undo
the forward secrecy that deleting those keys gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from counterseal.errors import FormatError
from counterseal.trust import atomic
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.identity import Identity
from counterseal.trust.keystores import file as keystore_file
from counterseal.trust.keystores import keyring
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message, Name, PrivateMessage

if TYPE_CHECKING:
    from counterseal.trust.home import Home

__all__ = ["make", "restore"]

_KINDS: Final = ("partner", "seen", "opened", "sent-version", "spent-prekey")


class _Record(Message, frozen=True):
    kind: Literal["partner", "seen", "opened", "sent-version", "spent-prekey"]
    key: str
    value: bytes


class _Backup(PrivateMessage, frozen=True):
    kind: Literal["backup"]
    format: Literal[1]
    name: Name
    document: CardDocument
    ring: bytes
    records: tuple[_Record, ...]


def make(identity: Identity, passphrase: bytes) -> bytes:
    """Everything needed to be this identity again, encrypted under `passphrase`."""
    records = [
        _Record(kind=kind, key=key, value=value)
        for kind in _KINDS
        for key, value in identity.store.items(kind)
    ]
    backup = _Backup(
        kind="backup",
        format=1,
        name=identity.name,
        document=identity.history.document,
        ring=keyring.pack(identity._ring),  # noqa: SLF001 - the same package keeps the key ring in
        records=tuple(records),
    )
    return keystore_file.encrypt(canonical.encode(backup), passphrase, kind="backup")


def restore(data: bytes, passphrase: bytes, *, home: Home) -> Identity:
    """Put an identity back into `home`, under the backup's passphrase.

    Raises FileExistsError if the home has keys of that name; with the card but without the
    keys they are repaired. Records that are there already are kept: marks never move down.
    """
    secret = keystore_file.decrypt(data, passphrase, kind="backup", limit=limits.BACKUP_BYTES)
    backup = canonical.decode(secret, _Backup, limit=limits.BACKUP_BYTES, what="backup")
    history = History.verify(backup.document)
    if history.name != backup.name:
        raise FormatError("the backup names another identity than it holds")
    home.ensure()
    folder = home.identity_folder(backup.name)
    if (folder / "keystore.json").exists():
        raise FileExistsError(f"an identity named {backup.name} exists in {home.path}")
    if (folder / "card.json").exists():
        here = History.verify(CardDocument.load(folder / "card.json"))
        older, newer = sorted((here, history), key=lambda one: len(one.cards))
        history = History.verify(newer.document, pinned=older)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keystore = keystore_file.FileKeystore(folder / "keystore.json")
    keystore.save(keyring.unpack(backup.ring), passphrase)
    with home.store.exclusive():
        for record in backup.records:
            if home.store.get(record.kind, record.key) is None:
                home.store.put(record.kind, record.key, record.value)
    atomic.write_whole(folder / "card.json", history.document.encode())
    return Identity.load(backup.name, home=home, passphrase=passphrase)
