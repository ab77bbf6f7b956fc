"""One worker of a gateway, in this process: sessions, calls and what stands in the ledger."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial

import msgspec

from counterseal.crypto.digest import sha256
from counterseal.crypto.tls_authority import TlsKey
from counterseal.errors import CountersealError
from counterseal.gateway import session as tokens
from counterseal.gateway.clock import SteadyClock
from counterseal.gateway.pipeline import Arrival, Pipeline
from counterseal.gateway.tensors import Limits
from counterseal.gateway.work import read_tensors
from counterseal.jobs.serve import build
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity

PURPOSE = "diagnosis"
COLUMNS = 30


@cache
def onnx_model():
    """A classifier of the breast cancer data, as ONNX; and 20 rows that it never saw."""
    import skl2onnx
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    fitted = pipeline.fit(rows[20:], labels[20:])
    options = {id(fitted): {"zipmap": False}}
    made = skl2onnx.to_onnx(fitted, rows[:1].astype("f4"), options=options)
    return made.SerializeToString(), rows[:20].astype("f4")


def body_of(rows=1, **more):
    """A request of the Open Inference Protocol, as JSON. `more`: its parameters."""
    data = onnx_model()[1][:rows]
    asked = {
        "inputs": [
            {
                "name": "X",
                "datatype": "FP32",
                "shape": [rows, COLUMNS],
                "data": [float(one) for one in data.ravel()],
            }
        ]
    }
    return msgspec.json.encode({**asked, "parameters": more} if more else asked)


class Refused(CountersealError):  # noqa: N818 - as in errors.py
    """What the gateway said no with. `said`: its refusal, whole."""

    def __init__(self, said):
        super().__init__(said.message)
        self.said = said


class Clock:
    """The wall clock and the steady one of a machine, for a test to turn."""

    def __init__(self):
        self.offset = 0.0
        self.passed = 0.0

    def wall(self):
        return time.time() + self.offset

    def steady(self):
        return time.monotonic() + self.passed

    def wait(self, **some):
        """Time passes, for both."""
        seconds = timedelta(**some).total_seconds()
        self.offset += seconds
        self.passed += seconds

    def set_back(self, **some):
        """Somebody sets the wall clock back."""
        self.offset -= timedelta(**some).total_seconds()


@dataclass(frozen=True)
class Ticket:
    """An open session, as its client has it."""

    id: str
    token: str
    certificate: str
    request: bytes


class Worker:
    """One worker, in this process."""

    def __init__(self, town, number, *, clock):
        self.town = town
        plan = town.plan
        self.desk, self.office, self.authority, self._closing = build(
            plan, town.chains, by=town.identity("lab"), home=Home(town.home("lab")), number=number
        )
        self.clock = clock
        self.desk.clock = SteadyClock(self.desk.vault, wall=clock.wall, steady=clock.steady)
        self.pool = ThreadPoolExecutor(4)
        self.pipeline = Pipeline(self.desk, pool=self.pool)
        self.closed = False

    @property
    def served(self):
        return self.desk.served[self.town.chain.charter.id]

    def now(self):
        return self.desk.clock.now()

    def ask(self, by="clinic", *, key=None, **changes):
        """A signed request for a session; `changes` are of its fields."""
        town = self.town
        identity = by if isinstance(by, Identity) else town.identity(by)
        charter = town.chain.charter
        if by == "rival" and town.others:
            charter = town.others[0].charter
        fields = {
            "gateway": town.lab.history.identity,
            "authority": self.authority.certificate,
            "charter": (charter.id, charter.digest),
            "role": "analyst",
            "purpose": PURPOSE,
            "public": (key or TlsKey.create()).public,
            "nonce": os.urandom(16),
            "at": self.now(),
            **changes,
        }
        return tokens.ask(by=identity, **fields)

    def open(self, request):
        grant = msgspec.json.decode(self.office.open_session(request))
        return Ticket(grant["session"], grant["token"], certificate_of(grant), request)

    def session(self, by="clinic", **changes):
        return self.open(self.ask(by, **changes))

    def owner(self, **changes):
        """lab's own session, which administers."""
        fields = {"charter": None, "purpose": None, "role": "owner", **changes}
        return self.session("lab", **fields)

    def visitor(self, ticket):
        return self.office.visitor(ticket.token, ticket.certificate)

    def arrival(self, ticket, body=None, **changes):
        fields = {
            "certificate": ticket.certificate,
            "token": ticket.token,
            "address": "127.0.0.1",
            "purpose": PURPOSE,
            "record": None,
            "model": "scan",
            "version": None,
            "body": body_of() if body is None else body,
            "read": partial(read_tensors, header_length=None, limits=Limits()),
            **changes,
        }
        return Arrival(**fields)

    def answer(self, ticket, body=None, **changes):
        """What comes back, whatever it is."""
        return self.answer_to(self.arrival(ticket, body, **changes))

    def answer_to(self, arrival):
        return asyncio.run(self._whole(arrival))

    async def _whole(self, arrival):
        answer = await self.pipeline.call(arrival)
        if answer.stream is not None:
            answer.body = b"".join([piece async for piece in answer.stream])
        return answer

    def call(self, ticket, body=None, **changes):
        """True; or Refused is raised."""
        answer = self.answer(ticket, body, **changes)
        if answer.refused is not None:
            raise Refused(answer.refused)
        return answer.status == 200

    def together(self, count, ticket, body=None, **changes):
        """So many calls at the same time."""

        async def all_of_them():
            calls = [self._whole(self.arrival(ticket, body, **changes)) for _ in range(count)]
            return await asyncio.gather(*calls)

        return asyncio.run(all_of_them())

    def entries(self):
        """What stands in the charter's ledger, verified."""
        from counterseal.jobs import ledger as ledgers

        self.served.ledger.settle()
        self.served.ledger.publish()
        read = self.served.ledger.read
        _, found = ledgers.show(read, owner=self.town.lab.history, last=10_000)
        return [entry for _, entry in found]

    def events(self):
        return [entry.event for entry in self.entries()]

    def used(self, unit="requests"):
        found = self.served.quotas.usage(self.now())
        return next(one.used for one in found if one.unit == unit)

    def close(self):
        if self.closed:
            return
        self.closed = True
        self.pool.shutdown()
        self.desk.close()
        for close in self._closing:
            close()


def certificate_of(grant):
    """SHA-256 of the session's certificate, hex, as TLS shows it."""
    first, end = grant["certificate"].partition("-----END CERTIFICATE-----")[:2]
    return sha256(ssl.PEM_cert_to_DER_cert(first + end)).hex()
