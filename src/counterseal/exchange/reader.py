"""Read a package. Nothing is used before it is verified; the rules, in order (SPEC 4):

1. Magic and lengths are in range; the header is canonical and complete.
2. The sender is the one the caller names, and the card that signed is in force for the time
   the package was made; both signatures over the header are good.
3. The file is exactly as long as signed; the stanzas have the signed digest; between them and
   the body there are only zeros.
4. The package has not ended.
5. Our stanza opens with our keys, and the key is the committed one.
6. The encrypted manifest has the signed digest; it decrypts; its names are harmless and its
   sizes fill the rest of the package exactly.
7. Each leaf, when it is asked for: the message's key commitment and signed salt, every AEAD
   tag, the signed digest. Only then are its bytes handed over.

Receiver state (replay, rollback) is `replay`'s, between 6 and 7.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from counterseal.crypto.chunked import leaf_count, sealed_bytes
from counterseal.crypto.digest import LEAF_BYTES, equal, sha256
from counterseal.errors import BadCiphertext, BadSignature, FormatError
from counterseal.exchange import header as headers
from counterseal.exchange import layout, stanza, workers
from counterseal.exchange.header import PACKAGE_TYPE, Header
from counterseal.exchange.payload import open_leaf, pread_exactly, read_prefix
from counterseal.models.manifest import Manifest
from counterseal.trust import signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from counterseal.crypto.chunked import ChunkedMessage
    from counterseal.exchange.keys import ContentKey
    from counterseal.exchange.stanza import Stanza
    from counterseal.exchange.workers import Scratch
    from counterseal.trust.history import DatedCard, History
    from counterseal.trust.identity import Identity
    from counterseal.wire.dsse import Envelope

__all__ = ["Front", "PackageFiles", "read_front", "unlock", "unlock_passphrase"]

PARALLEL_BYTES: Final = 4 * LEAF_BYTES  # below this, one thread is done before two have started


@dataclass(frozen=True, slots=True)
class Front:
    """What stands before the body, parsed but not yet believed."""

    lengths: layout.Lengths
    envelope: Envelope
    header: Header
    stanzas: bytes

    def parse_stanzas(self) -> tuple[Stanza, ...]:
        return stanza.parse(self.stanzas, recipients=self.header.recipients)

    def verify(self, sender: History, *, at: datetime) -> None:
        """Rules 2 and 4, and the digest of rule 3."""
        core = self.header.core
        self._check_signature(
            sender, lambda: sender.for_signature(self.header.card, made=core.created, at=at)
        )
        core.check_time(at=at)

    def verify_ours(self, ours: History, *, at: datetime) -> None:
        """The same for a package that we sealed, perhaps with keys that we replaced long ago."""
        self._check_signature(ours, lambda: ours.unrevoked(self.header.card))
        self.header.core.check_time(at=at)

    def _check_signature(self, sender: History, card: Callable[[], DatedCard]) -> None:
        core = self.header.core
        if core.sender != sender.identity:
            raise BadSignature(
                f'this package was not sealed by "{sender.name}"',
                hint="counterseal inspect shows the key id of its sender",
            )
        signed.verify(self.envelope, PACKAGE_TYPE, by=card().card.signing.key())
        if not equal(sha256(self.stanzas).hex().encode(), self.header.stanzas.encode()):
            raise BadSignature("the recipient stanzas are not those that were signed")


def read_front(descriptor: int, *, data: bytes | None = None) -> Front:
    """Rules 1 and 3. `data` stands for the first bytes of the file (an unfinished `amend`)."""

    def part(offset: int, length: int) -> bytes:
        if data is not None and offset + length <= len(data):
            return data[offset : offset + length]
        buffer = bytearray(length)
        pread_exactly(descriptor, memoryview(buffer), offset)
        return bytes(buffer)

    size = os.fstat(descriptor).st_size
    lengths = layout.parse_fixed(part(0, min(layout.FIXED_BYTES, size)))
    if lengths.end > size:
        raise BadCiphertext("the package is cut short")
    envelope, header = headers.parse(part(layout.FIXED_BYTES, lengths.header))
    if header.size != size:
        raise BadCiphertext(
            f"the package has {size} bytes instead of {header.size}: cut or extended",
            hint="fetch it again",
        )
    if not lengths.end <= header.body <= layout.MAX_BODY:
        raise FormatError("the body's offset is out of range")
    stanzas = part(layout.FIXED_BYTES + lengths.header, lengths.stanzas)
    if part(lengths.end, header.body - lengths.end) != bytes(header.body - lengths.end):
        raise BadCiphertext(
            "there is something between the stanzas and the body", hint="fetch it again"
        )
    return Front(lengths, envelope, header, stanzas)


def unlock(front: Front, identity: Identity) -> tuple[ContentKey, str | None]:
    """Rule 5 with our keys: the content key, and the id of the prekey that was used up.

    Call only after `front.verify`. Raises BadCiphertext if it is not for us.
    """
    package = front.header.core.package
    stanzas = front.parse_stanzas()
    by_hint = {s.hint: s for s in stanzas if isinstance(s, stanza.KeyStanza)}
    for card, opener in identity.openers():
        found = by_hint.get(stanza.hint(package, card))
        if found is None:
            continue
        if not found.forward_secret:
            return found.open(front.header.core, card=card, by=opener, prekey=None), None
        for prekey in identity.prekeys.ids():
            if equal(stanza.prekey_hint(package, prekey), found.prekey_hint):
                half = identity.prekeys.opener(prekey, partner=front.header.core.sender)
                if half is not None:
                    pair = (prekey, half)
                    key = found.open(front.header.core, card=card, by=opener, prekey=pair)
                    return key, prekey
        raise BadCiphertext(
            "the one-time prekey this was sealed with is not here any more",
            hint="opening a package deletes its prekey, and a backup holds none: "
            "ask the sender to seal it again",
        )
    if by_hint:
        raise BadCiphertext(
            "this package is not sealed for this identity",
            hint="counterseal id show prints the key id the sender must have pinned",
        )
    raise BadCiphertext(
        "this package needs a passphrase", hint="counterseal open --with-passphrase"
    )


def unlock_passphrase(front: Front, passphrase: bytes) -> ContentKey:
    """Rule 5 with a passphrase."""
    only = front.parse_stanzas()[0]
    if not isinstance(only, stanza.PassphraseStanza):
        raise BadCiphertext("this package is sealed for keys, not for a passphrase")
    return only.open(front.header.core, passphrase)


class PackageFiles:
    """The files inside a package whose front was verified: rules 6 and 7.

    Safe to read from several threads. Whoever opened the descriptor closes it.
    """

    def __init__(self, descriptor: int, front: Front, key: ContentKey) -> None:
        self._descriptor = descriptor
        self._key = key
        self.header = front.header
        self.manifest = self._open_manifest()
        self._index = {e.name: i for i, e in enumerate(self.manifest.document.files)}
        self._starts = self._check_sizes()
        self._messages: dict[int, ChunkedMessage] = {}
        self._lock = threading.Lock()
        self._spare: list[Scratch] = []
        self._recent_lock = threading.Lock()
        self._recent: Scratch | None = None
        self._recent_leaf: tuple[int, int] | None = None

    def names(self) -> Sequence[str]:
        return list(self._index)

    def size(self, name: str) -> int:
        return self.manifest.document.files[self._number(name)].bytes

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Decrypt what is asked, whole leaves straight into `buffer`; large reads in parallel."""
        number = self._number(name)
        end = offset + len(buffer)
        if offset < 0 or end > self.size(name):
            raise FormatError(f'"{name}" has {self.size(name)} bytes, not {offset}+{len(buffer)}')
        leaves = range(offset // LEAF_BYTES, -(-end // LEAF_BYTES))

        def task(leaf: int) -> Callable[[Scratch], int]:
            return lambda scratch: self._read_leaf(number, leaf, offset, buffer, scratch)

        threads = None if len(buffer) >= PARALLEL_BYTES else 1
        workers.run(
            map(task, leaves),
            total=len(buffer),
            count=len(leaves),
            threads=threads,
            spare=self._spare,
        )

    def leaf_tasks(
        self, name: str, sink: Callable[[int, memoryview], None]
    ) -> Iterator[Callable[[Scratch], int]]:
        """One task for each leaf, which hands (offset, verified bytes) to `sink`.

        The last one also checks the message's end, so a full set of tasks proves the length.
        """
        number = self._number(name)
        message = self._message(number)

        def task(leaf: int) -> Callable[[Scratch], int]:
            def run(scratch: Scratch) -> int:
                start, length, _, _ = message.leaf_range(leaf)
                plain = scratch.plain[:length]
                self._open(number, leaf, plain, scratch.sealed)
                sink(start, plain)
                return length

            return run

        return map(task, range(leaf_count(message.size)))

    def _read_leaf(
        self, number: int, leaf: int, offset: int, buffer: memoryview, scratch: Scratch
    ) -> int:
        start, length, _, _ = self._message(number).leaf_range(leaf)
        low, high = max(start, offset), min(start + length, offset + len(buffer))
        target = buffer[low - offset : high - offset]
        if len(target) == length:
            self._open(number, leaf, target, scratch.sealed)
        else:
            self._copy_part(number, leaf, range(low - start, high - start), target)
        return len(target)

    def _copy_part(self, number: int, leaf: int, part: range, target: memoryview) -> None:
        """A leaf of which only a part is wanted; it is kept, because small reads come in rows."""
        _, length, _, _ = self._message(number).leaf_range(leaf)
        with self._recent_lock:
            if self._recent is None:
                self._recent = workers.borrow()
            plain = self._recent.plain[:length]
            if self._recent_leaf != (number, leaf):
                self._recent_leaf = None  # should it fail, nothing is there
                self._open(number, leaf, plain, self._recent.sealed)
                self._recent_leaf = (number, leaf)
            target[:] = plain[part.start : part.stop]

    def _open(self, number: int, leaf: int, plain: memoryview, sealed: memoryview) -> None:
        digest = self.manifest.leaf(number, leaf) if len(plain) else b""
        open_leaf(
            self._descriptor,
            self._message(number),
            leaf,
            plain,
            sealed,
            at=self._starts[number],
            digest=digest,
        )

    def _message(self, number: int) -> ChunkedMessage:
        with self._lock:
            if number not in self._messages:
                prefix = read_prefix(self._descriptor, self._starts[number])
                entry = self.manifest.document.files[number]
                message = self._key.file_message(number, entry.bytes, prefix=prefix)
                if not equal(message.salt, entry.salt):
                    raise BadCiphertext("the payload is not what its sender signed")
                self._messages[number] = message
            return self._messages[number]

    def _number(self, name: str) -> int:
        if name not in self._index:
            raise FormatError(
                f'there is no file "{name}" in this package',
                hint=f"it has: {', '.join(list(self._index)[:8])}",
            )
        return self._index[name]

    def _open_manifest(self) -> Manifest:
        core = self.header.core
        sealed = bytearray(core.manifest_bytes)
        pread_exactly(self._descriptor, memoryview(sealed), self.header.body)
        if not equal(sha256(sealed).hex().encode(), core.manifest.encode()):
            raise BadCiphertext("the manifest is not the one that was signed")
        size = layout.plain_bytes(len(sealed))
        message = self._key.manifest_message(size, prefix=bytes(sealed[: layout.PREFIX_BYTES]))
        return Manifest.decode(message.open_whole(bytes(sealed)))

    def _check_sizes(self) -> list[int]:
        at = self.header.body + self.header.core.manifest_bytes
        starts = []
        for entry in self.manifest.document.files:
            starts.append(at)
            at += sealed_bytes(entry.bytes)
        if at != self.header.size:
            raise FormatError("the files do not fill the package")
        return starts

    def forget(self) -> None:
        """Wipe decrypted bytes that were kept for speed."""
        with self._recent_lock:
            kept = self._spare if self._recent is None else [*self._spare, self._recent]
            self._recent, self._recent_leaf = None, None
            for scratch in kept:
                workers.give_back(scratch)
            self._spare.clear()
