"""One request, from arrival to answer; every stage says no on any error (SPEC 18.4).

     1  limits before parsing              8  decision of the charter
     2  who: the certificate in TLS        9  risk: the rung of the ladder
     3  session, epoch, what was revoked  10  strict: a durable intent
     4  typed decoding, the version       11  the model
     5  rate; once only: the record's id  12  what leaves: output controls, encoding
     6  concurrency                       13  settle what was really used
     7  quota, reserved                   14  the ledger, a receipt; metrics, detectors

A refusal gives back what was reserved, stands in the ledger with the place in the charter that
says so, and is explained to whoever has a session. To anybody else all refusals look alike.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from counterseal.charter.request import Request, Usage
from counterseal.errors import CharterDenied, CountersealError, ReplayedMessage
from counterseal.gateway.arrival import Answer, Arrival, one_model, one_purpose, record_id
from counterseal.gateway.refusals import (
    ModelFailedError,
    RateExceeded,
    Refusal,
    denied,
    is_inside,
    refusal,
)
from counterseal.ledger.entry import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from concurrent.futures import Executor
    from datetime import datetime

    from counterseal.charter.document import Unit
    from counterseal.gateway.desk import Desk
    from counterseal.gateway.quota import Reservation
    from counterseal.gateway.registry import Offer
    from counterseal.gateway.served import Served
    from counterseal.gateway.sessions import Held
    from counterseal.gateway.work import Controls, Work
    from counterseal.ledger.ledger import Receipt

__all__ = ["Answer", "Arrival", "Pipeline"]

RECORD: Final = b"counterseal-record"
RECORD_KEY: Final = b"counterseal-record-key"
CHARTER: Final = b"counterseal-charter"


@dataclass(slots=True)
class _Case:
    """What is known of a request so far, for its entry and for what must be given back."""

    arrival: Arrival
    held: Held
    served: Served
    at: datetime
    id: bytes
    purpose: str | None = None
    rows: int | None = None
    offer: Offer | None = None
    action: str | None = None
    running: int = 0  # with this one, while it is entered
    reservation: Reservation | None = None
    written: bool = False  # as a call
    policies: tuple[str, ...] = ()


class Pipeline:
    """Of one worker, in its event loop."""

    def __init__(self, desk: Desk, *, pool: Executor) -> None:
        self._desk, self._pool = desk, pool

    async def call(self, arrival: Arrival) -> Answer:
        desk = self._desk
        at = desk.clock.now()
        begun = time.perf_counter_ns()
        try:
            held, served = desk.meet(arrival.token, arrival.certificate, at=at)
        except CountersealError as error:
            if is_inside(error):
                desk.report(error)
            said = refusal(error, at=at)
            desk.metrics.refused(None, said)
            return _refused(said, None)
        case = _Case(arrival, held, served, at, b"")
        try:
            answer = await self._answer(case)
        except CountersealError as error:
            answer = self._refuse(case, error, None)
        except _Denied as stop:
            answer = self._refuse(case, stop.error, stop.policy, stop.wait)
        except Exception as error:  # noqa: BLE001 - a backend may raise anything; nothing goes out
            desk.report(error)
            answer = self._refuse(case, ModelFailedError("the model failed"), None)
        except BaseException:  # cut off: what was taken goes back, whatever becomes of the process
            self._give_back(case)
            raise
        if answer.stream is None:
            self._leave(case)
        desk.metrics.answered(served, case.offer, answer.refused, time.perf_counter_ns() - begun)
        return answer

    async def _answer(self, case: _Case) -> Answer:
        """Stages 4 to 14."""
        desk, served, arrival = self._desk, case.served, case.arrival
        desk.check(case.held, served, at=case.at)
        case.id = record_id(arrival.record)
        draft = arrival.read(arrival.body)
        case.rows = draft.rows
        case.purpose = one_purpose(arrival.purpose, draft.purpose)
        model = one_model(arrival.model, draft.model)
        version = arrival.version or draft.version
        offer = case.offer = desk.choose(model, version, served, case.held)
        work = draft.bind(offer)
        case.action = work.action
        self._admit(case)
        self._decide(case, work, offer)
        controls = desk.controls(served)
        if served.charter.audit.durability == "strict":
            await self._intend(case)
        loop = asyncio.get_running_loop()
        if work.streams:
            return self._streamed(case, work, controls)
        body = await loop.run_in_executor(self._pool, work.run, controls)
        self._settle(case, body.actual or work.amounts)
        receipt = await self._write_down(case, body.data)
        desk.observe(served, offer, work.rows)
        shadow = desk.registry.shadow_of(offer)
        if shadow is not None:
            self._pool.submit(desk.compare, work, shadow)
        headers = [*body.headers, *self._receipt_headers(case, receipt)]
        return Answer(200, headers, body.data, record=case.id.hex())

    def _streamed(self, case: _Case, work: Work, controls: Controls) -> Answer:
        """The headers leave at once; the entry is written when the last piece has left.

        The key of the record comes last, as a comment of the stream (`: counterseal-record-key`).
        """

        async def pieces() -> AsyncIterator[bytes]:
            sent = bytearray()
            loop = asyncio.get_running_loop()
            source = work.stream(controls)
            try:
                while (
                    piece := await loop.run_in_executor(self._pool, next, source, None)
                ) is not None:
                    now = self._desk.clock.now()
                    self._desk.check_running(case.held, case.served, case.offer, at=now)
                    sent += piece.data
                    if piece.actual is not None:
                        self._settle(case, piece.actual)
                    yield piece.data
                receipt = await self._end_stream(case, work, sent)
                yield b": %s %s\n\n" % (RECORD_KEY, receipt.key.hex().encode())
            except CountersealError as error:
                yield self._cut_off(case, error, work, sent)
            except Exception as error:  # noqa: BLE001 - as in `call`
                self._desk.report(error)
                yield self._cut_off(case, ModelFailedError("the model failed"), work, sent)
            except BaseException:  # nobody listens any more
                self._cut_short(case, work, sent)
                raise
            finally:
                self._leave(case)

        headers = [(b"content-type", b"text/event-stream"), *self._receipt_headers(case, None)]
        return Answer(200, headers, b"", record=case.id.hex(), stream=pieces())

    async def _end_stream(self, case: _Case, work: Work, sent: bytearray) -> Receipt:
        self._settle(case, work.amounts)  # if the model said nothing of what it used
        return await self._write_down(case, bytes(sent))

    def _cut_off(self, case: _Case, error: CountersealError, work: Work, sent: bytearray) -> bytes:
        """A no in the middle of a stream."""
        self._cut_short(case, work, sent)
        said = refusal(error, at=case.at)
        self._desk.refused(case.served, said, self._refused_record(case, said))
        return b"data: " + said.openai_body() + b"\n\n"

    def _cut_short(self, case: _Case, work: Work, sent: bytearray) -> None:
        """What has left already was a call: it is paid for, and stands in the ledger."""
        if not sent:
            self._give_back(case)
        elif not case.written:
            self._settle(case, work.amounts)
            case.written = True
            self._desk.note(case.served, self._record(case, "call", bytes(sent)))

    def _admit(self, case: _Case) -> None:
        """Rate, record, concurrency, quota: in this order. What is refused early costs nothing,
        and only what kept to its rate is remembered: there is room for so many ids."""
        desk, served = self._desk, case.served
        wait = desk.admit(served)
        if wait:
            raise _Denied(
                RateExceeded("more requests at once than the charter's rate"),
                "limits.rate",
                wait,
            )
        if case.arrival.record is not None and not desk.first_time(served, case.id):
            raise ReplayedMessage(
                "a request with this record id came before", hint="every call has its own"
            )
        most = served.charter.limits.concurrency
        running = desk.shared.enter(served.slot, limit=most)
        if running > most:
            raise _Denied(
                RateExceeded(f"{most} requests run already, which is all that may"),
                "limits.concurrency",
                1,
            )
        case.running = running

    def _decide(self, case: _Case, work: Work, offer: Offer) -> None:
        desk, served, held = self._desk, case.served, case.held
        reservation = served.quotas.reserve(work.amounts, case.at)
        case.reservation = reservation
        request = Request(
            party=held.record.identity,
            role=held.record.role,
            action=work.action,
            asset=offer.model,
            version=offer.version,
            digest=offer.digest,
            session_purpose=held.record.purpose,
            purpose=case.purpose,
            address=case.arrival.address,
            proof="mtls",
            rows=case.rows or 0,
            bytes=len(case.arrival.body),
        )
        usage = Usage(
            concurrent=case.running,
            risk=served.standing.holds,
            used=reservation.used,
        )
        decision = served.rules.decide(request, usage, at=case.at)
        if not decision.allowed:
            raise _Denied(*denied(decision), None)
        if not reservation.granted:  # the charter has no such quota, and still it did not fit
            raise CharterDenied("the quota is used up")
        case.policies = decision.policies
        desk.check_rung(served)

    async def _intend(self, case: _Case) -> None:
        record = self._record(case, "intent")
        await self._desk.write(case.served, record)

    def _settle(self, case: _Case, actual: Mapping[Unit, int]) -> None:
        if case.reservation is not None:
            beyond = case.served.quotas.settle(case.reservation, actual)
            if beyond:  # more than was bounded beforehand: the next requests find nothing left
                self._desk.overused(case.served, case.held, beyond)

    async def _write_down(self, case: _Case, output: bytes) -> Receipt:
        record = self._record(case, "call", output)
        case.written = True
        if case.served.charter.audit.durability == "strict":
            return await self._desk.write(case.served, record)
        return self._desk.note(case.served, record)

    def _record(self, case: _Case, event: Any, output: bytes | None = None) -> Record:
        held, reservation = case.held, case.reservation
        left = () if reservation is None else reservation.remaining.values()
        return Record(
            event=event,
            actor=held.record.identity,
            partner=self._desk.us,
            charter=case.served.ref,
            action=case.action,
            purpose=case.purpose,
            model=None if case.offer is None else case.offer.digest,
            session=held.digest,
            decision="permit",
            policies=case.policies,
            quota=min(left, default=None),
            rows=case.rows,
            risk=case.served.standing.holds,
            input=case.arrival.body,
            output=output,
            id=case.id,
        )

    def _refuse(
        self, case: _Case, error: CountersealError, policy: str | None, wait: float | None = None
    ) -> Answer:
        if is_inside(error):
            self._desk.report(error)
        said = refusal(error, policy=policy, at=case.at, headers=self._quota_headers(case))
        self._give_back(case)
        if wait is not None:
            said = replace(said, retry_after=max(1, math.ceil(wait)))
        self._desk.refused(case.served, said, self._refused_record(case, said))
        return _refused(said, case.id.hex() or None)

    def _refused_record(self, case: _Case, said: Refusal) -> Record:
        return Record(
            event="refused",
            actor=case.held.record.identity,
            partner=self._desk.us,
            charter=case.served.ref,
            action=case.action,
            purpose=case.purpose,
            model=None if case.offer is None else case.offer.digest,
            session=case.held.digest,
            decision="deny",
            rows=case.rows,
            risk=case.served.standing.holds,
            reason=said.policy or said.kind,
            input=case.arrival.body,
            id=case.id or None,
        )

    def _give_back(self, case: _Case) -> None:
        if case.reservation is not None:
            case.served.quotas.cancel(case.reservation)
            case.reservation = None
        self._leave(case)

    def _leave(self, case: _Case) -> None:
        if case.running:
            case.running = 0
            self._desk.shared.leave(case.served.slot)

    def _receipt_headers(self, case: _Case, receipt: Receipt | None) -> list[tuple[bytes, bytes]]:
        ref = case.served.ref
        found = [
            (RECORD, case.id.hex().encode()),
            (CHARTER, f"{ref.id}/{ref.version}".encode()),
        ]
        if receipt is not None:
            found.append((RECORD_KEY, receipt.key.hex().encode()))
        quotas = self._quota_headers(case).items()
        return found + [(name.encode(), value.encode()) for name, value in quotas]

    def _quota_headers(self, case: _Case) -> dict[str, str]:
        """RateLimit-*: of the quota of which least is left."""
        if case.reservation is None:
            return {}
        left = case.reservation.remaining
        if not left:
            return {}
        key = min(left, key=left.__getitem__)
        found = {
            "ratelimit-limit": str(case.reservation.counts[key]),
            "ratelimit-remaining": str(left[key]),
        }
        ends = case.served.ends_of(key[1], case.at)
        if ends is not None:
            found["ratelimit-reset"] = str(max(1, math.ceil((ends - case.at).total_seconds())))
        return found


class _Denied(Exception):  # noqa: N818 - a way out of the stages, never seen outside
    """With the place in the charter that says so; `wait`: seconds until it is worth trying."""

    def __init__(self, error: CountersealError, policy: str, wait: float | None) -> None:
        super().__init__(policy)
        self.error, self.policy, self.wait = error, policy, wait


def _refused(said: Refusal, record: str | None) -> Answer:
    headers = [(name.encode(), value.encode()) for name, value in said.all_headers().items()]
    return Answer(said.status, headers, b"", refused=said, record=record)
