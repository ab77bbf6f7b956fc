"""One encrypted file from which an identity comes back after the machine is lost (SPEC 2.6).

It holds the keys, the card history, the pinned partners, the high-water marks and the last
directories. It holds no prekeys and no kept content keys: a backup that could open old packages
would undo the forward secrecy that deleting those keys gave.

Of an identity in a token it holds everything but the P-256 halves, which nobody can copy: it comes
back where that token is, and without it only its partners and marks do, for new keys (`recover`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from counterseal.errors import FormatError
from counterseal.trust import atomic
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.identity import Identity
from counterseal.trust.keystores import file as keystore_file
from counterseal.trust.keystores import places
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message, Name, PrivateMessage

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.trust.home import Home

__all__ = ["make", "restore", "restore_without_keys"]

Kind: TypeAlias = Literal[
    "partner",
    "seen",
    "opened",
    "sent-version",
    "spent-prekey",
    "directory",
    "directory-sent",
    "directory-online",
    "charter",
    "charter-written",
    "ledger",  # how far each was signed: a copy of an older file is never gone on from
    "journal",
    "root-written",
    "witness",
    "witness-keys",
]


class _Record(Message, frozen=True):
    kind: Kind
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
        for kind in get_args(Kind)
        for key, value in identity.store.items(kind)
    ]
    backup = _Backup(
        kind="backup",
        format=1,
        name=identity.name,
        document=identity.history.document,
        ring=places.pack(identity._ring),  # noqa: SLF001 - the same package keeps the key ring in
        records=tuple(records),
    )
    return keystore_file.encrypt(canonical.encode(backup), passphrase, kind="backup")


def restore(
    data: bytes, passphrase: bytes, *, home: Home, pin: bytes = b"", keystore: str = ""
) -> Identity:
    """Put an identity back into `home`, under the backup's passphrase.

    Of one in a token the P-256 halves must be in that token still: `pin` opens it, `keystore`
    names it if it is called otherwise here. Raises FileExistsError if the home has keys of that
    name; with the card but without the keys they are repaired. Records that are there already
    are kept: marks never move down.
    """
    backup, history, folder = _opened(data, passphrase, home)
    kept, ring = places.restore(
        backup.ring, folder / "keystore.json", passphrase=passphrase, pin=pin, spec=keystore
    )
    _put_back(backup, history, home)
    return Identity(history, ring, store=home.store, home=home, keystore=kept)


def restore_without_keys(data: bytes, passphrase: bytes, *, home: Home) -> History:
    """Put back all but the keys, because their token is lost. `Identity.recover` comes next."""
    backup, history, _ = _opened(data, passphrase, home)
    _put_back(backup, history, home)
    return history


def _opened(data: bytes, passphrase: bytes, home: Home) -> tuple[_Backup, History, Path]:
    """The backup, our newest history, and the folder for both."""
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
    return backup, history, folder


def _put_back(backup: _Backup, history: History, home: Home) -> None:
    with home.store.exclusive():
        for record in backup.records:
            if home.store.get(record.kind, record.key) is None:
                home.store.put(record.kind, record.key, record.value)
    card = home.identity_folder(backup.name) / "card.json"
    atomic.write_whole(card, history.document.encode())
