"""The data plane: the Open Inference Protocol v2 and the API of OpenAI.

    /v2, /v2/health/{live,ready}, /v2/models/M[/versions/V][/ready|/infer]
    /v1/models, /v1/embeddings, /v1/chat/completions

Everything but health and the server's own name needs a session.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from counterseal.errors import CountersealError, FormatError
from counterseal.gateway import oip
from counterseal.gateway.http.protocol import CERTIFICATE
from counterseal.gateway.pipeline import Arrival
from counterseal.gateway.refusals import PROBLEM, NotServedError, TooLarge, refusal
from counterseal.gateway.textwork import models_document, read_chat, read_embeddings
from counterseal.gateway.work import read_tensors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from starlette.types import Receive, Scope, Send

    from counterseal.gateway.desk import Desk
    from counterseal.gateway.pipeline import Answer, Pipeline
    from counterseal.gateway.registry import Offer
    from counterseal.gateway.served import Served
    from counterseal.gateway.sessions import Held
    from counterseal.gateway.tensors import Limits
    from counterseal.gateway.work import Draft

__all__ = ["Caller", "data_routes", "read_body", "respond"]

_JSON: Final = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_BEARER: Final = b"bearer "
_ONCE: Final = frozenset(
    {
        b"authorization",
        b"counterseal-purpose",
        b"counterseal-record",
        b"inference-header-content-length",
    }
)


class Caller:
    """Who a request is from, as far as its headers and its connection say."""

    __slots__ = ("address", "certificate", "headers", "repeats", "token")

    def __init__(self, scope: Scope) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.repeats = len(self.headers) != len(scope["headers"]) and _says_twice(scope["headers"])
        said = self.headers.get(b"authorization", b"")
        self.token = (
            said[len(_BEARER) :].decode("latin-1")
            if said[: len(_BEARER)].lower() == _BEARER
            else None
        )
        shown = scope.get("extensions", {}).get(CERTIFICATE)
        self.certificate: str | None = None if shown is None else shown["sha256"]
        client = scope.get("client")
        self.address = client[0] if client else ""

    def text(self, name: bytes) -> str | None:
        found = self.headers.get(name)
        return None if found is None else found.decode("latin-1")


def _says_twice(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    said = [name for name, _ in headers if name in _ONCE]
    return len(said) != len(set(said))


async def read_body(scope_headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes:
    """All of it, or TooLarge before it is read."""
    try:
        announced = int(scope_headers.get(b"content-length", b"0"))
    except ValueError:
        raise FormatError("`content-length` is no number") from None
    if announced > most:
        raise _too_large(most)
    if scope_headers.get(b"content-encoding", b"identity") != b"identity":
        raise FormatError("a compressed body is not read", hint="send it as it is")
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > most:
            raise _too_large(most)
        return body
    parts, count = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise FormatError("the request was cut off")
        parts.append(message.get("body", b""))
        count += len(parts[-1])
        if count > most:
            raise _too_large(most)
    return b"".join(parts)


async def respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


class _Calls:
    """POST of an inference: an ASGI application, for one surface."""

    def __init__(
        self,
        plane: _Plane,
        read: Callable[[Caller, Limits], Callable[[bytes], Draft]],
        *,
        openai: bool,
    ) -> None:
        self._plane, self._read, self._openai = plane, read, openai

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = Caller(scope)
        plane = self._plane
        try:
            if caller.repeats:
                raise FormatError("a header that may stand there once stands there twice")
            body = await read_body(caller.headers, receive, plane.desk.most_bytes)
        except CountersealError as error:
            await self._refuse(send, error)
            return
        path = scope["path_params"]
        answer = await plane.pipeline.call(
            Arrival(
                certificate=caller.certificate,
                token=caller.token,
                address=caller.address,
                purpose=caller.text(b"counterseal-purpose"),
                record=caller.text(b"counterseal-record"),
                model=path.get("model"),
                version=path.get("version"),
                body=body,
                read=self._read(caller, plane.limits),
            )
        )
        await self._send(send, answer)

    async def _send(self, send: Send, answer: Answer) -> None:
        headers, body = answer.headers, answer.body
        if answer.refused is not None:
            body = (
                answer.refused.openai_body() if self._openai else answer.refused.body(answer.record)
            )
            kind = b"application/json" if self._openai else PROBLEM.encode()
            headers = [*headers, (b"content-type", kind)]
        if answer.stream is None:
            await respond(send, answer.status, headers, body)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        async for piece in answer.stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, send: Send, error: CountersealError) -> None:
        said = refusal(error)
        body = said.openai_body() if self._openai else said.body(None)
        kind = b"application/json" if self._openai else PROBLEM.encode()
        await respond(send, said.status, [(b"content-type", kind)], body)


class _Look:
    """GET of something about models: needs a session, counts nothing."""

    def __init__(
        self, plane: _Plane, show: Callable[[_Plane, Held, Served, Mapping[str, str]], bytes]
    ) -> None:
        self._plane, self._show = plane, show

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        caller = Caller(scope)
        desk = self._plane.desk
        at = desk.clock.now()
        try:
            held, served = desk.meet(caller.token, caller.certificate, at=at)
            desk.check(held, served, at=at)
            body = self._show(self._plane, held, served, scope["path_params"])
        except CountersealError as error:
            said = refusal(error, at=at)
            headers = [(k.encode(), v.encode()) for k, v in said.all_headers().items()]
            headers.append((b"content-type", PROBLEM.encode()))
            await respond(send, said.status, headers, said.body(None))
            return
        await respond(send, 200, _JSON, body)


class _Plane:
    def __init__(self, desk: Desk, pipeline: Pipeline, limits: Limits) -> None:
        self.desk, self.pipeline, self.limits = desk, pipeline, limits


def data_routes(desk: Desk, pipeline: Pipeline, limits: Limits, *, name: str) -> list[Route]:
    """`name`: of the server, as its metadata say."""
    plane = _Plane(desk, pipeline, limits)
    infer = _Calls(plane, _tensors, openai=False)
    embed = _Calls(plane, lambda _, most: partial(read_embeddings, limits=most), openai=True)
    chat = _Calls(plane, lambda _, most: partial(read_chat, limits=most), openai=True)
    model = "/v2/models/{model}"
    version = f"{model}/versions/{{version}}"
    posts: list[tuple[str, Any]] = [
        (f"{model}/infer", infer),
        (f"{version}/infer", infer),
        ("/v1/embeddings", embed),
        ("/v1/chat/completions", chat),
    ]
    gets: list[tuple[str, Any]] = [
        (model, _Look(plane, _metadata)),
        (version, _Look(plane, _metadata)),
        (f"{model}/ready", _Look(plane, _ready)),
        (f"{version}/ready", _Look(plane, _ready)),
        ("/v1/models", _Look(plane, _models)),
        ("/v2", _fixed(lambda: oip.server_metadata(name=name, version="1"))),
        ("/v2/health/live", _fixed(lambda: oip.server_live(live=True))),
        ("/v2/health/ready", _fixed(lambda: oip.server_ready(ready=desk.ready()), desk.ready)),
    ]
    return [Route(path, app, methods=["POST"]) for path, app in posts] + [
        Route(path, app, methods=["GET"]) for path, app in gets
    ]


def _tensors(caller: Caller, limits: Limits) -> Callable[[bytes], Draft]:
    said = caller.headers.get(b"inference-header-content-length")
    return partial(_read_tensors, said=said, limits=limits)


def _read_tensors(body: bytes, *, said: bytes | None, limits: Limits) -> Draft:
    if said is not None and (not said.isdigit() or len(said) > 12):
        raise FormatError("`Inference-Header-Content-Length` is no number")
    length = None if said is None else int(said)
    return read_tensors(body, header_length=length, limits=limits)


def _fixed(
    show: Callable[[], bytes], good: Callable[[], bool] = lambda: True
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    return _Fixed(show, good)


class _Fixed:
    def __init__(self, show: Callable[[], bytes], good: Callable[[], bool]) -> None:
        self._show, self._good = show, good

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await respond(send, 200 if self._good() else 503, _JSON, self._show())


def _offer(plane: _Plane, held: Held, served: Served, path: Mapping[str, str]) -> Offer:
    """Of a model in the charter: what else is served here is nobody's business."""
    if served.charter.asset(path["model"]) is None:
        raise NotServedError(f"no model {path['model']!a} is served here")
    return plane.desk.choose(path["model"], path.get("version"), served, held)


def _metadata(plane: _Plane, held: Held, served: Served, path: Mapping[str, str]) -> bytes:
    offer = _offer(plane, held, served, path)
    tensors = "tensors" in offer.takes
    return oip.model_metadata(
        name=offer.model,
        versions=sorted(plane.desk.registry.covered(offer.model, served.charter)),
        platform=offer.backend.platform,
        inputs=offer.backend.inputs if tensors else (),
        outputs=offer.backend.outputs if tensors else (),
    )


def _ready(plane: _Plane, held: Held, served: Served, path: Mapping[str, str]) -> bytes:
    return oip.model_ready(name=_offer(plane, held, served, path).model, ready=True)


def _models(plane: _Plane, held: Held, served: Served, path: Mapping[str, str]) -> bytes:
    del held, path
    registry, charter = plane.desk.registry, served.charter
    names = [one.name for one in charter.assets if registry.covered(one.name, charter)]
    return models_document(names, owner=served.charter.owner.name)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"the request is longer than {most} bytes, which is what any charter allows")
