"""An open package: verified, decrypted on demand, nothing on disk unless it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from counterseal.errors import FormatError
from counterseal.exchange import workers
from counterseal.exchange.payload import write_all
from counterseal.jobs import extraction
from counterseal.models import inspection, loading
from counterseal.models.files import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from counterseal.exchange.header import Header
    from counterseal.exchange.reader import PackageFiles
    from counterseal.jobs.statements import Ownership
    from counterseal.models.formats import Framework
    from counterseal.models.manifest import ManifestDocument
    from counterseal.trust.prekeys import ForwardSecrecy

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
        forward_secrecy: ForwardSecrecy,
        on_success: Callable[[], None],
        on_close: Callable[[], None],
    ) -> None:
        self.files = files
        self.sender = sender
        self.owner = ownership
        self.forward_secrecy = forward_secrecy
        self._on_success = on_success
        self._on_close = on_close
        self._tensors: loading.TensorIndex | None = None
        self._inspected = False
        self._closed = False

    @property
    def manifest(self) -> ManifestDocument:
        return self.files.manifest.document

    @property
    def forward_secret(self) -> bool:
        """Whether nobody can open this package any more once we have used it.

        Not if it was sealed to a last-resort prekey, which lives for some weeks:
        `forward_secrecy` tells them apart.
        """
        return self.forward_secrecy == "one-time"

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
        return extraction.extract(
            self.files, Path(output), replace=replace, progress=progress, threads=threads
        )

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
