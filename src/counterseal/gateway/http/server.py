"""One worker's server: data plane and control plane on one listening socket, until told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from counterseal.gateway.http.control import control_app
from counterseal.gateway.http.data import data_routes
from counterseal.gateway.http.protocol import GatewayProtocol
from counterseal.gateway.pipeline import Pipeline

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Callable

    from counterseal.gateway.desk import Desk
    from counterseal.gateway.office import Office
    from counterseal.gateway.tensors import Limits

__all__ = ["run", "settle_memory"]

POLL_SECONDS: Final = 1.0
_MINUTE: Final = 60  # polls
KEEP_ALIVE_SECONDS: Final = 75
DRAIN_SECONDS: Final = 10


def run(
    desk: Desk,
    office: Office,
    *,
    sock: socket.socket,
    tls: ssl.SSLContext,
    limits: Limits,
    threads: int,
    ready: Callable[[], None],
    every_minute: Callable[[], None],
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that run are answered first."""
    pool = ThreadPoolExecutor(threads, "model")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        polling = asyncio.create_task(_poll(desk, every_minute))
        try:
            yield
        finally:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling

    pipeline = Pipeline(desk, pool=pool)
    routes = [
        *data_routes(desk, pipeline, limits, name="counterseal"),
        Mount("/", control_app(office)),
    ]
    config = uvicorn.Config(
        Starlette(routes=routes, lifespan=lifespan),
        http=GatewayProtocol,
        loop="uvloop",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the address is the connection's: whoever wants a charter's network
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # strangers' nonsense is no news
    config.load()
    config.ssl = tls
    server = _Server(config, ready)
    settle_memory()
    try:
        server.run(sockets=[sock])
    finally:
        pool.shutdown()
        desk.close()


def settle_memory() -> None:
    """What is there when a server begins stays: looking through it again and again for garbage
    cost a twentieth of each request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()


async def _poll(desk: Desk, every_minute: Callable[[], None]) -> None:
    """What nobody announced, and how late it is."""
    turn = 0
    while True:
        await asyncio.sleep(POLL_SECONDS)
        turn += 1
        try:
            await asyncio.to_thread(desk.poll)
            await asyncio.to_thread(desk.metrics.leave)
            if turn % _MINUTE == 0:
                await asyncio.to_thread(desk.clock.keep)
                await asyncio.to_thread(every_minute)
        except Exception as error:  # noqa: BLE001 - the next turn may work; requests are refused
            desk.report(error)
