"""How a partner opens a session: the owner's statement first, then a signed request (SPEC 18.2)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from counterseal.crypto.tls_authority import TlsKey, pem_of
from counterseal.errors import PeerMisbehaved
from counterseal.gateway import session as tokens
from counterseal.gateway.client.line import Line, context_of, first_context
from counterseal.gateway.refusals import PROBLEM_BYTES, from_problem
from counterseal.gateway.session import SessionGrant, named
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, PrivateMessage

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.charter.document import Charter, Role
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["Opened", "open_session"]

STATEMENT: str = "/.well-known/counterseal"
SESSIONS: str = "/counterseal/v1/sessions"


class Opened(PrivateMessage, frozen=True):
    """A session that was opened, whole: who has this may call. `key`: PEM."""

    kind: str
    format: int
    host: str
    port: int
    owner: Hex32
    us: Hex32
    charter: str | None
    purpose: str | None
    role: str
    authority: bytes
    key: bytes
    grant: SessionGrant

    @property
    def pem(self) -> bytes:
        """Key and certificate, as TLS libraries read them."""
        return self.key + self.grant.certificate.encode()

    @property
    def digest(self) -> str:
        """What ledgers name this session by."""
        return named(self.grant.session)

    @property
    def authority_pem(self) -> bytes:
        return pem_of(self.authority)


@dataclass(frozen=True, slots=True)
class Where:
    """A gateway's address."""

    host: str
    port: int


def open_session(
    where: Where,
    *,
    by: Identity,
    to: History,
    charter: Charter | None,
    role: Role,
    purpose: str | None,
    at: datetime,
    seconds: float = 30.0,
) -> Opened:
    """Ask for a session. `to`: the owner as pinned; `charter` None: we are the owner.

    Raises TrustError or BadSignature if it is not the owner's gateway, and what the gateway says.
    """
    first = Line(where.host, where.port, first_context(), seconds=seconds)
    try:
        said = first.ask("GET", STATEMENT, most=limits.GATEWAY_STATEMENT_BYTES)
    finally:
        first.close()
    if said.status != 200:
        raise PeerMisbehaved("there is no counterseal gateway at that address")
    authority = tokens.authority_of(said.body, of=to)
    key = TlsKey.create()
    request = tokens.ask(
        by=by,
        gateway=to.identity,
        authority=authority,
        charter=None if charter is None else (charter.id, charter.digest),
        role=role,
        purpose=purpose,
        public=key.public,
        nonce=os.urandom(16),
        at=at,
    )
    line = Line(where.host, where.port, context_of(authority), seconds=seconds)
    try:
        reply = line.ask("POST", SESSIONS, body=request, most=limits.SESSION_REQUEST_BYTES)
    finally:
        line.close()
    if reply.status != 200:
        raise from_problem(reply.status, reply.body[:PROBLEM_BYTES])
    grant = canonical.decode(
        reply.body, SessionGrant, limit=limits.SESSION_REQUEST_BYTES, what="grant of a session"
    )
    return Opened(
        kind="session",
        format=1,
        host=where.host,
        port=where.port,
        owner=to.identity,
        us=by.history.identity,
        charter=None if charter is None else charter.id,
        purpose=purpose,
        role=role,
        authority=authority,
        key=key.pem,
        grant=grant,
    )
