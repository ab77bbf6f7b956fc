"""Write a package: payload first, then the manifest that lists it, then the signed header.

The header stands at the front but is written last, so half a package is never readable as
one; the output appears under its name only when everything is durable (`whole`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from counterseal.crypto.chunked import SALT_BYTES, leaf_count, sealed_bytes
from counterseal.crypto.digest import sha256
from counterseal.exchange import front, layout, stanza, workers
from counterseal.exchange import header as headers
from counterseal.exchange.header import Core
from counterseal.exchange.keys import ContentKey
from counterseal.exchange.payload import FileSealing, pwrite_all
from counterseal.exchange.plan import Plan, Sealed
from counterseal.models.manifest import FileEntry, Manifest, ManifestDocument, padded_bytes
from counterseal.wire import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from counterseal.models.files import Files
    from counterseal.trust.identity import Identity

__all__ = ["blank_document", "finish", "write"]


def write(
    source: Files,
    plan: Plan,
    *,
    by: Identity,
    output: int,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> Sealed:
    """Seal all files of `source` into descriptor `output`, from offset 0, which must be empty."""
    listed = list(source.names())
    sizes = [source.size(name) for name in listed]
    blank = blank_document(plan, listed, sizes)
    content = ContentKey.generate()
    manifest_plain = padded_bytes(blank, sizes)
    body = layout.body_offset(front.stanza_bytes(plan.recipients), sum(sizes))
    at = body + sealed_bytes(manifest_plain)
    sealings = []
    for index, size in enumerate(sizes):
        message = content.file_message(index, size)
        sealings.append(
            FileSealing(message, at=at, output=output, with_sha256=plan.statement is not None)
        )
        at += sealed_bytes(size)
    try:
        workers.run(
            (
                task
                for name, sealing in zip(listed, sealings, strict=True)
                for task in sealing.tasks(source, name)
            ),
            total=sum(sizes),
            count=sum(leaf_count(size) for size in sizes),
            progress=progress,
            threads=threads,
        )
    finally:
        for sealing in sealings:
            sealing.close()
    manifest = fill(blank, sealings, plan)
    return finish(plan, content, manifest, manifest_plain, by=by, output=output, body=body, size=at)


def finish(
    plan: Plan,
    content: ContentKey,
    manifest: Manifest,
    manifest_plain: int,
    *,
    by: Identity,
    output: int,
    body: int,
    size: int,
) -> Sealed:
    """Encrypt the manifest, make the stanzas, sign the header: the payload is there already."""
    sealed = content.manifest_message(manifest_plain).seal_whole(manifest.encode(manifest_plain))
    pwrite_all(output, memoryview(sealed), body)
    core = Core(
        kind="package",
        format=1,
        suite=headers.SUITE,
        package=content.package,
        sender=by.history.identity,
        created=canonical.timestamp(plan.created),
        expires=None if plan.expires is None else canonical.timestamp(plan.expires),
        charter=plan.charter,
        commitment=content.commitment(),
        manifest=sha256(sealed).hex(),
        manifest_bytes=len(sealed),
    )
    stanzas = front.make_stanzas(content, core, plan.recipients)
    header, data = front.build(
        core,
        stanza.encode(stanzas),
        recipients=len(stanzas),
        body=body,
        size=size,
        by=by,
        at=plan.created,
    )
    pwrite_all(output, memoryview(data), 0)
    return Sealed(header, manifest, content)


def blank_document(plan: Plan, listed: Sequence[str], sizes: Sequence[int]) -> ManifestDocument:
    """The manifest as long as it will be, before anything is hashed."""
    statement = plan.statement
    blank_digest = None if statement is None else "0" * 64
    entries = tuple(
        FileEntry(
            name=name,
            media_type=plan.media_types[name],
            bytes=size,
            salt=bytes(SALT_BYTES),
            sha256=blank_digest,
        )
        for name, size in zip(listed, sizes, strict=True)
    )
    return ManifestDocument(
        kind="manifest",
        format=1,
        model=plan.model,
        version=plan.version,
        layout=plan.layout,
        files=entries,
        owner=None if statement is None else statement.owner,
        statement=None if statement is None else statement.placeholder(entries),
    )


def fill(blank: ManifestDocument, sealings: Sequence[FileSealing], plan: Plan) -> Manifest:
    """The manifest with the digests that the sealing found, and the owner's statement on them."""
    entries = tuple(
        msgspec.structs.replace(e, salt=s.message.salt, sha256=s.sha256)
        for e, s in zip(blank.files, sealings, strict=True)
    )
    leaves = b"".join(bytes(sealing.leaves) for sealing in sealings)
    bare = Manifest(blank.with_files(entries, statement=blank.statement), leaves)
    if plan.statement is None:
        return bare
    text = plan.statement.make(entries, bare.content)
    return Manifest(blank.with_files(entries, statement=text), leaves)
