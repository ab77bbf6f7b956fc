"""A partner that keeps its receipts and looks at the ledger of a gateway in this process."""

from __future__ import annotations

import asyncio
import os
import time
from types import SimpleNamespace

from gateway import body_of

from counterseal.jobs import witness
from counterseal.jobs.session import CallBook
from counterseal.ledger.witness import Call


class Watched:
    """clinic's session at a worker of this process, as its SDK has it: calls are remembered.

    `fetch` can be replaced: by what somebody else serves, or an owner without scruples.
    """

    def __init__(self, worker, **changes):
        town = worker.town
        self.worker, self.charter = worker, town.chain.charter.id
        self.ticket = worker.session(**changes)
        self.opened = SimpleNamespace(charter=self.charter)
        self.book = CallBook(town.store("clinic"), town.clinic.history.identity, self.charter)
        self.fetch = self.honest
        self.sent = []

    def honest(self, path):
        visitor = self.worker.visitor(self.ticket)
        return asyncio.run(self.worker.office.ledger_file(visitor, self.charter, path))

    def send(self, method, path, body=b""):
        visitor = self.worker.visitor(self.ticket)
        self.sent.append((method, path))
        asyncio.run(self.worker.office.cosign(visitor, self.charter, body))

    def call(self, *, key=None):
        """`key`: instead of the record's, in the answer's headers."""
        record = os.urandom(16)
        made = Call.made(record, time=int(time.time()))
        self.book.keep(made)
        body = body_of()
        answer = self.worker.answer(self.ticket, body, record=record.hex())
        assert answer.refused is None
        headers = dict(answer.headers)
        key = key or bytes.fromhex(headers[b"counterseal-record-key"].decode())
        self.book.keep(made.answered(key, input=body, output=answer.body))
        return made.id

    def verify(self, **more):
        """clinic looks at the ledger, after everything so far was published."""
        self.worker.served.ledger.settle()
        self.worker.served.ledger.publish()
        town = self.worker.town
        return witness.verify(self, by=town.clinic, owner=town.lab.history, **more)
