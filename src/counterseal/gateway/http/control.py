"""The control plane: sessions, usage, charters, ledgers; revocation and aliases for the owner.

Each side sees what is its own: a partner its charter, the owner all that are served. What it
answers is described by OpenAPI at /openapi.json. Errors are problem+json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ValidationError

from counterseal.errors import CountersealError, FormatError
from counterseal.gateway.http.data import Caller, read_body
from counterseal.gateway.http.shapes import Model, Point, Revoke, Session, Try, Usage
from counterseal.gateway.refusals import PROBLEM, NotServedError, refusal
from counterseal.wire import limits

if TYPE_CHECKING:
    from counterseal.gateway.office import Office, Visitor

__all__ = ["control_app"]

PREFIX: Final = "/counterseal/v1"
_DEED_BYTES: Final = 4 * limits.KIB
Deed = TypeVar("Deed", bound=BaseModel)


def control_app(office: Office) -> FastAPI:
    app = FastAPI(
        title="counterseal gateway",
        version="1",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        description="Sessions, usage, ledgers and revocation of a counterseal gateway.",
    )

    @app.exception_handler(CountersealError)
    async def _problem(request: Request, error: CountersealError) -> Response:
        del request
        said = refusal(error, at=office.desk.clock.now())
        return Response(
            said.body(None), said.status, headers=said.all_headers(), media_type=PROBLEM
        )

    @app.exception_handler(404)
    async def _nothing(request: Request, error: Exception) -> Response:
        del request, error
        said = refusal(NotServedError("there is no such thing here"))
        return Response(said.body(None), said.status, media_type=PROBLEM)

    _session_routes(app, office)
    _view_routes(app, office)
    _owner_routes(app, office)
    return app


def _who(office: Office, request: Request) -> Visitor:
    caller = Caller(request.scope)
    return office.visitor(caller.token, caller.certificate)


def _session_routes(app: FastAPI, office: Office) -> None:
    @app.get("/.well-known/counterseal", tags=["sessions"])
    async def statement() -> Response:
        """The owner's statement about this gateway's TLS authority, signed. For anybody."""
        return Response(office.statement, media_type="application/json")

    @app.post(f"{PREFIX}/sessions", tags=["sessions"])
    async def open_session(request: Request) -> Response:
        """Open a session: the body is a signed request (SPEC 18.2)."""
        headers = dict(request.scope["headers"])
        body = await read_body(headers, request.receive, limits.SESSION_REQUEST_BYTES)
        return Response(office.open_session(body), media_type="application/json")

    @app.get(f"{PREFIX}/sessions", tags=["sessions"])
    async def sessions(request: Request, charter: str | None = None) -> list[Session]:
        return [Session(**one) for one in office.sessions(_who(office, request), charter)]

    @app.delete(f"{PREFIX}/sessions/{{identifier}}", tags=["sessions"])
    async def end_session(request: Request, identifier: str) -> dict[str, bool]:
        """End a session of one's own; the owner ends any."""
        return {"ended": await office.end_session(_who(office, request), identifier)}


def _view_routes(app: FastAPI, office: Office) -> None:
    @app.get("/usage", tags=["usage"])
    @app.get(f"{PREFIX}/usage", tags=["usage"])
    async def usage(request: Request, charter: str | None = None) -> list[Usage]:
        """Quotas, rate, refusals with reasons: of one charter, or of all that are one's own."""
        return [Usage(**one) for one in office.usage(_who(office, request), charter)]

    @app.get(f"{PREFIX}/charters/{{charter}}", tags=["charters"])
    async def charter_file(request: Request, charter: str) -> Response:
        """The charter as both signed it: the file that `counterseal charter` reads."""
        return Response(office.chain(_who(office, request), charter), media_type="application/json")

    @app.get(f"{PREFIX}/models", tags=["models"])
    async def models(request: Request) -> list[Model]:
        return [Model(**one) for one in office.models(_who(office, request))]

    @app.get(f"{PREFIX}/ledgers/{{charter}}/{{path:path}}", tags=["ledgers"])
    async def ledger(request: Request, charter: str, path: str) -> Response:
        """A charter's ledger as static resources: c2sp.org/tlog-tiles, and `key.json`."""
        try:
            found = await office.ledger_file(_who(office, request), charter, path)
        except FileNotFoundError:
            raise NotServedError("the ledger has no such resource") from None
        text = path in {"checkpoint", "key.json"}
        kind = "text/plain; charset=utf-8" if text else "application/octet-stream"
        return Response(found, media_type=kind)

    @app.post(f"{PREFIX}/ledgers/{{charter}}/cosignature", tags=["ledgers"])
    async def cosign(request: Request, charter: str) -> dict[str, bool]:
        """Publish the partner's cosignature of the last checkpoint with it."""
        visitor = _who(office, request)
        headers = dict(request.scope["headers"])
        body = await read_body(headers, request.receive, limits.LEDGER_NOTE_BYTES)
        await office.cosign(visitor, charter, body)
        return {"attached": True}


def _owner_routes(app: FastAPI, office: Office) -> None:
    @app.get(f"{PREFIX}/metrics", tags=["owner"])
    async def metrics(request: Request) -> Response:
        """For Prometheus, with the owner's session."""
        return Response(
            office.metrics(_who(office, request)), media_type="text/plain; version=0.0.4"
        )

    @app.post(f"{PREFIX}/revocations", tags=["owner"], openapi_extra=_takes(Revoke))
    async def revoke(request: Request) -> dict[str, bool]:
        """Take back a session, charter, model, version (NAME@1.4.0) or partner, or lift that."""
        visitor = _who(office, request)
        what = await _deed(request, Revoke)
        changed = await office.revoke(
            visitor, what.grain, what.subject, reason=what.reason, lift=what.lift
        )
        return {"changed": changed}

    @app.post(f"{PREFIX}/aliases", tags=["owner"], openapi_extra=_takes(Point))
    async def point(request: Request) -> dict[str, str]:
        visitor = _who(office, request)
        to = await _deed(request, Point)
        return {"version": await office.point(visitor, to.model, to.alias, to.version)}

    @app.post(f"{PREFIX}/canaries", tags=["owner"], openapi_extra=_takes(Try))
    async def try_out(request: Request) -> dict[str, bool]:
        visitor = _who(office, request)
        what = await _deed(request, Try)
        await office.try_out(
            visitor,
            what.model,
            what.version,
            permille=what.permille,
            shadow=what.shadow,
        )
        return {"changed": True}


def _takes(kind: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that `_deed` reads."""
    content = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def _deed(request: Request, kind: type[Deed]) -> Deed:
    """The body, once it is known whose it is: FastAPI would read all of a stranger's."""
    body = await read_body(dict(request.scope["headers"]), request.receive, _DEED_BYTES)
    try:
        return kind.model_validate_json(body)
    except ValidationError:
        raise FormatError(
            "the request is not as the gateway has it", hint="GET /openapi.json"
        ) from None
