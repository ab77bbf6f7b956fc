"""Sessions at a partner's gateway: open one, keep it in a folder for any client, use it again.

    DIR/session.json     everything, for counterseal (private)
    DIR/key.pem          (private)   DIR/certificate.pem   DIR/authority.pem
    DIR/token            (private)   DIR/curl.conf         (private) curl -K DIR/curl.conf URL

The folder is as good as the session: whoever has it may call until the session ends.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from counterseal.errors import FormatError, SessionExpired, TrustError
from counterseal.exchange.whole import whole_folder
from counterseal.gateway.client.calling import Session
from counterseal.gateway.client.opening import Opened, Where, open_session
from counterseal.jobs.charters import CharterBook
from counterseal.jobs.gateway import narrower
from counterseal.ledger.witness import Call
from counterseal.trust import atomic
from counterseal.wire import canonical, limits

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.charter.document import Charter, Role
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import PartnerBook
    from counterseal.trust.store import Store

__all__ = [
    "CallBook",
    "check_place",
    "connect",
    "forget",
    "keep",
    "open_at",
    "read_session",
    "where_of",
]

SESSION: Final = "session.json"
_FILES: Final = frozenset(
    {SESSION, "key.pem", "certificate.pem", "authority.pem", "token", "curl.conf"}
)
_CALL: Final = "call"
_PORT: Final = 8443


class CallBook:
    """Our calls under one charter, until its ledger was seen to have them."""

    def __init__(self, store: Store, us: str, charter: str) -> None:
        self._store, self._place = store, f"{us}/{charter}/"

    def keep(self, call: Call) -> None:
        self._store.put(_CALL, f"{self._place}{call.id}", canonical.encode(call))

    def all(self) -> list[Call]:
        return [
            canonical.decode(data, Call, limit=limits.KIB, what="record of a call")
            for key, data in self._store.items(_CALL)
            if key.startswith(self._place)
        ]

    def drop(self, call: str) -> None:
        """Of a call that was refused: the ledger will not have it."""
        self._store.delete(_CALL, f"{self._place}{call}")

    def settle(self, call: Call) -> None:
        """Forget it, unless more is known of it by now: its answer came in this moment."""
        place = f"{self._place}{call.id}"
        with self._store.exclusive():
            if self._store.get(_CALL, place) == canonical.encode(call):
                self._store.delete(_CALL, place)


def where_of(url: str) -> tuple[Where, str | None]:
    """https://NAME@host:8443: where, and which partner it is the gateway of. FormatError."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORT
    except ValueError:
        port = 0
    if parts.scheme != "https" or not parts.hostname or not port or parts.path not in {"", "/"}:
        raise FormatError(
            f"{url!a} is not where a gateway is", hint="write https://PARTNER@host:8443"
        )
    if parts.password:
        raise FormatError("a gateway's address has no password")
    return Where(parts.hostname, port), parts.username


def open_at(
    url: str,
    *,
    by: Identity,
    book: PartnerBook,
    charter: Charter | None,
    role: Role,
    purpose: str | None,
) -> Opened:
    """Open a session. `charter` None: the owner's own, which administers."""
    where, name = where_of(url)
    if charter is None:
        to: History = by.history
    else:
        partner = book.by_identity(charter.owner.identity)
        if partner is None:
            raise TrustError("the owner of this charter is not pinned here")
        if name is not None and name not in {partner.name, partner.history.name}:
            raise TrustError(f"the charter is {partner.name}'s, and not {name}'s")
        to = partner.history
    at = datetime.now(UTC)
    return open_session(where, by=by, to=to, charter=charter, role=role, purpose=purpose, at=at)


def keep(opened: Opened, folder: Path) -> None:
    """Write the session as a folder that appears whole, and that only its owner can read.

    A session that was kept there before is replaced; anything else is not (`check_place`).
    """
    check_place(folder)
    forget(folder)
    with whole_folder(folder) as place:
        place.chmod(0o700)
        (place / "key.pem").write_bytes(opened.key)
        (place / "certificate.pem").write_text(opened.grant.certificate)
        (place / "authority.pem").write_bytes(opened.authority_pem)
        (place / "token").write_text(opened.grant.token)
        (place / "curl.conf").write_text(_curl(opened, folder))
        (place / SESSION).write_bytes(msgspec.json.encode(opened))
        for private in ("key.pem", "token", "curl.conf", SESSION):
            (place / private).chmod(0o600)


def check_place(folder: Path) -> None:
    """Raise FileExistsError for a place that has something else than a session."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir() or _names(folder) - _FILES:
        raise FileExistsError(17, "there is something that is no session", str(folder))


def forget(folder: Path) -> None:
    """Delete a session that was kept, and nothing else that may be there."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for name in _names(folder) & _FILES:
        (folder / name).unlink()
    with contextlib.suppress(OSError):  # somebody put something beside it
        folder.rmdir()


def _names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


def _curl(opened: Opened, folder: Path) -> str:
    where = str(folder.absolute()).replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        f'cert = "{where}/certificate.pem"',
        f'key = "{where}/key.pem"',
        f'cacert = "{where}/authority.pem"',
        f'header = "Authorization: Bearer {opened.grant.token}"',
    ]
    if opened.purpose is not None:
        lines.append(f'header = "Counterseal-Purpose: {opened.purpose}"')
    return "\n".join(lines) + "\n"


def read_session(folder: Path) -> Opened:
    """A session that was kept. Raises SessionExpired if its time is over."""
    try:
        data = atomic.read_secret(
            folder / SESSION, what="session", limit=limits.GATEWAY_STATEMENT_BYTES
        )
    except FileNotFoundError:
        raise FormatError(
            f"no session is open in {folder}",
            hint="counterseal session open https://PARTNER@HOST:PORT --under CHARTER",
        ) from None
    try:
        opened = msgspec.json.decode(data, type=Opened)
    except (msgspec.DecodeError, ValueError, UnicodeError):
        raise FormatError(f"{folder} holds no session", hint="counterseal session open") from None
    if opened.grant.until <= datetime.now(UTC):
        raise SessionExpired(
            f"the session ended at {opened.grant.until:%Y-%m-%d %H:%M} UTC",
            hint="counterseal session open",
        )
    return opened


def connect(
    url: str,
    *,
    by: Identity,
    to: PartnerBook,
    under: Charter | str,
    purpose: str,
    role: Role = "analyst",
) -> Session:
    """Open a session and keep it in memory: the SDK's way in.

    `under`: a charter, or what it is called here. Every call is remembered in the identity's
    store until the ledger was seen to have it. For asyncio: `AsyncSession(connect(...))`.
    """
    charter = under
    if isinstance(charter, str):
        book = CharterBook(by.history, to, store=by.store, narrower=narrower)
        charter = book.find(charter).charter
    opened = open_at(url, by=by, book=to, charter=charter, role=role, purpose=purpose)
    return Session(opened, memory=CallBook(by.store, by.history.identity, charter.id))
