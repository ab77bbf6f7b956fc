"""Seal a model for partners."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, cast

from counterseal.crypto.passphrase import Cost
from counterseal.errors import FormatError
from counterseal.exchange import stream, writer
from counterseal.exchange.payload import write_all
from counterseal.exchange.plan import ForKeys, ForPassphrase, Plan, StatementMaker
from counterseal.exchange.sent import SentBook
from counterseal.exchange.whole import whole_file
from counterseal.jobs import statements
from counterseal.jobs.package import SealedPackage
from counterseal.ledger.entry import Record
from counterseal.models import inspection, names, objects
from counterseal.models.files import Files, FolderFiles, MemoryFiles, read
from counterseal.models.statement import SIGNATURE_NAME
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.partner import Partner
from counterseal.trust.prekeys import prekey_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from counterseal.exchange.plan import Sealed
    from counterseal.jobs.journal import Writes
    from counterseal.trust.identity import Identity

__all__ = ["Receipt", "recipient_of", "seal"]

_HEAD_BYTES: Final = 1 << 16
_STREAM_NAME: Final = "model"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was sealed. `digest` names the contents, whatever package they travel in.

    `forward_secret` were sealed to a one-time prekey, `last_resort` to a prekey that they delete
    within three weeks; the others have no forward secrecy.
    """

    output: str | None
    package: str
    model: str
    version: int
    digest: str
    files: int
    bytes: int
    package_bytes: int
    recipients: tuple[str, ...]
    forward_secret: tuple[str, ...]
    last_resort: tuple[str, ...]
    statement: bool
    expires: datetime | None
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    files: Files
    model: str
    layout: Literal["file", "folder"]
    skipped: tuple[str, ...] = ()
    signature: str | None = None


def seal(
    source: Path | str | SealedPackage | IO[bytes] | Any,
    *,
    by: Identity,
    to: Partner | CardDocument | Sequence[Partner | CardDocument] = (),
    output: Path | str | IO[bytes],
    passphrase: bytes | None = None,
    model: str | None = None,
    version: int | None = None,
    file_name: str = _STREAM_NAME,
    expires: datetime | timedelta | None = None,
    charter: str | None = None,
    statement: bool = True,
    keep_key: bool = True,
    replace: bool = False,
    overdue: timedelta = timedelta(0),
    cost: Cost | None = None,
    at: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
    ledger: Writes | None = None,
) -> Receipt:
    """Seal `source` so that only the partners in `to` can open it, and know that we sealed it.

    `source` is a file or folder, an open package (to pass it on), a binary stream, or an
    object of a supported framework. `passphrase` replaces `to` and stands alone. `statement`
    adds the OpenSSF model-signing statement, which costs a SHA-256 of everything.
    `file_name` is what the file in a stream is called: its ending says how it loads.
    `keep_key` keeps the content key here, so that recipients can be added later. `overdue` is how
    late news of a partner may be who once gave us a directory. `ledger` has an entry for each
    recipient, once the package is there.

    Raises UnsafeFormat for files that could run code, ExpiredKey or RevokedKey if a card is
    not in force or a directory has ended, FileExistsError if `output` exists. `output` appears
    whole or not at all.
    """
    at = at or datetime.now(UTC)
    by.current(at=at)
    partners = [to] if isinstance(to, Partner | CardDocument) else list(to)
    if (passphrase is None) == (not partners):
        raise FormatError(
            "a package is sealed either for partners or for one passphrase",
            hint="a passphrase beside other recipients would be the weakest of them",
        )
    sent = SentBook(by)
    if passphrase is not None:
        recipients: tuple[ForKeys, ...] | ForPassphrase = ForPassphrase(passphrase, cost or Cost())
    else:
        recipients = tuple(
            recipient_of(partner, sent, at=at, overdue=overdue) for partner in partners
        )
    names.check_names([file_name])
    streamed = hasattr(source, "read") and not isinstance(source, SealedPackage)
    found = _Source(MemoryFiles({}), "model", "file") if streamed else _find(source, statement)
    name = model or found.model
    if name != _model_name(name):  # no recipient could open a package of that name
        raise FormatError(
            f"{name!a} cannot be the name of a model", hint=f"perhaps {_model_name(name)}"
        )
    maker: StatementMaker | None = None
    if statement and found.signature is not None:
        maker = statements.carry(found.signature, layout=found.layout, by=by)
    if statement and maker is None:
        maker = statements.make(by=by, model=name, layout=found.layout, at=at)
    plan = Plan(
        model=name,
        version=version or sent.next_version(name),
        layout=found.layout,
        media_types={} if streamed else inspection.inspect(found.files),
        recipients=recipients,
        created=at,
        expires=at + expires if isinstance(expires, timedelta) else expires,
        charter=charter,
        statement=maker,
    )
    used = [p for r in recipients for p in r.spends] if isinstance(recipients, tuple) else []
    with _output(output, replace=replace) as (descriptor, spool):
        if streamed:
            sealed = _seal_stream(
                cast("IO[bytes]", source),
                plan,
                file_name=file_name,
                by=by,
                output=descriptor,
                spool=spool,
                progress=progress,
            )
        else:
            sealed = writer.write(
                found.files, plan, by=by, output=descriptor, progress=progress, threads=threads
            )
        sent.commit(sealed, prekeys=used, keep_key=keep_key and passphrase is None)
    if ledger is not None:
        ledger.record_all(_records(sealed, partners, by))
    return _receipt(output, sealed, found, partners, recipients)


def _records(
    sealed: Sealed, partners: Sequence[Partner | CardDocument], by: Identity
) -> list[Record]:
    """One for each recipient; one for a package that is for a passphrase."""
    to: list[str | None] = [
        (p if isinstance(p, Partner) else History.verify(p)).identity for p in partners
    ]
    return [
        Record(
            event="sealed",
            actor=by.history.identity,
            partner=identity,
            model=sealed.manifest.content,
            package=sealed.header.core.package,
        )
        for identity in to or [None]
    ]


def recipient_of(
    partner: Partner | CardDocument,
    sent: SentBook,
    *,
    at: datetime,
    overdue: timedelta = timedelta(0),
) -> ForKeys:
    """The keys to seal to: the card in force, and a prekey if one is at hand.

    A one-time prekey as long as there is one, then their last-resort prekey.
    """
    if isinstance(partner, CardDocument):
        current = History.verify(partner).current(at=at)
        return ForKeys(current.key_id, current.card.agreement.key())
    partner.usable(at=at, overdue=overdue)
    current = partner.history.current(at=at)
    key = current.card.agreement.key()
    place = sent.prekey_for(partner, at=at)
    if place is not None and partner.prekeys is not None:
        public = partner.prekeys.keys[place]
        return ForKeys(current.key_id, key, (prekey_id(public), public.key()))
    last = sent.last_resort_for(partner, at=at)
    if last is not None:
        return ForKeys(current.key_id, key, (prekey_id(last), last.key()), last_resort=True)
    return ForKeys(current.key_id, key)


def _find(source: Any, statement: bool) -> _Source:  # noqa: FBT001
    if isinstance(source, SealedPackage):
        carried = source.manifest
        return _Source(source.files, carried.model, carried.layout, signature=carried.statement)
    if not isinstance(source, str | os.PathLike):
        files = objects.to_files(source)
        return _Source(files, "model", "file" if len(files.names()) == 1 else "folder")
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    apart = [SIGNATURE_NAME] if statement and path.is_dir() else []
    on_disk, skipped = names.walk(path, skip=apart)
    signature = None
    if apart and (path / SIGNATURE_NAME).is_file():
        signature = _read_signature(path)
    layout: Literal["file", "folder"] = "folder" if path.is_dir() else "file"
    model = path.resolve().name if path.is_dir() else path.stem
    return _Source(on_disk, _model_name(model), layout, skipped, signature)


def _read_signature(folder: Path) -> str:
    files = FolderFiles(folder, {SIGNATURE_NAME: folder / SIGNATURE_NAME})
    try:
        return read(files, SIGNATURE_NAME).decode()
    except UnicodeDecodeError:
        raise FormatError(f'"{SIGNATURE_NAME}" is not a model statement') from None


def _model_name(text: str) -> str:
    """The nearest allowed model name: letters, digits, dot, underscore, hyphen."""
    allowed = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text)
    return (allowed.lstrip("._-") or "model")[:128]


def _seal_stream(
    source: IO[bytes],
    plan: Plan,
    *,
    file_name: str,
    by: Identity,
    output: int,
    spool: Path,
    progress: Callable[[int, int], None] | None,
) -> Sealed:
    """A stream is judged by its beginning; the receiver judges the whole before using it."""
    head = source.read(_HEAD_BYTES) or b""
    if head.startswith(b"PK"):
        raise FormatError(
            "an archive cannot be checked while it streams", hint="seal the file itself"
        )
    # Under a name that claims nothing: a format's own check would want the whole file.
    media = inspection.inspect(MemoryFiles({_STREAM_NAME: head}))[_STREAM_NAME]
    return stream.write_stream(
        _Joined(head, source),
        file_name,
        dataclasses.replace(plan, media_types={file_name: media}),
        by=by,
        output=output,
        spool_folder=spool,
        progress=progress,
    )


class _Joined:
    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
            return part
        return self._rest.read(size)


@contextmanager
def _output(output: Path | str | IO[bytes], *, replace: bool) -> Iterator[tuple[int, Path]]:
    if isinstance(output, str | os.PathLike):
        path = Path(output)
        with whole_file(path, replace=replace) as descriptor:
            yield descriptor, path.parent
        return
    with tempfile.TemporaryFile() as spool:  # ciphertext only
        yield spool.fileno(), Path(tempfile.gettempdir())
        spool.seek(0)
        while data := spool.read(1 << 20):
            write_all(output, memoryview(data))
        output.flush()


def _receipt(
    output: Path | str | IO[bytes],
    sealed: Sealed,
    found: _Source,
    partners: Sequence[Partner | CardDocument],
    recipients: tuple[ForKeys, ...] | ForPassphrase,
) -> Receipt:
    document = sealed.manifest.document
    called = [p.name if isinstance(p, Partner) else History.verify(p).name for p in partners]
    kinds = [r.forward_secrecy for r in recipients] if isinstance(recipients, tuple) else []
    return Receipt(
        output=str(output) if isinstance(output, str | os.PathLike) else None,
        package=sealed.header.core.package,
        model=document.model,
        version=document.version,
        digest=sealed.manifest.content,
        files=len(document.files),
        bytes=sum(entry.bytes for entry in document.files),
        package_bytes=sealed.header.size,
        recipients=tuple(called),
        forward_secret=tuple(n for n, k in zip(called, kinds, strict=True) if k == "one-time"),
        last_resort=tuple(n for n, k in zip(called, kinds, strict=True) if k == "last-resort"),
        statement=document.statement is not None,
        expires=sealed.header.core.expires,
        skipped=found.skipped,
    )
