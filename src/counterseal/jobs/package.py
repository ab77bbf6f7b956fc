"""An open package: verified, decrypted on demand, nothing on disk unless it is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from counterseal.crypto.chunked import leaf_count
from counterseal.errors import FormatError
from counterseal.exchange import workers
from counterseal.exchange.payload import pwrite_all, write_all
from counterseal.exchange.whole import whole_file, whole_folder
from counterseal.models import inspection, loading
from counterseal.models.statement import SIGNATURE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from counterseal.exchange.header import Header
    from counterseal.exchange.reader import PackageFiles
    from counterseal.jobs.statements import Ownership
    from counterseal.models.formats import Framework
    from counterseal.models.manifest import ManifestDocument

__all__ = ["SealedPackage"]


class SealedPackage:
    """What `open_sealed` returns; use it with `with`.

    Leaving the block without an error uses up the one-time prekey, if the package was sealed
    to one and the key was not to be kept. After an error everything is as before.
    """

    def __init__(
        self,
        files: PackageFiles,
        *,
        sender: str,
        ownership: Ownership,
        forward_secret: bool,
        on_success: Callable[[], None],
        on_close: Callable[[], None],
    ) -> None:
        self.files = files
        self.sender = sender
        self.owner = ownership
        self.forward_secret = forward_secret
        self._on_success = on_success
        self._on_close = on_close
        self._tensors: loading.TensorIndex | None = None
        self._inspected = False
        self._closed = False

    @property
    def manifest(self) -> ManifestDocument:
        return self.files.manifest.document

    @property
    def header(self) -> Header:
        return self.files.header

    @property
    def digest(self) -> str:
        """Names the contents: equal for every package they are sealed in."""
        return self.files.manifest.content

    def names(self) -> Sequence[str]:
        return self.files.names()

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytearray:
        """Decrypt a part of one file; only the leaves that cover it are touched."""
        self._check_open()
        from counterseal.models.files import read

        return read(self.files, name, offset, length)

    def load(
        self,
        *,
        file: str | None = None,
        framework: Framework | None = None,
        trusted: Sequence[str] = (),
    ) -> Any:
        """Load the model into memory with its framework; see `models.loading.load`."""
        self._inspect()
        return loading.load(self.files, file=file, framework=framework, trusted=tuple(trusted))

    def tensor_names(self) -> Sequence[str]:
        return self._index().names()

    def tensor(self, name: str, *, framework: Framework | None = None) -> Any:
        """Decrypt one tensor, and nothing else but the leaves it lies in."""
        return self._index().tensor(name, framework=framework)

    def tensors(
        self, prefix: str = "", *, framework: Framework | None = None
    ) -> Iterator[tuple[str, Any]]:
        return self._index().tensors(prefix, framework=framework)

    def extract(
        self,
        output: Path | str,
        *,
        replace: bool = False,
        progress: Callable[[int, int], None] | None = None,
        threads: int | None = None,
    ) -> Path:
        """Write the plaintext to `output`, whole or not at all; returns where it is.

        A one-file package becomes a file (inside `output` if that is a folder), others a
        folder that must not exist. The owner's statement lies beside, as `model.sig` or
        `FILE.sig`. Raises UnsafeFormat before anything is written.
        """
        self._inspect()
        target = Path(output)
        if self.manifest.layout == "file":
            return self._extract_file(target, replace=replace, progress=progress, threads=threads)
        if SIGNATURE_NAME in self.names() and self.manifest.statement is not None:
            raise FormatError(f'the package holds a file "{SIGNATURE_NAME}" and a statement')
        with whole_folder(target) as folder:
            self._fill(folder, progress, threads)
            if self.manifest.statement is not None:
                (folder / SIGNATURE_NAME).write_text(self.manifest.statement)
        return target

    def write_to(self, stream: IO[bytes]) -> None:
        """Write the one file of the package to a stream, leaf by verified leaf.

        A reader downstream may have used a beginning whose end then turns out to be changed;
        the error says so. To a file, use `extract`.
        """
        self._inspect()
        if len(self.names()) != 1:
            raise FormatError("only a package of one file can go to a stream")
        name = self.names()[0]
        tasks = self.files.leaf_tasks(name, lambda _, data: write_all(stream, data))
        workers.run(tasks, total=self.files.size(name), count=1)
        stream.flush()

    def close(self, *, used: bool = True) -> None:
        """End it; `used=False` leaves the one-time prekey for another try."""
        if self._closed:
            return
        self._closed = True
        try:
            if used:
                self._on_success()
        finally:
            self.files.forget()
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(used=kind is None)

    def _extract_file(
        self,
        target: Path,
        *,
        replace: bool,
        progress: Callable[[int, int], None] | None,
        threads: int | None,
    ) -> Path:
        name = self.names()[0]
        if "/" in name:  # a folder in it could be a link that leads somewhere else
            raise FormatError("the one file of the package is named as if it were in a folder")
        if target.is_dir():
            target /= name
        signature = target.with_name(f"{target.name}.sig")
        statement = self.manifest.statement
        if statement is not None and not replace and os.path.lexists(signature):
            raise FileExistsError(f"{signature} exists")
        with whole_file(target, replace=replace) as descriptor:
            self._write_leaves(name, descriptor, progress, threads)
            if statement is not None:
                with whole_file(signature, replace=replace) as beside:
                    pwrite_all(beside, memoryview(statement.encode()), 0)
        return target

    def _write_leaves(
        self,
        name: str,
        descriptor: int,
        progress: Callable[[int, int], None] | None,
        threads: int | None,
    ) -> None:
        size = self.files.size(name)
        tasks = self.files.leaf_tasks(
            name, lambda start, data: pwrite_all(descriptor, data, start)
        )
        count = leaf_count(size)
        workers.run(tasks, total=size, count=count, progress=progress, threads=threads)

    def _fill(
        self, folder: Path, progress: Callable[[int, int], None] | None, threads: int | None
    ) -> None:
        sizes = [self.files.size(name) for name in self.names()]

        def tasks() -> Iterator[Callable[[workers.Scratch], int]]:
            for name in self.names():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                yield from self._file_tasks(name, os.open(path, flags, 0o644))

        workers.run(
            tasks(),
            total=sum(sizes),
            count=sum(leaf_count(size) for size in sizes),
            progress=progress,
            threads=threads,
        )

    def _file_tasks(
        self, name: str, descriptor: int, closing: Callable[[int], None]
    ) -> Iterable[Callable[[workers.Scratch], int]]:
        """Tasks that write one file; the last to finish makes it durable and closes it."""
        remaining = leaf_count(self.files.size(name))

        def counted(
            task: Callable[[workers.Scratch], int],
        ) -> Callable[[workers.Scratch], int]:
            def run(scratch: workers.Scratch) -> int:
                nonlocal remaining
                done = task(scratch)
                remaining -= 1
                if not remaining:
                    os.fsync(descriptor)
                    closing(descriptor)  # before: a number may be given out again at once
                    os.close(descriptor)
                return done

            return run

        tasks = self.files.leaf_tasks(
            name, lambda start, data: pwrite_all(descriptor, data, start)
        )
        return map(counted, tasks)

    def _index(self) -> loading.TensorIndex:
        self._inspect()
        if self._tensors is None:
            self._tensors = loading.TensorIndex(self.files)
        return self._tensors

    def _inspect(self) -> None:
        """Refuse what could run code when loaded, whoever sealed it."""
        self._check_open()
        if not self._inspected:
            inspection.inspect(self.files)
            self._inspected = True

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the package is closed")
