"""A ledger: the log of an identity, kept in its home, with its keys and its records.

    with Ledger.open("scan", by=lab, folder=home.path / "ledgers") as ledger:
        receipt = ledger.record(Record(event="call", actor=clinic, input=x, output=y))
        ...                             # durable; receipt.key goes to the partner
        ledger.publish()                # a checkpoint that everybody can verify

`record` waits for the disk, together with whoever else waits. With `group_seconds` a thread
writes at that pace and `note` need not wait: up to that much is lost if the machine fails. With
`group_seconds=0` it writes as soon as something waits, and what came meanwhile goes together:
whoever must not answer before a record is durable waits for `done`.

Several processes write one ledger if each opens it `shared`, after it was forked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from counterseal.crypto.derive import KEY_BYTES, Deriver
from counterseal.errors import (
    FormatError,
    LedgerBroken,
    RevokedKey,
    RolledBack,
    UnknownPartner,
)
from counterseal.ledger import entry as entries
from counterseal.ledger import keys
from counterseal.ledger import log as logs
from counterseal.ledger.keys import LogKeys, LogSigner, origin_of
from counterseal.ledger.log import Log
from counterseal.ledger.mark import HomeMark, marked
from counterseal.ledger.pulse import Pulse
from counterseal.ledger.store import SqliteStore
from counterseal.ledger.stored import Static, first_rows
from counterseal.ledger.tiles import KEY
from counterseal.trust.identity import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from counterseal.ledger.entry import Record
    from counterseal.ledger.log import Done
    from counterseal.ledger.note import NoteKey
    from counterseal.ledger.store import Store
    from counterseal.trust.identity import Identity
    from counterseal.trust.store import Store as Records

__all__ = ["Ledger", "Receipt", "names", "path_of", "static"]

_KEYS: Final = "private/keys"
_COMMITMENTS: Final = "private/commitments"
PUBLISH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a record stands. `key` opens its commitments: for the partner whose call it was.

    `index`: None as long as it is not written (`note`).
    """

    index: int | None
    id: bytes
    key: bytes


def path_of(folder: Path, owner: str, name: str) -> Path:
    check_name(name)
    return folder / owner / f"{name}.db"


def names(folder: Path, owner: str) -> list[str]:
    """The ledgers of one of our identities."""
    return sorted(path.stem for path in (folder / owner).glob("*.db"))


def static(folder: Path, owner: str, name: str) -> tuple[Static, Store]:
    """What of a ledger everybody may see; needs no key, and works beside its writer."""
    try:
        store = SqliteStore(path_of(folder, owner, name))
    except FileNotFoundError:
        raise UnknownPartner(
            f'"{owner}" has no ledger "{name}" here', hint="counterseal ledger show"
        ) from None
    return Static(store), store


class Ledger:
    """Make or open one with `open`. Thread-safe."""

    def __init__(
        self,
        log: Log,
        store: Store,
        by: Identity,
        name: str,
        *,
        marks: Records,
        clock: Callable[[], datetime],
        group_seconds: float | None,
        publish_seconds: float,
    ) -> None:
        self.name = name
        self._log, self._store, self._by = log, store, by
        self._marks, self._clock = marks, clock
        self._publish_seconds = publish_seconds
        self._protected = b""
        self._refresh()
        self._pulse = (
            None
            if group_seconds is None
            else Pulse(
                log,
                group=group_seconds,
                publish=self.publish_if_due,
                seconds=publish_seconds,
            )
        )

    @classmethod
    def open(
        cls,
        name: str,
        *,
        by: Identity,
        folder: Path | None = None,
        store: Store | None = None,
        shared: bool = False,
        wait: float | None = None,
        group_seconds: float | None = None,
        publish_seconds: float = PUBLISH_SECONDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Ledger:
        """Open the ledger `name` of `by`, or begin it. It is ours alone until `close`.

        `shared`: it is ours only while something is written or published; others wait for that.
        `wait`: how long to wait until it is free [not at all; 30 seconds if it is `shared`].
        `folder`: where ledgers are kept (`home.path / "ledgers"`); or a `store` of another kind.
        `publish_seconds`: how often the thread publishes, which `group_seconds` starts.
        Raises RolledBack or LedgerBroken rather than go on from an older or another history.
        """
        check_name(name)
        if store is None:
            if folder is None:
                raise ValueError("a ledger needs a folder or a store")
            path = path_of(folder, by.name, name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            store = SqliteStore(path, create=True)
        origin = origin_of(by.history.identity, name)
        marks = by.store.another()  # the thread that publishes needs a connection of its own
        try:
            if wait is None:
                wait = logs.LOCK_SECONDS if shared else 0
            store.lock(wait=wait)  # before anything is read
            signer = _signer(store, by, name, origin, at=clock())
            log = Log(store, signer, HomeMark(marks, signer.keys), shared=shared)
            ledger = cls(
                log,
                store,
                by,
                name,
                marks=marks,
                clock=clock,
                group_seconds=group_seconds,
                publish_seconds=publish_seconds,
            )
            if log.empty:
                ledger.publish()  # a partner can begin to watch before anything has happened
        except BaseException:
            store.close()
            marks.close()
            raise
        return ledger

    @property
    def size(self) -> int:
        return self._log.size

    @property
    def alive(self) -> bool:
        """Whether it still takes notes. Not after a write failed: it has to be opened again."""
        return self._log.alive and (self._pulse is None or self._pulse.alive)

    def record(self, record: Record) -> Receipt:
        """Write a record down; it is durable when this returns."""
        return self.record_all([record])[0]

    def record_all(self, records: Sequence[Record]) -> list[Receipt]:
        """Write several records down in one transaction."""
        made = [self._make(record) for record in records]
        indexes = self._log.append_all([data for data, _, _ in made])
        return [
            Receipt(index, id_, key) for index, (_, id_, key) in zip(indexes, made, strict=True)
        ]

    def note(self, record: Record, done: Done | None = None) -> Receipt:
        """Write a record down soon: with the group, with the next `record`, or at `settle`.

        `done(error, index)` is called once, by the thread that writes, when the record is
        durable (`error` is None) or never will be. It must neither wait nor raise.
        """
        if self._pulse is not None:
            self._pulse.check()
        data, id_, key = self._make(record)
        self._log.submit(data, done)
        return Receipt(None, id_, key)

    def settle(self) -> None:
        """Return when everything noted is durable."""
        self._log.settle()

    def publish(self) -> bytes:
        """Sign a checkpoint over everything noted so far."""
        self._refresh()
        return self._log.publish(time=int(self._clock().timestamp()))

    def publish_if_due(self) -> None:
        """Publish what is not yet, unless somebody else has published just now."""
        seen = self._log.seen
        ago = None if seen is None else abs(self._clock().timestamp() - seen.time)
        if self._log.unpublished and (ago is None or ago >= self._publish_seconds):
            self.publish()

    def attach(self, lines: bytes, *, witness: Sequence[NoteKey]) -> None:
        """Publish a witness's cosignature with the last checkpoint; it must be good."""
        self._log.attach(lines, witness=witness)

    def read(self, path: str) -> bytes:
        """What partners may fetch: `checkpoint`, `key.json`, `tile/...`; else FileNotFoundError."""
        return self._log.read(path)

    def forget_commitments(self) -> None:
        """Destroy the key of all commitments so far: nobody can link them to payloads any more.

        The tree still verifies. Partners keep the keys of their own calls. Another process that
        has this ledger open takes the new key when it publishes next.
        """
        self._store.commit(put=[(_COMMITMENTS, _protected_commitments(self._by, self.name))])
        self._refresh()
        self._store.purge()

    def close(self) -> None:
        """Write and publish everything, and let another process have the ledger."""
        try:
            if self._pulse is not None:
                self._pulse.stop()
            if self._log.unpublished:
                self.publish()
        finally:
            self._log.close()
            self._marks.close()

    def _refresh(self) -> None:
        """Take the key of commitments that is there now: another process may have changed it."""
        protected = _required(self._store, _COMMITMENTS)
        if protected != self._protected:
            label = _label(_COMMITMENTS, self.name)
            self._key = self._by.unprotect(protected, label=label)
            self._deriver = Deriver(self._key)
            self._protected = protected

    def _make(self, record: Record) -> tuple[bytes, bytes, bytes]:
        id_ = os.urandom(entries.ID_BYTES) if record.id is None else record.id
        if len(id_) != entries.ID_BYTES:
            raise FormatError(f"the id of a record has {entries.ID_BYTES} bytes")
        entries.check(record)
        key = entries.record_key(self._deriver, id_)
        return entries.encode(entries.make(record, id=id_, key=key, at=self._clock())), id_, key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Ledger {self.name} of {self._by.name}>"


def _signer(store: Store, by: Identity, name: str, origin: str, *, at: datetime) -> LogSigner:
    """The keys of the ledger; new ones if it is new, with our statement about them."""
    protected = store.get(_KEYS)
    if protected is not None:
        private = by.unprotect(protected, label=_label(_KEYS, name))
        signer = LogSigner.parse(origin, private)
        try:
            LogKeys.verify(_required(store, KEY), of=by.history)
        except RevokedKey:  # of the card that stated them: the keys of the log are not its own
            store.commit(put=[(KEY, keys.state(signer.keys, name, by=by, at=at))])
        return signer
    if marked(by.store, origin) is not None:
        raise RolledBack(
            f'the file of the ledger "{name}" is gone',
            hint="bring back its newest copy, or begin one with another name",
        )
    signer = LogSigner.generate(origin)
    store.commit(
        new=[
            *first_rows(),
            (_KEYS, by.protect(signer.encode(), label=_label(_KEYS, name))),
            (_COMMITMENTS, _protected_commitments(by, name)),
            (KEY, keys.state(signer.keys, name, by=by, at=at)),
        ]
    )
    return signer


def _protected_commitments(by: Identity, name: str) -> bytes:
    return by.protect(os.urandom(KEY_BYTES), label=_label(_COMMITMENTS, name))


def _required(store: Store, path: str) -> bytes:
    found = store.get(path)
    if found is None:
        raise LedgerBroken("the ledger's keys are gone from its store")
    return found


def _label(what: str, name: str) -> str:
    return f"ledger {what.removeprefix('private/')} {name}"
