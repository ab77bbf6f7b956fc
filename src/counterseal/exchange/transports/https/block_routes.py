"""Blocks: HEAD, GET with Range, PUT, and uploads that continue (SPEC 14.3.4).

Uploads follow draft-ietf-httpbis-resumable-upload-12, interop version 8: a PUT that carries
Upload-Complete is told, in a 104 response, under which address it can be continued.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from counterseal.errors import BadCiphertext, CountersealError, FormatError
from counterseal.exchange.transports.https import fields
from counterseal.exchange.transports.https.limits import BLOCKS
from counterseal.exchange.transports.https.messages import Part, Response, read_all
from counterseal.exchange.transports.https.problems import nothing, problem
from counterseal.exchange.transports.https.protocol import (
    BYTES,
    JSON,
    PARTIAL,
    Missing,
    Names,
    Partial,
    join,
    split,
)
from counterseal.exchange.transports.https.uploads import file_sha256
from counterseal.wire import canonical

if TYPE_CHECKING:
    from counterseal.exchange.transports.https.call import Call
    from counterseal.exchange.transports.https.uploads import Upload

__all__ = ["append", "cancel", "get", "missing", "offset", "options", "put"]

NAMES_BYTES: Final = BLOCKS * 44 + 1024  # in base64


def missing(call: Call) -> Response:
    data = read_all(call.request.body, limit=NAMES_BYTES)
    names = canonical.decode(data, Names, limit=NAMES_BYTES, what="list of blocks").names
    absent, begun = call.desk.shelf.blocks.missing(call.who, split(names))
    partial = tuple(Partial(name=one.name, id=one.id, offset=one.offset) for one in begun)
    answer = Missing(kind="missing", names=join(absent), partial=partial)
    return Response(200, canonical.encode(answer), {"content-type": JSON})


def get(call: Call) -> Response:
    """Also HEAD. Names are digests: what one names never changes, so its tag is its name."""
    name, headers = call.parts["name"], call.request.headers
    path = call.desk.shelf.readable(name, reader=call.who)
    if path is None:
        return nothing()
    etag = fields.tag(name)
    said = {"etag": etag, "accept-ranges": "bytes", "cache-control": "private, immutable"}
    if fields.tags(headers.get("if-none-match", "")) & {etag, "*"}:
        return Response(304, headers=said)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # deleted meanwhile
        return nothing()
    try:
        size = os.fstat(descriptor).st_size
        whole = headers.get("if-range", etag) != etag
        asked = None if whole else fields.read_range(headers, size)
        if fields.wants_digest(headers):
            said["repr-digest"] = fields.digest_field(file_sha256(path))
    except ValueError:
        os.close(descriptor)
        error = CountersealError("the block is shorter than that")
        answer = problem(error, 416)
        answer.headers["content-range"] = f"bytes */{size}"
        return answer
    except BaseException:
        os.close(descriptor)
        raise
    said["content-type"] = BYTES
    if asked is None:
        return Response(200, Part(descriptor, 0, size), said)
    begin, length = asked
    said["content-range"] = f"bytes {begin}-{begin + length - 1}/{size}"
    return Response(206, Part(descriptor, begin, length), said)


def options(call: Call) -> Response:
    """How large a block may be (the draft's discovery)."""
    return Response(204, headers=_limits(call))


def put(call: Call) -> Response:
    request, blocks = call.request, call.desk.shelf.blocks
    name, headers = call.parts["name"], request.headers
    complete = fields.boolean(headers, "upload-complete")
    length = _announced(call, 0, complete=complete is not False)
    if length is None or length > call.desk.limits.block_bytes:
        answer = problem(FormatError("a block of this length is not taken"), 413)
        answer.headers |= _limits(call)
        return answer
    promised = fields.read_digest(headers, "repr-digest")
    if blocks.size(call.who, name) is not None:
        return Response(200, headers={"etag": fields.tag(name)})
    upload = blocks.begin(call.who, name, length, promised=promised)
    location = {"location": f"/v1/uploads/{upload.id}"}
    if complete is not None and headers.get(fields.INTEROP_FIELD) == fields.INTEROP:
        said = location | _limits(call) | {fields.INTEROP_FIELD: fields.INTEROP}
        request.interim(104, said)
    with upload.turn(request.body):
        answer = _take(call, upload, complete=complete is not False)
    if complete is False:
        answer.status = 201
        answer.headers |= location | _limits(call)
    return answer


def append(call: Call) -> Response:
    upload = _upload(call)
    if upload is None:
        return nothing()
    headers = call.request.headers
    complete = fields.boolean(headers, "upload-complete")
    offset = fields.integer(headers, "upload-offset")
    if headers.get("content-type") != PARTIAL or complete is None or offset is None:
        error = FormatError("an append has a type, Upload-Offset and Upload-Complete")
        return problem(error, 415 if headers.get("content-type") != PARTIAL else 400)
    with upload.turn(call.request.body):
        if offset != upload.offset:
            return _mismatch(upload, offset)
        if _announced(call, offset, complete=complete) not in {None, upload.length}:
            call.desk.shelf.blocks.cancel(upload)
            raise FormatError("the length of the upload has changed")
        return _take(call, upload, complete=complete)


def offset(call: Call) -> Response:
    """How far it is. An older request that still writes is ended first: the answer is final."""
    upload = _upload(call)
    if upload is None:
        return nothing()
    with upload.turn(call.request.body):
        said = {
            "upload-complete": "?0",
            "upload-offset": str(upload.offset),
            "upload-length": str(upload.length),
            "cache-control": "no-store",
        }
    return Response(204, headers=said | _limits(call))


def cancel(call: Call) -> Response:
    upload = _upload(call)
    if upload is None:
        return nothing()
    with upload.turn(call.request.body):
        call.desk.shelf.blocks.cancel(upload)
    return Response(204)


def _take(call: Call, upload: Upload, *, complete: bool) -> Response:
    """Append the content; if that was all, check it and give the block its name."""
    blocks = call.desk.shelf.blocks
    headers, body = call.request.headers, call.request.body
    if upload.offset + body.left > upload.length:
        blocks.cancel(upload)
        raise FormatError("more bytes than were announced")
    upload.append(body, promised=fields.read_digest(headers, "content-digest"))
    if not complete:
        said = {"upload-complete": "?0", "upload-offset": str(upload.offset)}
        return Response(204, headers=said)
    said = {"upload-complete": "?1", "etag": fields.tag(upload.name)}
    try:
        upload.verify()
    except (BadCiphertext, FormatError) as error:
        blocks.cancel(upload)
        answer = problem(error)
        answer.headers["upload-complete"] = "?1"
        return answer
    if fields.wants_digest(headers):
        said["repr-digest"] = fields.digest_field(upload.sha256())
    blocks.finish(upload)
    return Response(201, headers=said)


def _upload(call: Call) -> Upload | None:
    return call.desk.shelf.blocks.upload(call.who, call.parts["identifier"])


def _announced(call: Call, offset: int, *, complete: bool) -> int | None:
    """The length of the whole block, as this request says it; both ways must agree."""
    said = fields.integer(call.request.headers, "upload-length")
    meant = offset + call.request.body.left if complete else None
    if said is not None and meant is not None and said != meant:
        raise FormatError("the lengths of the upload contradict each other")
    return meant if said is None else said


def _mismatch(upload: Upload, provided: int) -> Response:
    answer = problem(FormatError(f"the upload is at {upload.offset}, not at {provided}"), 409)
    answer.headers |= {"upload-offset": str(upload.offset), "upload-complete": "?0"}
    return answer


def _limits(call: Call) -> dict[str, str]:
    limits = call.desk.limits
    age = int(limits.orphan_life.total_seconds())
    return {"upload-limit": f"max-size={limits.block_bytes}, max-age={age}"}
