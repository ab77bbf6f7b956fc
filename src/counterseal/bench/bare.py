"""The gateway without governance: what is left when nobody checks anything.

    python -m counterseal.bench.bare FOLDER PORT THREADS NAME=MODEL...

The same uvicorn and protocol class, TLS with client certificates, reading of the body, decoding
of tensors, executor, backend, encoding and reply as the gateway, called in the same order. No
session, charter, quota, ledger or detector. In FOLDER it leaves `authority.pem` and
`client.pem`, a certificate as a session has one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.charter.document import Output
from counterseal.crypto.tls_authority import Authority, TlsKey, pem_of
from counterseal.gateway.backends.loading import load
from counterseal.gateway.registry import Offer
from counterseal.gateway.tensors import Limits
from counterseal.gateway.work import Controls, read_tensors
from counterseal.models.names import walk

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["main"]

DAY: Final = timedelta(days=1)
_NOTHING: Final = Controls(
    Output(top=None, decimals=None, noise_permille=None), False, lambda array: array
)


class _Infer:
    """POST of an inference: decode, ask the model in the executor, encode."""

    def __init__(self, offers: dict[str, Offer], pool: Executor) -> None:
        from counterseal.gateway.http.data import read_body, respond

        self._offers, self._pool, self._limits = offers, pool, Limits()
        self._read_body, self._respond = read_body, respond

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        body = await self._read_body(headers, receive, self._limits.body_bytes)
        draft = read_tensors(body, header_length=None, limits=self._limits)
        work = draft.bind(self._offers[scope["path_params"]["model"]])
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._pool, work.run, _NOTHING)
        await self._respond(send, 200, list(made.headers), made.data)


def main(folder: Path, port: int, threads: int, models: list[str]) -> None:
    uvicorn = require("uvicorn", extra="serve")
    applications = require("starlette.applications", extra="serve")
    routing = require("starlette.routing", extra="serve")
    from counterseal.gateway.http.protocol import GatewayProtocol
    from counterseal.gateway.http.server import settle_memory
    from counterseal.gateway.http.tls import server_context

    offers = {}
    for text in models:
        name, _, where = text.partition("=")
        files, _ = walk(Path(where))
        offers[name] = Offer.of(name, (1, 0, 0), "00" * 32, load(files))
    at = datetime.now(UTC)
    authority = Authority.create(at=at)
    _leave_certificates(authority, folder, at)
    app = _Infer(offers, ThreadPoolExecutor(threads, "model"))
    config = uvicorn.Config(
        applications.Starlette(
            routes=[routing.Route("/v2/models/{model}/infer", app, methods=["POST"])]
        ),
        http=GatewayProtocol,
        loop="uvloop",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_keep_alive=75,
    )
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    config.load()
    config.ssl = server_context(authority, ["localhost"], at=at)
    with socket.create_server(("127.0.0.1", port), backlog=1024) as sock:
        print("serving;", flush=True)
        settle_memory()
        uvicorn.Server(config).run(sockets=[sock])


def _leave_certificates(authority: Authority, folder: Path, at: datetime) -> None:
    key = TlsKey.create()
    pem, _ = authority.issue_client(key.public, subject="bench", at=at, until=at + DAY)
    (folder / "authority.pem").write_bytes(pem_of(authority.certificate))
    place = folder / "client.pem"
    place.touch(mode=0o600)
    place.write_bytes(key.pem + pem)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
