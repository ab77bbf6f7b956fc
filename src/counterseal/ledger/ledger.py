"""A ledger: the log of an identity, kept in its home, with its keys and its records.

    with Ledger.open("scan", by=lab, folder=home.path / "ledgers") as ledger:
        receipt = ledger.record(Record(event="call", actor=clinic, input=x, output=y))
        ...                             # durable; receipt.key goes to the partner
        ledger.publish()                # a checkpoint that everybody can verify

`record` waits for the disk, together with whoever else waits. With `group_seconds` a thread
writes at that pace and `note` need not wait: up to that much is lost if the machine fails.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, Self

from counterseal.crypto.derive import KEY_BYTES
from counterseal.errors import (
    CountersealError,
    FormatError,
    LedgerBroken,
    RevokedKey,
    RolledBack,
    UnknownPartner,
)
from counterseal.ledger import entry as entries
from counterseal.ledger import keys
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.keys import LogKeys, LogSigner, origin_of
from counterseal.ledger.log import Log, Static, first_rows
from counterseal.ledger.store import SqliteStore
from counterseal.ledger.tiles import KEY
from counterseal.trust.identity import check_name
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from counterseal.ledger.entry import Record
    from counterseal.ledger.note import NoteKey
    from counterseal.ledger.store import Store
    from counterseal.trust.identity import Identity
    from counterseal.trust.store import Store as Records

__all__ = ["Ledger", "Receipt", "names", "path_of", "static"]

_KEYS: Final = "private/keys"
_COMMITMENTS: Final = "private/commitments"
_MARK: Final = "ledger"
PUBLISH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a record stands. `key` opens its commitments: for the partner whose call it was."""

    index: int
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
    ) -> None:
        self.name = name
        self._log, self._store, self._by = log, store, by
        self._marks, self._clock = marks, clock
        self._key = by.unprotect(_required(store, _COMMITMENTS), label=_label(_COMMITMENTS, name))
        self._pulse = None if group_seconds is None else _Pulse(self, group_seconds)

    @classmethod
    def open(
        cls,
        name: str,
        *,
        by: Identity,
        folder: Path | None = None,
        store: Store | None = None,
        group_seconds: float | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Ledger:
        """Open the ledger `name` of `by`, or begin it. It is ours alone until `close`.

        `folder`: where ledgers are kept (`home.path / "ledgers"`); or a `store` of another kind.
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
            store.lock()  # before anything is read
            signer = _signer(store, by, name, origin, at=clock())
            log = Log(store, signer, _Mark(marks, signer.keys))
            ledger = cls(
                log, store, by, name, marks=marks, clock=clock, group_seconds=group_seconds
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

    def record(self, record: Record) -> Receipt:
        """Write a record down; it is durable when this returns."""
        receipt = self.note(record)
        self._log.settle(receipt.index + 1)
        return receipt

    def record_all(self, records: Sequence[Record]) -> list[Receipt]:
        """Write several records down in one transaction."""
        made = [self._make(record) for record in records]
        indexes = self._log.append_all([data for data, _, _ in made])
        return [
            Receipt(index, id_, key) for index, (_, id_, key) in zip(indexes, made, strict=True)
        ]

    def note(self, record: Record) -> Receipt:
        """Write a record down soon: with the group, with the next `record`, or at `settle`."""
        if self._pulse is not None:
            self._pulse.check()
        data, id_, key = self._make(record)
        return Receipt(self._log.submit(data), id_, key)

    def settle(self) -> None:
        """Return when everything noted is durable."""
        self._log.settle()

    def publish(self) -> bytes:
        """Sign a checkpoint over everything noted so far."""
        return self._log.publish(time=int(self._clock().timestamp()))

    def attach(self, lines: bytes, *, witness: Sequence[NoteKey]) -> None:
        """Publish a witness's cosignature with the last checkpoint; it must be good."""
        self._log.attach(lines, witness=witness)

    def read(self, path: str) -> bytes:
        """What partners may fetch: `checkpoint`, `key.json`, `tile/...`; else FileNotFoundError."""
        return self._log.read(path)

    def forget_commitments(self) -> None:
        """Destroy the key of all commitments so far: nobody can link them to payloads any more.

        The tree still verifies. Partners keep the keys of their own calls.
        """
        self._key = _new_commitments(self._store, self._by, self.name)
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

    def _make(self, record: Record) -> tuple[bytes, bytes, bytes]:
        id_ = os.urandom(entries.ID_BYTES) if record.id is None else record.id
        if len(id_) != entries.ID_BYTES:
            raise FormatError(f"the id of a record has {entries.ID_BYTES} bytes")
        key = entries.record_key(self._key, id_)
        data = entries.encode(entries.make(record, id=id_, key=key, at=self._clock()))
        entries.decode(data)  # what is not in the form would break the ledger for every reader
        return data, id_, key

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


class _Pulse:
    """The thread that writes what is noted, and publishes, at its pace."""

    def __init__(self, ledger: Ledger, seconds: float) -> None:
        self._ledger, self._seconds = ledger, seconds
        self._ended = threading.Event()
        self._error: CountersealError | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        published = time.monotonic()
        while not self._ended.wait(self._seconds):
            try:
                self._ledger.settle()
                if time.monotonic() - published >= PUBLISH_SECONDS:
                    published = time.monotonic()
                    if self._ledger._log.unpublished:  # noqa: SLF001 - a part of it
                        self._ledger.publish()
            except CountersealError as error:
                self._error = error
                return

    def check(self) -> None:
        """Nothing is noted that nobody would write."""
        if not self._thread.is_alive():
            raise CountersealError(
                "the ledger takes no more notes: its thread has ended", hint="open it again"
            ) from self._error

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


class _MarkDocument(Message, frozen=True):
    kind: Literal["ledger-mark"]
    format: Literal[1]
    keys: tuple[str, str]
    size: int
    root: Hex32


class _Mark:
    """In the state of the home: a copy of the ledger's file does not bring its mark along."""

    def __init__(self, records: Records, log: LogKeys) -> None:
        self._records, self._log = records, log

    def get(self) -> Checkpoint | None:
        found = _marked(self._records, self._log.origin)
        if found is None:
            return None
        if found.keys != self._log.texts:
            raise LedgerBroken(
                "this is another ledger than the one that was signed under this name",
                hint="bring back its file, or begin one with another name",
            )
        return Checkpoint(self._log.origin, found.size, bytes.fromhex(found.root))

    def put(self, checkpoint: Checkpoint) -> None:
        document = _MarkDocument(
            kind="ledger-mark",
            format=1,
            keys=self._log.texts,
            size=checkpoint.size,
            root=checkpoint.root.hex(),
        )
        self._records.put(_MARK, self._log.origin, canonical.encode(document))


def _marked(records: Records, origin: str) -> _MarkDocument | None:
    data = records.get(_MARK, origin)
    if data is None:
        return None
    return canonical.decode(
        data, _MarkDocument, limit=limits.LEDGER_KEY_BYTES, what="mark of a ledger"
    )


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
    if _marked(by.store, origin) is not None:
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


def _new_commitments(store: Store, by: Identity, name: str) -> bytes:
    protected = _protected_commitments(by, name)
    store.commit(put=[(_COMMITMENTS, protected)])
    return by.unprotect(protected, label=_label(_COMMITMENTS, name))


def _required(store: Store, path: str) -> bytes:
    found = store.get(path)
    if found is None:
        raise LedgerBroken("the ledger's keys are gone from its store")
    return found


def _label(what: str, name: str) -> str:
    return f"ledger {what.removeprefix('private/')} {name}"
