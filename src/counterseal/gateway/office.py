"""The control plane without HTTP: who is visiting, and what they may see or do (SPEC 18.6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from counterseal.errors import (
    BadSignature,
    CharterDenied,
    PurposeMismatch,
    ReplayedMessage,
    RolledBack,
    TrustError,
)
from counterseal.gateway import session as tokens
from counterseal.gateway.refusals import NotServedError
from counterseal.gateway.session import SessionGrant
from counterseal.gateway.sessions import OWNERS_IDLE, OWNERS_SECONDS
from counterseal.gateway.usage import is_open, text_of, usage_facts
from counterseal.ledger import cosign
from counterseal.ledger.entry import Record
from counterseal.wire import canonical

if TYPE_CHECKING:
    from counterseal.crypto.tls_authority import Authority
    from counterseal.gateway.administration import Administration
    from counterseal.gateway.desk import Desk
    from counterseal.gateway.served import Served
    from counterseal.gateway.session import SessionRequest
    from counterseal.gateway.sessions import Held, SessionRecord
    from counterseal.trust.history import History

__all__ = ["Office", "Visitor"]

OWNERS: Final = frozenset({"owner", "steward"})
MOST_SESSIONS: Final = 256  # that are open under one charter
_KEPT: Final = timedelta(days=1)  # records of sessions after their end


@dataclass(frozen=True, slots=True)
class Visitor:
    """`served`: the charter of a partner; None for the owner, who sees all."""

    held: Held
    served: Served | None


class Office:
    def __init__(
        self,
        desk: Desk,
        *,
        us: History,
        authority: Authority,
        statement: bytes,
        administration: Administration,
    ) -> None:
        self.desk, self.statement = desk, statement
        self._us, self._authority, self._administration = us, authority, administration

    # Sessions

    def open_session(self, body: bytes) -> bytes:
        """Answer a signed request for a session. Raises TrustError, CharterDenied, ..."""
        desk = self.desk
        desk.sync()
        at = desk.clock.now()
        request = self._read(body, at)
        nonce = f"nonce {request.identity} {request.nonce}".encode()
        if not desk.shared.first_time(nonce, now=int(desk.clock.seconds() * 1e9)):
            raise ReplayedMessage("this request for a session came before")
        if request.charter is None:
            return self._begin(request, None, at)
        served = desk.served.get(request.charter)
        if served is None or request.identity != served.charter.partner.identity:
            raise CharterDenied(
                "this gateway serves nothing under that charter for you",
                hint="ask the owner: counterseal serve ... --under CHARTER",
            )
        self._check(request, served, at)
        return self._begin(request, served, at)

    def _read(self, body: bytes, at: datetime) -> SessionRequest:
        identity = tokens.claimed(body)
        ours = identity == self._us.identity
        known = self.desk.partners.get(identity)  # ours is there, too, as it stands now
        try:
            request = tokens.read_request(
                body,
                us=self._us.identity,
                authority=self._authority.certificate,
                known=known,
                at=at,
            )
        except BadSignature:  # to a stranger it looks the same as not being known
            raise TrustError("whoever asks for a session is not pinned here") from None
        if (request.charter is None) != ours:
            raise CharterDenied("a session is under a charter, but the owner's own")
        if ours and request.role not in OWNERS:
            raise CharterDenied("the owner comes as owner or steward")
        return request

    def _check(self, request: SessionRequest, served: Served, at: datetime) -> None:
        charter = served.charter
        self.desk.revoked.check(session="", charter=charter.id, partner=request.identity)
        served.check_active(at)
        if request.version != charter.digest:
            raise RolledBack(
                f"the charter in force is version {charter.version}, and not the one you named",
                hint="take the owner's file: counterseal charter countersign FILE",
            )
        if request.role not in charter.partner.roles:
            raise CharterDenied(f"the partner does not come as {request.role}")
        if request.purpose not in charter.purpose.allowed:
            raise PurposeMismatch(
                "a session declares one of the charter's purposes",
                hint=f"one of {', '.join(charter.purpose.allowed)}",
            )
        self.desk.sessions.sweep(charter.id, before=at - _KEPT)
        alive = [one for one in self.desk.sessions.list(charter.id) if is_open(one, at)]
        if len(alive) >= MOST_SESSIONS:
            raise CharterDenied(
                f"{MOST_SESSIONS} sessions are open under this charter", hint="end some of them"
            )

    def _begin(self, request: SessionRequest, served: Served | None, at: datetime) -> bytes:
        issued = {}

        def certificate(identifier: bytes, until: datetime) -> bytes:
            pem, der = self._authority.issue_client(
                request.public, subject=f"session {identifier.hex()}", at=at, until=until
            )
            issued["pem"] = pem.decode()
            return tokens.digest_of(der)

        terms = None if served is None else served.charter.session
        record, token = self.desk.sessions.open(
            request,
            side="owner" if served is None else "partner",
            max_seconds=OWNERS_SECONDS if terms is None else terms.max_seconds,
            idle_seconds=OWNERS_IDLE if terms is None else terms.idle_seconds,
            certificate=certificate,
            at=at,
        )
        if served is not None:
            served.ledger.note(_session_record(record, served, "open", record.identity))
        grant = SessionGrant(
            kind="session-grant",
            format=1,
            session=record.id,
            token=token,
            certificate=issued["pem"],
            until=record.until,
            idle_seconds=record.idle_seconds,
        )
        return canonical.encode(grant)

    def visitor(self, token: str | None, certificate: str | None) -> Visitor:
        desk = self.desk
        desk.sync()
        at = desk.clock.now()
        held = desk.sessions.find(token, certificate, at=at)
        if held.record.side == "owner":
            if held.record.identity != self._us.identity:
                raise TrustError("this is not the owner's session")
            desk.check_pinned(held)
            return Visitor(held, None)
        served = desk.served.get(held.record.charter or "")
        if served is None:
            raise CharterDenied("nothing is served under this charter any more")
        # Suspended or over, a partner may still look and verify: only the data plane is shut.
        desk.check_pinned(held)
        return Visitor(held, served)

    def sessions(self, visitor: Visitor, charter: str | None) -> list[dict[str, Any]]:
        found = [
            record
            for served in self._seen(visitor, charter)
            for record in self.desk.sessions.list(served.charter.id)
        ]
        return [_session_facts(record) for record in found]

    async def end_session(self, visitor: Visitor, identifier: str) -> bool:
        for served in self._seen(visitor, None):
            if self.desk.sessions.end(identifier, served.charter.id, why="it was closed"):
                actor = visitor.held.record.identity
                record = next(
                    one
                    for one in self.desk.sessions.list(served.charter.id)
                    if one.id == identifier
                )
                self._administration.announce()
                served.ledger.note(_session_record(record, served, "end", actor))
                return True
        return False

    # What there is to see

    def usage(self, visitor: Visitor, charter: str | None) -> list[dict[str, Any]]:
        at = self.desk.clock.now()
        return [
            usage_facts(served, self.desk.sessions.list(served.charter.id), at=at)
            for served in self._seen(visitor, charter)
        ]

    def chain(self, visitor: Visitor, charter: str) -> bytes:
        (served,) = self._seen(visitor, charter)
        return served.chain.document.encode()

    def models(self, visitor: Visitor) -> list[dict[str, Any]]:
        registry = self.desk.registry
        found = []
        for name in sorted(registry.offers):
            offers = registry.offers[name]
            if visitor.served is not None:
                offers = registry.covered(name, visitor.served.charter)
            if not offers:
                continue
            canary = registry.canaries.get(name) if visitor.served is None else None
            found.append(
                {
                    "name": name,
                    "versions": {k: one.digest for k, one in offers.items()},
                    "aliases": {
                        alias: one.version
                        for (model, alias), one in registry.aliases.items()
                        if model == name and one.version in offers
                    },
                    "canary": None
                    if canary is None
                    else {
                        "version": canary.version,
                        "permille": canary.permille,
                        "shadow": canary.shadow,
                    },
                }
            )
        return found

    async def ledger_file(self, visitor: Visitor, charter: str, path: str) -> bytes:
        """Raises FileNotFoundError if there is no such resource."""
        served = self._readable(visitor, charter)
        return await asyncio.to_thread(served.ledger.read, path)

    async def cosign(self, visitor: Visitor, charter: str, lines: bytes) -> None:
        served = self._readable(visitor, charter)
        history = self.desk.partners.get(visitor.held.record.identity)
        if history is None:
            raise TrustError("only the partner cosigns")
        await asyncio.to_thread(cosign.attach, served.ledger, lines, of=history)

    def metrics(self, visitor: Visitor) -> bytes:
        self._owner(visitor)
        return self.desk.metrics.text()

    # What the owner does

    async def revoke(
        self, visitor: Visitor, grain: str, subject: str, *, reason: str | None, lift: bool
    ) -> bool:
        self._owner(visitor)
        at = self.desk.clock.now()
        if lift:
            return await asyncio.to_thread(self._administration.lift, grain, subject)
        failed = await asyncio.to_thread(
            self._administration.revoke, grain, subject, reason=reason, at=at
        )
        for error in failed:
            self.desk.report(error)
        return True

    async def point(self, visitor: Visitor, model: str, alias: str, to: str | None) -> str:
        self._owner(visitor)
        return await asyncio.to_thread(self._administration.point, model, alias, to)

    async def try_out(
        self, visitor: Visitor, model: str, to: str | None, *, permille: int, shadow: bool
    ) -> None:
        self._owner(visitor)
        await asyncio.to_thread(
            self._administration.try_out, model, to, permille=permille, shadow=shadow
        )

    def _owner(self, visitor: Visitor) -> None:
        if visitor.served is not None:
            raise CharterDenied("this is the owner's to do")

    def _seen(self, visitor: Visitor, charter: str | None) -> list[Served]:
        if visitor.served is None:
            found = [
                one
                for one in self.desk.served.values()
                if charter is None or one.charter.id == charter
            ]
        else:
            found = [visitor.served]
        if charter is not None and [one.charter.id for one in found] != [charter]:
            raise NotServedError("there is no such charter here")
        return found

    def _readable(self, visitor: Visitor, charter: str) -> Served:
        (served,) = self._seen(visitor, charter)
        record = visitor.held.record
        if record.side == "partner" and record.role not in served.charter.audit.readers:
            raise CharterDenied(
                f"the charter lets {', '.join(served.charter.audit.readers)} read the ledger, "
                f"and this session is of an {record.role}",
                hint="open a session with --role",
            )
        return served


def _session_record(record: SessionRecord, served: Served, action: str, actor: str) -> Record:
    return Record(
        event="session",
        actor=actor,
        partner=served.charter.partner.identity,
        charter=served.ref,
        action=action,
        purpose=record.purpose,
        session=record.digest,
    )


def _session_facts(record: SessionRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "charter": record.charter,
        "identity": record.identity,
        "side": record.side,
        "role": record.role,
        "purpose": record.purpose,
        "opened": text_of(record.opened),
        "until": text_of(record.until),
        "last": text_of(record.last),
        "ended": record.ended,
    }
