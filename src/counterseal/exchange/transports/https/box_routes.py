"""Letters and the notice board."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from counterseal.errors import CountersealError, FormatError
from counterseal.exchange.boxes import Box
from counterseal.exchange.transports.https.fields import tags
from counterseal.exchange.transports.https.limits import BOXES, POSTING_BYTES
from counterseal.exchange.transports.https.messages import Later, Response, read_all
from counterseal.exchange.transports.https.problems import nothing, problem
from counterseal.exchange.transports.https.protocol import BYTES, JSON, RECIPIENT, Posting, split
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32

if TYPE_CHECKING:
    from counterseal.exchange.transports.https.call import Call

__all__ = ["delete", "listing", "notice", "post", "put_up", "read"]


def post(call: Call) -> Response:
    call.desk.postings.take(call.who, at=call.at)
    data = read_all(call.request.body, limit=POSTING_BYTES)
    posting = canonical.decode(data, Posting, limit=POSTING_BYTES, what="posting")
    if len(posting.letter) > limits.LETTER_BYTES:
        raise FormatError("the letter is too long")
    call.check_recipient(posting.recipient)
    box = call.parts["box"]
    identifier, new = call.desk.shelf.post(
        box,
        posting.letter,
        split(posting.blocks),
        by=call.who,
        to=posting.recipient,
        at=call.at,
    )
    location = f"/v1/boxes/{box}/letters/{identifier}"
    return Response(201 if new else 200, headers={"location": location})


def listing(call: Call) -> Response | Later:
    boxes = call.request.query.get("box", [])
    after = call.request.query.get("after", [""])[-1]
    if len(boxes) > BOXES or not all(map(_is_box, boxes)) or (after and not _is_box(after)):
        raise FormatError("these are not boxes")
    found = call.desk.shelf.listing(boxes, reader=call.who, after=after)
    wait = call.wait()
    if not found.letters and wait:
        return Later(wait)
    headers = {"content-type": JSON, "cache-control": "no-store"}
    return Response(200, canonical.encode(found), headers)


def read(call: Call) -> Response:
    data = call.desk.shelf.read(call.parts["box"], call.parts["identifier"], reader=call.who)
    if data is None:
        return nothing()
    return Response(200, data, {"content-type": BYTES, "cache-control": "no-store"})


def delete(call: Call) -> Response:
    gone = call.desk.shelf.delete(call.parts["box"], call.parts["identifier"], reader=call.who)
    return Response(204) if gone else nothing()


def put_up(call: Call) -> Response:
    """Conditional always: without a condition, an update by another process would be lost."""
    call.desk.postings.take(call.who, at=call.at)
    headers = call.request.headers
    to = headers.get(RECIPIENT, "")
    if not _is(to, Hex32):
        raise FormatError(f"{RECIPIENT} is the identity of the recipient")
    call.check_recipient(to)
    expected = tags(headers["if-match"]) if "if-match" in headers else None
    new = tags(headers.get("if-none-match", "")) == {"*"}
    if expected is None and not new:
        hint = "If-Match: its ETag, or If-None-Match: *"
        return problem(CountersealError("say which notice you replace", hint=hint), 428)
    data = read_all(call.request.body, limit=limits.LETTER_BYTES)
    etag = call.desk.shelf.put_up(
        call.parts["box"], data, by=call.who, to=to, expected=expected, new=new
    )
    return Response(204, headers={"etag": etag})


def notice(call: Call) -> Response:
    stored = call.desk.shelf.notice(call.parts["box"], reader=call.who)
    if stored is None:
        return nothing()
    headers = {"etag": stored.tag, "cache-control": "private, no-cache"}
    if tags(call.request.headers.get("if-none-match", "")) & {stored.tag, "*"}:
        return Response(304, headers=headers)
    return Response(200, stored.data, headers | {"content-type": BYTES})


def _is_box(text: str) -> bool:
    return _is(text, Box)


def _is(text: str, kind: object) -> bool:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True
