"""Seal a stream of unknown length, and copy a finished package to one."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Protocol

from counterseal.crypto.chunked import sealed_bytes
from counterseal.crypto.digest import LEAF_BYTES
from counterseal.exchange import front, layout, workers, writer
from counterseal.exchange.keys import ContentKey
from counterseal.exchange.payload import FileSealing, pread_exactly, pwrite_all
from counterseal.models.manifest import MAX_FILE_BYTES, padded_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from counterseal.exchange.plan import Plan, Sealed
    from counterseal.trust.identity import Identity


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


__all__ = ["Readable", "copy_range", "write_stream"]


def write_stream(
    stream: Readable,
    name: str,
    plan: Plan,
    *,
    by: Identity,
    output: int,
    spool_folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Sealed:
    """Seal everything `stream` gives as the one file `name`.

    Where the payload starts depends on the manifest, which depends on the whole payload: the
    *ciphertext* is spooled in `spool_folder` first. No plaintext touches a disk.
    """
    content = ContentKey.generate()
    message = content.file_message(0, MAX_FILE_BYTES)  # until the end is seen
    scratch = workers.Scratch()
    with tempfile.TemporaryFile(dir=spool_folder) as spool:
        sealing = FileSealing.streaming(
            message, spool.fileno(), with_sha256=plan.statement is not None
        )
        size, leaf, ended = 0, 0, False
        while not ended:
            filled = _fill(stream, scratch.plain)
            ended = filled < LEAF_BYTES
            size += filled
            if ended:
                message.size = size
            sealing.stream_leaf(scratch, leaf, filled)
            leaf += 1
            if progress is not None:
                progress(size, 0)
        blank = writer.blank_document(plan, [name], [size])
        manifest_plain = padded_bytes(blank, [size])
        body = layout.body_offset(front.stanza_bytes(plan.recipients), size)
        start = body + sealed_bytes(manifest_plain)
        copy_range(spool.fileno(), output, sealed_bytes(size), target_at=start)
    manifest = writer.fill(blank, [sealing], plan)
    end = start + sealed_bytes(size)
    return writer.finish(
        plan, content, manifest, manifest_plain, by=by, output=output, body=body, size=end
    )


def copy_range(
    source: int, target: int, length: int, *, source_at: int = 0, target_at: int = 0
) -> None:
    """Copy `length` bytes between descriptors at given offsets."""
    buffer = memoryview(bytearray(LEAF_BYTES))
    done = 0
    while done < length:
        part = buffer[: min(LEAF_BYTES, length - done)]
        pread_exactly(source, part, source_at + done)
        pwrite_all(target, part, target_at + done)
        done += len(part)


def _fill(stream: Readable, buffer: memoryview) -> int:
    filled = 0
    while filled < len(buffer):
        data = stream.read(len(buffer) - filled)
        if not data:
            break
        buffer[filled : filled + len(data)] = data
        filled += len(data)
    return filled
