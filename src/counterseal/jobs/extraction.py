"""Write the plaintext of a package to disk: leaf by verified leaf, whole or not at all."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final, Self

from counterseal.crypto.chunked import leaf_count
from counterseal.errors import FormatError
from counterseal.exchange import workers
from counterseal.exchange.payload import pwrite_all
from counterseal.exchange.whole import whole_file, whole_folder
from counterseal.models.statement import SIGNATURE_NAME
from counterseal.trust import atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from counterseal.exchange.reader import PackageFiles

    Task = Callable[[workers.Scratch], int]
    Progress = Callable[[int, int], None] | None

__all__ = ["extract"]

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def extract(
    files: PackageFiles,
    target: Path,
    *,
    replace: bool,
    progress: Progress,
    threads: int | None,
) -> Path:
    """Write all files to `target` and return where they are; see `SealedPackage.extract`."""
    document = files.manifest.document
    if document.layout == "file":
        return _one_file(files, target, replace=replace, progress=progress, threads=threads)
    if document.statement is not None and SIGNATURE_NAME in files.names():
        raise FormatError(f'the package holds a file "{SIGNATURE_NAME}" and a statement')
    with whole_folder(target) as folder, _Outputs(files, folder) as outputs:
        _run(files, outputs.tasks(), progress, threads)
        if document.statement is not None:
            atomic.write_whole(folder / SIGNATURE_NAME, document.statement.encode())
    return target


def _one_file(
    files: PackageFiles,
    target: Path,
    *,
    replace: bool,
    progress: Progress,
    threads: int | None,
) -> Path:
    name = files.names()[0]
    if target.is_dir():
        target /= name
    signature = target.with_name(f"{target.name}.sig")
    statement = files.manifest.document.statement
    if statement is not None and not replace and _differs(signature, statement.encode()):
        raise FileExistsError(f"{signature} exists")
    with whole_file(target, replace=replace) as descriptor:
        tasks = files.leaf_tasks(name, lambda start, data: pwrite_all(descriptor, data, start))
        _run(files, tasks, progress, threads)
        if statement is not None:
            with whole_file(signature, replace=True) as beside:
                pwrite_all(beside, memoryview(statement.encode()), 0)
    return target


def _differs(path: Path, content: bytes) -> bool:
    """Whether something else is there. The same statement is what a killed run may leave."""
    if not os.path.lexists(path):
        return False
    return not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content


def _run(
    files: PackageFiles, tasks: Iterator[Task], progress: Progress, threads: int | None
) -> None:
    sizes = [entry.bytes for entry in files.manifest.document.files]
    workers.run(
        tasks,
        total=sum(sizes),
        count=sum(leaf_count(size) for size in sizes),
        progress=progress,
        threads=threads,
    )


class _Outputs:
    """The files being written. Each is made durable and closed with its last leaf."""

    def __init__(self, files: PackageFiles, folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._lock = threading.Lock()
        self._remaining: dict[int, int] = {}  # descriptor -> leaves still to write

    def tasks(self) -> Iterator[Task]:
        for name in self._files.names():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, _NEW_FILE, 0o644)
            with self._lock:
                self._remaining[descriptor] = leaf_count(self._files.size(name))
            for task in self._leaves(name, descriptor):
                yield self._counted(task, descriptor)

    def _leaves(self, name: str, descriptor: int) -> Iterator[Task]:
        return self._files.leaf_tasks(name, lambda start, data: pwrite_all(descriptor, data, start))

    def _counted(self, task: Task, descriptor: int) -> Task:
        def run(scratch: workers.Scratch) -> int:
            done = task(scratch)
            with self._lock:
                self._remaining[descriptor] -= 1
                last = self._remaining[descriptor] == 0
                if last:
                    del self._remaining[descriptor]
            if last:
                os.fsync(descriptor)
                os.close(descriptor)
            return done

        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._remaining:  # after a failure
            os.close(descriptor)
