"""The TLS of a gateway: 1.3 only, its own authority, certificates of sessions and of nobody else.

A client without a certificate gets as far as asking for a session. The key exchange is classical:
Python's `ssl` cannot do X25519MLKEM768 with the OpenSSL of today's systems, and neither can most
of the clients (LIMITATIONS).
"""

from __future__ import annotations

import os
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from counterseal.crypto.tls_authority import pem_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from counterseal.crypto.tls_authority import Authority

__all__ = ["server_context"]

LIFETIME: Final = timedelta(days=397)  # of the server's certificate; made anew at every start


def server_context(authority: Authority, hosts: Sequence[str], *, at: datetime) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # every connection shows its certificate
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=pem_of(authority.certificate).decode())
    context.set_alpn_protocols(["http/1.1"])
    _load(context, authority.issue_server(hosts, at=at, until=at + LIFETIME))
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """`ssl` reads keys from files only: one in memory, which no disk ever sees."""
    descriptor = os.memfd_create("counterseal-gateway", os.MFD_CLOEXEC)
    try:
        view = memoryview(pem)
        while view:
            view = view[os.write(descriptor, view) :]
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
