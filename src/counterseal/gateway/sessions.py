"""The sessions of a gateway: kept under their charter's key, known to every worker.

A worker remembers the sessions that it has met until the epoch changes; another worker finds
them in the state. Rules for each request, in order (SPEC 18.2):
1. The token's session exists, has not ended, and the token is its own.
2. It came over TLS with the session's own certificate.
3. It is neither too old nor was it idle for too long. When it was used last is written down
   from time to time, so that a session that is busy at one worker is not idle at another.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from counterseal.charter.document import CharterId, PurposeCode, Role
from counterseal.crypto.derive import KEY_BYTES
from counterseal.errors import SessionExpired
from counterseal.gateway import session as tokens
from counterseal.gateway.session import ID_BYTES, Nonce, no_session, same_token
from counterseal.gateway.state import NO_CHARTER
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.charter.signing import Side
    from counterseal.gateway.session import SessionRequest
    from counterseal.gateway.vault import Vault

__all__ = ["Held", "SessionRecord", "Sessions"]


_KEY_CELL: Final = "mac"
_CELL: Final = "session/"
OWNERS_SECONDS: Final = 3600  # a session that administers
OWNERS_IDLE: Final = 900


class SessionRecord(Message, frozen=True):
    """`certificate`: SHA-256 of it, as TLS shows it; `ended`: why, once it has."""

    kind: Literal["session"]
    format: Literal[1]
    id: Nonce
    charter: CharterId | None
    version: Hex32 | None
    identity: Hex32
    card: Hex32
    side: Literal["owner", "partner"]
    role: Role
    purpose: PurposeCode | None
    certificate: Hex32
    opened: Timestamp
    until: Timestamp
    idle_seconds: int
    last: Timestamp
    ended: str | None

    @property
    def digest(self) -> str:
        return tokens.named(self.id)


@dataclass(slots=True)
class Held:
    """A session that this worker has met. `last`: when it was used, here or as was written."""

    record: SessionRecord
    token: str
    digest: str
    last: datetime
    written: datetime
    idle: timedelta


class Sessions:
    """Of one worker. Not thread-safe: the event loop's own."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._key = vault.change(NO_CHARTER, _KEY_CELL, _kept_key)
        self._met: dict[str, Held] = {}

    def forget(self) -> None:
        """Meet every session anew: something was revoked."""
        self._met.clear()

    def open(
        self,
        request: SessionRequest,
        *,
        side: Side,
        max_seconds: int,
        idle_seconds: int,
        certificate: Callable[[bytes, datetime], bytes],
        at: datetime,
    ) -> tuple[SessionRecord, str]:
        """Begin a session that was asked for and may be. `certificate(session, until)` issues
        one and returns its SHA-256."""
        identifier = os.urandom(ID_BYTES)
        until = canonical.timestamp(at + timedelta(seconds=max_seconds))
        digest = certificate(identifier, until)
        record = SessionRecord(
            kind="session",
            format=1,
            id=identifier.hex(),
            charter=request.charter,
            version=request.version,
            identity=request.identity,
            card=request.card,
            side=side,
            role=request.role,
            purpose=request.purpose,
            certificate=digest.hex(),
            opened=canonical.timestamp(at),
            until=until,
            idle_seconds=idle_seconds,
            last=canonical.timestamp(at),
            ended=None,
        )
        place = request.charter or NO_CHARTER
        self._vault.change(place, f"{_CELL}{record.id}", lambda _: (canonical.encode(record), None))
        return record, tokens.token_of(self._key, identifier, request.charter, digest)

    def find(self, token: str | None, certificate: str | None, *, at: datetime) -> Held:
        """The session of a request, by the rules above; else SessionExpired."""
        if token is None or certificate is None:
            raise SessionExpired(
                "a request needs a session: its token, and its certificate in TLS",
                hint="counterseal session open URL",
            )
        # The MAC is compared below: what finds the session is not the secret part.
        held = self._met.get(token[tokens.NAMED])
        if held is None:
            held = self._meet(*tokens.session_of(token))
        if not same_token(held.token, token) or held.record.certificate != certificate:
            raise no_session()
        if held.record.ended is not None:
            raise SessionExpired(
                f"this session was ended: {held.record.ended}", hint="counterseal session open URL"
            )
        self._check_age(held, at)
        if at > held.last:
            held.last = at
            if at - held.written > held.idle / 4:
                self._touch(held, at)
        return held

    def end(self, identifier: str, charter: str | None, *, why: str) -> bool:
        """End one session; every worker sees it after the epoch has changed."""

        def ended(data: bytes | None) -> tuple[bytes | None, bool]:
            if data is None:
                return None, False
            record = _read(data)
            if record.ended is not None:
                return data, False
            return canonical.encode(msgspec.structs.replace(record, ended=why)), True

        return self._vault.change(charter or NO_CHARTER, f"{_CELL}{identifier}", ended)

    def list(self, charter: str | None) -> list[SessionRecord]:
        """All that were opened under a charter and are still kept, the newest last."""
        found = [_read(data) for _, data in self._vault.items(charter or NO_CHARTER, _CELL)]
        return sorted(found, key=lambda record: record.opened)

    def sweep(self, charter: str | None, *, before: datetime) -> int:
        """Drop the records of sessions that are long over."""
        gone = [one for one in self.list(charter) if one.until < before]
        for record in gone:
            place = charter or NO_CHARTER
            self._vault.change(place, f"{_CELL}{record.id}", lambda _: (None, None))
        return len(gone)

    def _meet(self, identifier: bytes, charter: str | None) -> Held:
        data = self._vault.get(charter or NO_CHARTER, f"{_CELL}{identifier.hex()}")
        if data is None:
            raise no_session()
        record = _read(data)
        certificate = bytes.fromhex(record.certificate)
        token = tokens.token_of(self._key, identifier, record.charter, certificate)
        held = Held(
            record,
            token,
            record.digest,
            record.last,
            record.last,
            timedelta(seconds=record.idle_seconds),
        )
        self._met[token[tokens.NAMED]] = held
        return held

    def _check_age(self, held: Held, at: datetime) -> None:
        if at >= held.record.until:
            raise SessionExpired(
                f"this session ended at {held.record.until:%Y-%m-%d %H:%M:%S} UTC",
                hint="counterseal session open URL",
            )
        idle = held.idle
        if at - held.last > idle:
            data = self._vault.get(held.record.charter or NO_CHARTER, f"{_CELL}{held.record.id}")
            if data is not None:  # perhaps it was busy elsewhere
                held.last = max(held.last, _read(data).last)
        if at - held.last > idle:
            raise SessionExpired(
                f"this session was idle for more than {held.record.idle_seconds} s",
                hint="counterseal session open URL",
            )

    def _touch(self, held: Held, at: datetime) -> None:
        def touched(data: bytes | None) -> tuple[bytes | None, None]:
            if data is None:
                return None, None
            record = _read(data)
            last = max(record.last, canonical.timestamp(at))
            return canonical.encode(msgspec.structs.replace(record, last=last)), None

        held.written = at
        self._vault.change(held.record.charter or NO_CHARTER, f"{_CELL}{held.record.id}", touched)


def _kept_key(data: bytes | None) -> tuple[bytes, bytes]:
    key = data or os.urandom(KEY_BYTES)
    return key, key


def _read(data: bytes) -> SessionRecord:
    return canonical.decode(data, SessionRecord, limit=limits.KIB * 4, what="record of a session")
