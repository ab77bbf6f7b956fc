"""HTTP/1.1 over TLS as the application needs it: with the client's certificate, and with limits.

uvicorn shows neither (0.54): its protocol is extended here. Rules, before anything is parsed
further: at most so many headers and bytes of them, a whole request within so many seconds;
no other protocol is switched to. A connection that we close is gone soon: TLS would wait half
a minute for a client that does not say goodbye, and so would the end of the gateway.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from counterseal.wire import limits

if TYPE_CHECKING:
    import asyncio
    from asyncio.events import TimerHandle

__all__ = ["CERTIFICATE", "GatewayProtocol"]

CERTIFICATE: Final = "counterseal.certificate"  # in the scope's extensions: SHA-256 of it, hex
REQUEST_SECONDS: Final = 60
GOODBYE_SECONDS: Final = 1
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class GatewayProtocol(HttpToolsProtocol):
    """One connection."""

    _certificate: str | None = None
    _taken = 0
    _timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls: Any = transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(True)
        self._certificate = hashlib.sha256(shown).hexdigest() if shown else None
        self._begin_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._taken = 0
        self.scope["extensions"] = {CERTIFICATE: {"sha256": self._certificate}}
        if self._timer is None:
            self._begin_timer()

    def on_url(self, url: bytes) -> None:
        self._take(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._take(len(name) + len(value))
        if len(self.headers) >= limits.GATEWAY_HEADERS:
            self._refuse()
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        self._end_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._part()

    def shutdown(self) -> None:
        super().shutdown()
        self._part()

    def _part(self) -> None:
        if self.transport.is_closing():
            self.loop.call_later(GOODBYE_SECONDS, self.transport.abort)

    def _should_upgrade(self) -> bool:
        return False

    def _take(self, count: int) -> None:
        self._taken += count
        if self._taken > limits.GATEWAY_HEADER_BYTES:
            self._refuse()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        raise ValueError("too many headers")  # the parser reports it as its own error

    def _begin_timer(self) -> None:
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._too_slow)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)
