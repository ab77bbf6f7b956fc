"""A mailbox over HTTPS: store and forward between partners who cannot reach each other (SPEC 14.3).

`HttpsTransport` is the client's side, `Mailbox` decides, `serve` listens for it.

    tls       one connection, post-quantum or none        http1     heads by h11, bodies past it
    decrypt   its records, without a copy too many
    binding   who is at its ends                          messages  requests and responses as values
    client    the transport     lanes     several connections at once
    server    sockets, threads, time                      mailbox   who may do what; *_routes
    shelf     letters           blocks, uploads  files    slots     meeting places for pairing
    protocol, fields, problems  what is said, and how     limits, rates  how much, how often
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from counterseal.exchange.transports.https.client import HttpsTransport
    from counterseal.exchange.transports.https.limits import Limits
    from counterseal.exchange.transports.https.mailbox import Mailbox
    from counterseal.exchange.transports.https.rates import Rate
    from counterseal.exchange.transports.https.server import Server, serve

__all__ = ["HttpsTransport", "Limits", "Mailbox", "Rate", "Server", "serve"]

_PLACES: Final = {
    "HttpsTransport": "client",
    "Limits": "limits",
    "Mailbox": "mailbox",
    "Rate": "rates",
    "Server": "server",
    "serve": "server",
}


def __getattr__(name: str) -> Any:
    """Loaded on first use: a client needs no server."""
    if name not in _PLACES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
