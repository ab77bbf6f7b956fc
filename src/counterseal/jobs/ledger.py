"""Look at ledgers: show, verify, prove, export. Recording is `Ledger.record`, by whoever acts."""

from __future__ import annotations

import os
import stat
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from counterseal.errors import FormatError
from counterseal.exchange.whole import whole_file, whole_folder
from counterseal.ledger import entry as entries
from counterseal.ledger import ledger, note, proof, verify
from counterseal.ledger.keys import LogKeys
from counterseal.ledger.ledger import PUBLISH_SECONDS, Ledger
from counterseal.ledger.log import LOCK_SECONDS
from counterseal.ledger.proof import Proof
from counterseal.ledger.reader import TileReader, fetch_bounded
from counterseal.ledger.tiles import CHECKPOINT, KEY, limit_of, tiles_of
from counterseal.trust import atomic
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from counterseal.ledger.checkpoint import Checkpoint
    from counterseal.ledger.entry import Entry
    from counterseal.ledger.keys import Seen
    from counterseal.ledger.reader import Fetch
    from counterseal.ledger.store import Store
    from counterseal.trust.history import History
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity

__all__ = [
    "Facts",
    "check_proof",
    "earlier_checkpoint",
    "export",
    "folder",
    "local",
    "names",
    "open_alone",
    "open_ledger",
    "prove",
    "show",
    "verify_ledger",
]

_FOLDER: Final = "ledgers"


@dataclass(frozen=True, slots=True)
class Facts:
    """A ledger at its last checkpoint. `signatures`: its own two and those of witnesses."""

    origin: str
    entries: int
    root: str
    at: datetime
    signatures: int
    keys: tuple[str, str]


def open_ledger(
    name: str,
    *,
    by: Identity,
    home: Home,
    store: Store | None = None,
    group_seconds: float | None = None,
    publish_seconds: float = PUBLISH_SECONDS,
) -> Ledger:
    """The ledger `name` of `by` in its home, to record in; it is begun if it is not there.

    Other processes may have it open as well. `store`: where it is, if not in the home.
    """
    home.ensure()
    return Ledger.open(
        name,
        by=by,
        folder=home.path / _FOLDER,
        store=store,
        shared=True,
        group_seconds=group_seconds,
        publish_seconds=publish_seconds,
    )


def open_alone(name: str, *, by: Identity, home: Home, store: Store | None = None) -> Ledger:
    """The same, as its only writer: who shares it waits, for what must be done by one."""
    home.ensure()
    return Ledger.open(name, by=by, folder=home.path / _FOLDER, store=store, wait=LOCK_SECONDS)


def names(home: Home, owner: str) -> list[str]:
    return ledger.names(home.path / _FOLDER, owner)


@contextmanager
def local(name: str, *, home: Home, owner: str) -> Iterator[Fetch]:
    """A ledger of ours as others see it; works while somebody records in it."""
    static, store = ledger.static(home.path / _FOLDER, owner, name)
    with closing(store):
        yield static


def folder(path: Path) -> Fetch:
    """An exported ledger. Its files are a stranger's: plain ones only, of bounded length."""

    def fetch(name: str) -> bytes:
        limit = limit_of(name)  # nothing but the names of a ledger
        try:
            descriptor = os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise
        except OSError as error:  # a link, a folder that is a file
            raise FormatError(f"{path / name} is not a plain file ({error.strerror})") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FormatError(f"{path / name} is not a plain file")
        with os.fdopen(descriptor, "rb") as file:
            return file.read(limit + 1)

    return fetch


def show(fetch: Fetch, *, owner: History, last: int) -> tuple[Facts, list[tuple[int, Entry]]]:
    """The last checkpoint and the `last` entries under it, each checked up to the root."""
    keys, seen = _published(fetch, owner)
    reader = TileReader(fetch, seen.checkpoint)
    found: list[tuple[int, Entry]] = []
    start = max(reader.size - last, 0)
    if start < reader.size:
        for first, some in reader.bundles(start, reader.size):
            found += [(index, entries.decode(data)) for index, data in enumerate(some, first)]
    return _facts(keys, seen), found


def verify_ledger(
    fetch: Fetch,
    *,
    owner: History,
    earlier: Path | None = None,
) -> Facts:
    """Verify everything under the last checkpoint, and that it goes on from an `earlier` one."""
    keys = _keys(fetch, owner)
    before = None if earlier is None else earlier_checkpoint(earlier, keys)
    seen = verify.verify(fetch, keys, earlier=before)
    return _facts(keys, seen)


def earlier_checkpoint(path: Path, keys: LogKeys) -> Checkpoint:
    """A checkpoint that was kept: a file of its own, or of an earlier export."""
    place = path / CHECKPOINT if path.is_dir() else path
    data = atomic.read_bounded(place, limits.LEDGER_NOTE_BYTES, what="checkpoint")
    return keys.open(data).checkpoint


def prove(fetch: Fetch, index: int, output: Path, *, owner: History) -> tuple[Facts, Proof]:
    """Write the proof that a published entry stands in the ledger."""
    keys, seen = _published(fetch, owner)
    made = proof.prove(fetch, seen, index)
    made.check(keys)
    with whole_file(output) as descriptor:
        _write(descriptor, made.encode())
    return _facts(keys, seen), made


def check_proof(path: Path, statement: bytes, *, owner: History) -> tuple[Facts, int, Entry]:
    """Check a proof file without the ledger: with its owner's statement of the keys."""
    keys = LogKeys.verify(statement, of=owner)
    found = Proof.parse(atomic.read_bounded(path, limits.LEDGER_PROOF_BYTES, what="proof"))
    seen = found.check(keys)
    if found.entry is None:
        raise FormatError("the proof comes without its entry")
    return _facts(keys, seen), found.index, entries.decode(found.entry)


def export(fetch: Fetch, output: Path, *, owner: History) -> Facts:
    """Write the ledger as a folder of files that any web server can serve.

    What was written is verified before the folder appears.
    """
    statement = fetch_bounded(fetch, KEY)
    _, seen = _published(fetch, owner)  # one checkpoint, whatever is recorded meanwhile
    with whole_folder(output) as place:
        _put(place / KEY, statement)
        _put(place / CHECKPOINT, seen.note)
        for tile in tiles_of(seen.checkpoint.size):
            _put(place / tile.path, fetch_bounded(fetch, tile.path))
        return verify_ledger(folder(place), owner=owner)


def _keys(fetch: Fetch, owner: History) -> LogKeys:
    return LogKeys.verify(fetch_bounded(fetch, KEY), of=owner)


def _published(fetch: Fetch, owner: History) -> tuple[LogKeys, Seen]:
    keys = _keys(fetch, owner)
    return keys, keys.open(fetch_bounded(fetch, CHECKPOINT))


def _facts(keys: LogKeys, seen: Seen) -> Facts:
    return Facts(
        origin=keys.origin,
        entries=seen.checkpoint.size,
        root=seen.checkpoint.root.hex(),
        at=_moment(seen.time),
        signatures=len(note.split(seen.note)[1]),
        keys=keys.texts,
    )


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise FormatError("the checkpoint was signed outside of the calendar") from None


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
