"""Open a sealed package: the rules of `exchange.reader`, then what this receiver remembers."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from counterseal.errors import UnknownPartner
from counterseal.exchange import amend, reader
from counterseal.exchange.keys import ContentKey
from counterseal.exchange.replay import Arrival, SeenBook
from counterseal.jobs import statements
from counterseal.jobs.package import SealedPackage
from counterseal.ledger.entry import Record
from counterseal.trust.history import History
from counterseal.trust.partner import Partner
from counterseal.trust.store import Store

if TYPE_CHECKING:
    from counterseal.exchange.reader import Front
    from counterseal.jobs.journal import Writes
    from counterseal.trust.card import CardDocument
    from counterseal.trust.identity import Identity
    from counterseal.trust.prekeys import ForwardSecrecy

__all__ = ["open_sealed", "read_package_front"]

_KEPT: Final = "kept-key"


def open_sealed(
    package: Path | str,
    *,
    sender: Partner | CardDocument,
    by: Identity | None = None,
    passphrase: bytes | None = None,
    keep: bool = False,
    again: bool = False,
    store: Store | None = None,
    at: datetime | None = None,
    ledger: Writes | None = None,
) -> SealedPackage:
    """Open a package that `sender` sealed for us; everything up to the manifest is verified now.

    `by` opens with our keys, `passphrase` with a passphrase: one of the two. `keep` keeps the
    content key in our store, protected, so that a package sealed to a one-time prekey can be
    opened `again`; that gives up its forward secrecy against whoever steals our home folder.
    `store` remembers what was opened when there is no identity to do so. `ledger` has an entry
    once the package was used.

    Raises BadSignature, BadCiphertext, ExpiredKey, RevokedKey, RolledBack, ReplayedMessage or
    FormatError; then nothing was changed and nothing was released.
    """
    if (by is None) == (passphrase is None):
        raise ValueError("open either by an identity or by a passphrase")
    if keep and by is None:
        raise ValueError("only an identity can keep a key")
    at = at or datetime.now(UTC)
    history = sender.history if isinstance(sender, Partner) else History.verify(sender)
    name = sender.name if isinstance(sender, Partner) else history.name
    store = by.store if by is not None else store or Store()
    descriptor = os.open(package, os.O_RDONLY | os.O_CLOEXEC)
    try:
        front = read_package_front(Path(package), descriptor)
        front.verify(history, at=at)
        seen = SeenBook(store, owner=by.history.identity if by is not None else "")
        seen.check_package(front.header.core, again=again)
        content, prekey = _unlock(front, by, passphrase, seen)
        files = reader.PackageFiles(descriptor, front, content)
        arrival = Arrival.of(files.header, files.manifest)
        seen.check(arrival, again=again)
        ownership = statements.verify(files.manifest, sender=history, store=store)
    except BaseException:
        os.close(descriptor)
        raise

    def commit() -> None:
        kept = None
        if keep and by is not None:
            kept = by.protect(content.secret(), label=_KEPT)
        with store.exclusive():
            seen.commit(arrival, at=at, again=again, kept=kept)
            if by is not None:
                if prekey is not None:
                    by.prekeys.delete(prekey)
                by.prekeys.delete_outlived(at=at, kind="last-resort")
        if by is not None and ledger is not None:
            ledger.record_all([_record(files, by, history)])

    return SealedPackage(
        files,
        sender=name,
        ownership=ownership,
        forward_secrecy=_forward_secrecy(by, prekey),
        on_success=commit,
        on_close=lambda: os.close(descriptor),
    )


def _record(files: reader.PackageFiles, by: Identity, sender: History) -> Record:
    return Record(
        event="opened",
        actor=by.history.identity,
        partner=sender.identity,
        model=files.manifest.content,
        package=files.header.core.package,
    )


def read_package_front(package: Path, descriptor: int) -> Front:
    """The front of a package, through the journal of an interrupted change if there is one.

    The lock is `add_recipient`'s: without it a reader in that moment could see half of each.
    """
    with suppress(OSError):  # a file system without locks: then the signature decides
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        return reader.read_front(descriptor, data=amend.pending_front(package, descriptor))
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _forward_secrecy(by: Identity | None, prekey: str | None) -> ForwardSecrecy:
    """What the sender sealed to. A content key that was kept has none, whatever it came with."""
    if by is None or prekey is None:
        return "none"
    return by.prekeys.kind(prekey) or "none"


def _unlock(
    front: Front,
    by: Identity | None,
    passphrase: bytes | None,
    seen: SeenBook,
) -> tuple[ContentKey, str | None]:
    if passphrase is not None:
        return reader.unlock_passphrase(front, passphrase), None
    if by is None:
        raise UnknownPartner("no identity to open with")
    core = front.header.core
    kept = seen.kept_key(core)
    if kept is not None:
        content = ContentKey(by.unprotect(kept, label=_KEPT), core.package)
        content.check(core.commitment)
        return content, None
    return reader.unlock(front, by)
