"""Add a recipient: one more stanza and a new signature, whatever the size of the package.

Only the front changes, and it is changed in place, so a crash in between would leave neither
the old nor the new one. Hence a redo journal: the new front is first written whole beside the
package; readers that find the journal use it; whoever can write finishes the work.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final

from counterseal.crypto.digest import equal, sha256
from counterseal.errors import FormatError, TamperError
from counterseal.exchange import front, layout, stanza
from counterseal.exchange.payload import pread_exactly, pwrite_all
from counterseal.exchange.reader import Front, read_front
from counterseal.exchange.sent import SentBook
from counterseal.exchange.stream import copy_range
from counterseal.exchange.whole import whole_file
from counterseal.trust import atomic

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from counterseal.exchange.header import Header
    from counterseal.exchange.plan import ForKeys
    from counterseal.trust.identity import Identity

__all__ = ["add_recipient", "pending_front"]

_MAGIC: Final = b"counterseal journal 1\n"


def journal_path(package: Path) -> Path:
    return package.with_name(f".{package.name}.journal")


def pending_front(package: Path, descriptor: int) -> bytes | None:
    """The front that an interrupted `add_recipient` was about to write, if there is one.

    A journal that is not of this package is ignored: it may be left from one that was
    replaced since, and written over this one it would destroy it.
    """
    with contextlib.suppress(FileNotFoundError, FormatError, TamperError):
        data = atomic.read_bounded(journal_path(package), layout.MAX_BODY + 100, what="journal")
        digest, content = data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
        if (
            data.startswith(_MAGIC)
            and equal(digest, sha256(content))
            and _belongs(content, descriptor)
        ):
            return content
    return None


def _belongs(content: bytes, descriptor: int) -> bool:
    """Whether this front names the manifest that stands in the package's body."""
    header = read_front(descriptor, data=content).header
    sealed = bytearray(header.core.manifest_bytes)
    pread_exactly(descriptor, memoryview(sealed), header.body)
    return equal(sha256(sealed).hex().encode(), header.core.manifest.encode())


def add_recipient(package: Path, recipient: ForKeys, *, by: Identity, at: datetime) -> Header:
    """Seal the content key of `package` for one more recipient and sign the header again.

    Only the sender can: it needs the sender's keys and the kept content key. If the spare
    room is used up the package is written again, once, with more.
    """
    descriptor = _open_locked(package)
    try:
        pending = pending_front(package, descriptor)
        before = read_front(descriptor, data=pending)
        before.verify_ours(by.history, at=at)
        if pending is not None:  # only now: what is written into our package is what we signed
            _apply(package, descriptor, pending)
        stanzas = _with(before, recipient, by)
        core = before.header.core
        sealed = stanza.encode(stanzas)
        body, shift = before.header.body, 0
        if layout.body_offset(len(sealed), 0) > body:
            body = layout.body_offset(2 * len(sealed), before.header.size)
            shift = body - before.header.body
        header, data = front.build(
            core,
            sealed,
            recipients=len(stanzas),
            body=body,
            size=before.header.size + shift,
            by=by,
            at=at,
        )
        SentBook(by).spend(recipient.spends)
        if shift:
            _rewrite(package, descriptor, before, data)
        else:
            _replace_front(package, descriptor, data)
    finally:
        os.close(descriptor)
    return header


def _open_locked(package: Path) -> int:
    """Open for writing, alone. Another process may replace the file while we wait for it."""
    while True:
        descriptor = os.open(package, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if package.exists() and os.path.samestat(os.fstat(descriptor), package.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _with(before: Front, recipient: ForKeys, by: Identity) -> list[stanza.Stanza]:
    stanzas = list(before.parse_stanzas())
    if any(isinstance(existing, stanza.PassphraseStanza) for existing in stanzas):
        raise FormatError(
            "a package for a passphrase can have no other recipients",
            hint="the passphrase would be the weakest of them; seal the model again",
        )
    core = before.header.core
    hint = stanza.hint(core.package, recipient.card)
    if any(isinstance(s, stanza.KeyStanza) and s.hint == hint for s in stanzas):
        raise FormatError("this partner is a recipient already")
    content = SentBook(by).content_key(core.package)
    content.check(core.commitment)
    return [*stanzas, *front.make_stanzas(content, core, [recipient])]


def _replace_front(package: Path, descriptor: int, data: bytes) -> None:
    # The zeros up to the body are there already: a front only ever grows.
    content = data[: layout.parse_fixed(data).end]
    with whole_file(journal_path(package), replace=True) as journal:
        pwrite_all(journal, memoryview(_MAGIC + sha256(content) + content), 0)
    _apply(package, descriptor, content)


def _apply(package: Path, descriptor: int, content: bytes) -> None:
    pwrite_all(descriptor, memoryview(content), 0)
    os.fsync(descriptor)
    journal_path(package).unlink()


def _rewrite(package: Path, descriptor: int, before: Front, data: bytes) -> None:
    with whole_file(package, replace=True) as output:
        pwrite_all(output, memoryview(data), 0)
        length = before.header.size - before.header.body
        copy_range(descriptor, output, length, source_at=before.header.body, target_at=len(data))
