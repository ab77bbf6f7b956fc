"""How a session begins: the gateway's statement, the partner's request, a token (SPEC 18.2).

    owner    states, hybrid:   this TLS authority is my gateway's
    partner  asks, hybrid:     for this P-256 key, under this version of this charter, as this role,
                               for this purpose, at the gateway with that authority, now
    gateway  gives:            a certificate for that key, and a token bound to the certificate

The two signatures are checked once. After that a request shows both the certificate (TLS) and
the token (a MAC over the session and the certificate): a token alone opens nothing. A request
names the authority, so it cannot be taken to another gateway; it carries a nonce and a time,
so it cannot be used twice.
"""

from __future__ import annotations

import base64
import binascii
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.charter.document import CharterId, PurposeCode, Role
from counterseal.crypto.derive import bind, derive
from counterseal.crypto.digest import equal, sha256
from counterseal.errors import BadSignature, FormatError, SessionExpired, TrustError
from counterseal.trust import signed
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, PrivateMessage, Timestamp
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = [
    "GATEWAY_TYPE",
    "REQUEST_TYPE",
    "SessionGrant",
    "SessionRequest",
    "ask",
    "authority_of",
    "read_request",
    "session_of",
    "state",
    "token_of",
]

GATEWAY_TYPE: Final = "application/vnd.counterseal.gateway.v1+json"
REQUEST_TYPE: Final = "application/vnd.counterseal.session-request.v1+json"
FRESH: Final = timedelta(seconds=150)  # before or after: together what `Shared` remembers
ID_BYTES: Final = 16
_PREFIX: Final = "cs1."
_TOKEN_LETTERS: Final = 128
NAMED: Final = slice(0, len(_PREFIX) + 22)  # of a token: up to the end of its session

Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]
Der = Annotated[bytes, msgspec.Meta(max_length=2048)]


class GatewayDocument(Message, frozen=True):
    """`authority`: the certificate that signs those of this gateway, DER."""

    kind: Literal["gateway"]
    format: Literal[1]
    identity: Hex32
    card: Hex32
    authority: Der
    at: Timestamp


class SessionRequest(Message, frozen=True):
    """`authority`: SHA-256 of the gateway's; `version`: digest of the charter that we hold.

    The owner's own sessions, which administer, are under no charter and for no purpose.
    """

    kind: Literal["session-request"]
    format: Literal[1]
    gateway: Hex32
    authority: Hex32
    identity: Hex32
    card: Hex32
    charter: CharterId | None
    version: Hex32 | None
    role: Role
    purpose: PurposeCode | None
    public: Der
    nonce: Nonce
    at: Timestamp


class SessionGrant(PrivateMessage, frozen=True):
    """What comes back, over TLS. `certificate`: PEM, with the authority's."""

    kind: Literal["session-grant"]
    format: Literal[1]
    session: Nonce
    token: Annotated[str, msgspec.Meta(max_length=128)]
    certificate: Annotated[str, msgspec.Meta(max_length=16 * limits.KIB)]
    until: Timestamp
    idle_seconds: int


def state(authority: bytes, *, by: Identity, at: datetime) -> bytes:
    """The statement of `by` about the authority of its gateway."""
    document = GatewayDocument(
        kind="gateway",
        format=1,
        identity=by.history.identity,
        card=by.current(at=at).key_id,
        authority=authority,
        at=canonical.timestamp(at),
    )
    return canonical.encode(by.sign(document, GATEWAY_TYPE, at=at))


def authority_of(statement: bytes, *, of: History) -> bytes:
    """The authority that `of`, as pinned, states. Raises BadSignature, RevokedKey, FormatError."""
    what = "statement of a gateway"
    limit = limits.GATEWAY_STATEMENT_BYTES
    envelope = canonical.decode(statement, Envelope, limit=limit, what=what)
    document = canonical.decode(envelope.payload, GatewayDocument, limit=limit, what=what)
    if document.identity != of.identity:
        raise BadSignature(f'this is not the gateway of "{of.name}"')
    signed.verify(envelope, GATEWAY_TYPE, by=of.unrevoked(document.card).card.signing.key())
    return document.authority


def ask(
    *,
    by: Identity,
    gateway: str,
    authority: bytes,
    charter: tuple[str, str] | None,
    role: Role,
    purpose: str | None,
    public: bytes,
    nonce: bytes,
    at: datetime,
) -> bytes:
    """Our signed request. `charter`: its id and the digest of the version that we hold."""
    identifier, version = charter or (None, None)
    document = SessionRequest(
        kind="session-request",
        format=1,
        gateway=gateway,
        authority=sha256(authority).hex(),
        identity=by.history.identity,
        card=by.current(at=at).key_id,
        charter=identifier,
        version=version,
        role=role,
        purpose=purpose,
        public=public,
        nonce=nonce.hex(),
        at=canonical.timestamp(at),
    )
    return canonical.encode(by.sign(document, REQUEST_TYPE, at=at))


def read_request(
    data: bytes,
    *,
    us: str,
    authority: bytes,
    known: History | None,
    at: datetime,
) -> SessionRequest:
    """Check a request against the pinned history of who it says it is by (`claimed`).

    Raises TrustError if they are not pinned, the request is not for this gateway, or not of now;
    BadSignature if it is not theirs. That it comes once is the caller's to see to: `nonce`.
    """
    envelope, request = _parse(data)
    if known is None or known.identity != request.identity:
        raise TrustError("whoever asks for a session is not pinned here")
    # The signature first: who is pinned here, and how their cards stand, is told to them alone.
    card = next((one.card for one in known.cards if one.key_id == request.card), None)
    if card is None:
        raise BadSignature(f'the signing key is not one of "{known.name}"')
    signed.verify(envelope, REQUEST_TYPE, by=card.signing.key())
    if request.card != known.current(at=at).key_id:
        raise TrustError("the request was signed with a card that is not in force")
    if request.gateway != us or request.authority != sha256(authority).hex():
        raise TrustError("the request for a session is for another gateway")
    if abs(request.at - at) > FRESH:
        raise TrustError(
            "the request for a session is not of now", hint="compare the clocks of both machines"
        )
    if (request.charter is None) != (request.version is None):
        raise FormatError("a charter without a version, or the other way round")
    return request


def claimed(data: bytes) -> str:
    """The identity that a request says it is by; nothing is checked yet."""
    return _parse(data)[1].identity


def _parse(data: bytes) -> tuple[Envelope, SessionRequest]:
    what, limit = "request for a session", limits.SESSION_REQUEST_BYTES
    envelope = canonical.decode(data, Envelope, limit=limit, what=what)
    return envelope, canonical.decode(envelope.payload, SessionRequest, limit=limit, what=what)


def token_of(key: bytes, session: bytes, charter: str | None, certificate: bytes) -> str:
    """The token of a session whose certificate has this SHA-256. It says where it is kept."""
    place = bytes.fromhex(charter or "")
    mac = derive(key, "gateway token", session, place, certificate)
    return f"{_PREFIX}{_text(session)}.{_text(place)}.{_text(mac)}"


def session_of(token: str) -> tuple[bytes, str | None]:
    """The session and the charter that a token is about; SessionExpired for what is no token."""
    parts = token.removeprefix(_PREFIX).split(".")
    if not token.startswith(_PREFIX) or len(parts) != 3 or len(token) > _TOKEN_LETTERS:
        raise no_session()
    try:
        session, place = (_bytes(part) for part in parts[:2])
    except (binascii.Error, ValueError):
        raise no_session() from None
    if len(session) != ID_BYTES or len(place) not in {0, ID_BYTES}:
        raise no_session()
    return session, place.hex() or None


def named(session: str) -> str:
    """What ledgers name a session by: nobody can make a token of it."""
    return sha256(bind("session", bytes.fromhex(session))).hex()


def digest_of(certificate: bytes) -> bytes:
    """SHA-256 of a certificate, DER: how a session knows its own (RFC 8705, x5t#S256)."""
    return sha256(certificate)


def same_token(mine: str, theirs: str) -> bool:
    return equal(mine.encode(), theirs.encode("utf-8", "replace"))


def no_session() -> SessionExpired:
    """One answer for every token that does not count: which of the reasons it was is ours."""
    return SessionExpired("there is no such session", hint="open one: counterseal session open URL")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
