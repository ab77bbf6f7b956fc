"""Blocks up and down: what one lane does with one block (SPEC 14.3.4)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from counterseal.errors import Aborted, BadCiphertext, Dropped
from counterseal.exchange.transports.https import fields
from counterseal.exchange.transports.https.pool import content
from counterseal.exchange.transports.https.problems import PROBLEM_BYTES, from_problem
from counterseal.exchange.transports.https.protocol import BYTES, PARTIAL

if TYPE_CHECKING:
    from counterseal.exchange.transports import BlockSink, BlockSource
    from counterseal.exchange.transports.https.http1 import Stream
    from counterseal.exchange.transports.https.lanes import Tally
    from counterseal.exchange.transports.https.protocol import Partial

__all__ = ["Download", "Upload"]

STALL_SECONDS: Final = 60.0  # without a byte


class Upload:
    """One block on its way up, from where an earlier attempt got to."""

    def __init__(
        self, name: str, source: BlockSource, *, host: str, tally: Tally, begun: Partial | None
    ) -> None:
        self.name = name
        self.begun = begun
        self._source = source
        self._host = host
        self._tally = tally
        self._in_doubt = True  # whether what was begun there is ours at all

    def ask(self, stream: Stream) -> None:
        stream.link.limit(STALL_SECONDS)
        data = _buffer(self._source.size(self.name))
        self._source.fill(self.name, data)  # the mailbox checks it, as it must
        headers = {"host": self._host, "content-type": BYTES}
        if self.begun is None:
            stream.ask("PUT", f"/v1/blocks/{self.name}", headers, data)
            return
        headers |= {
            "content-type": PARTIAL,
            "upload-offset": str(self.begun.offset),
            "upload-complete": "?1",
        }
        rest = data[self.begun.offset :]
        stream.ask("PATCH", f"/v1/uploads/{self.begun.id}", headers, rest)

    def answer(self, stream: Stream) -> None:
        answer = stream.answer()
        body = content(stream, answer, limit=PROBLEM_BYTES)
        if answer.status in {200, 201}:
            self._tally.add(self._source.size(self.name))
            return
        error = from_problem(answer.status, body)
        if isinstance(error, BadCiphertext):
            self._source.read(self.name)  # raises if it is our file that has changed
        if self.begun is not None and self._in_doubt:
            if isinstance(error, BadCiphertext):
                self._in_doubt = False  # a crash there damaged the beginning: once more, whole
            if isinstance(error, BadCiphertext) or answer.status in {404, 409}:
                raise Dropped("the beginning of an upload is gone") from error
        raise error

    def done_elsewhere(self) -> None:
        """It arrived; only the answer was lost."""
        self._tally.add(self._source.size(self.name))


_own = threading.local()


def _buffer(size: int) -> memoryview:
    """Each lane has one: pages that the kernel has already given us are cheap."""
    if not hasattr(_own, "buffer") or len(_own.buffer) < size:
        _own.buffer = memoryview(bytearray(size))
    view: memoryview = _own.buffer[:size]
    return view


class Download:
    """One block on its way down; what came before the connection was lost is not fetched again."""

    def __init__(self, name: str, sink: BlockSink, *, host: str, tally: Tally) -> None:
        self.name = name
        self._sink = sink
        self._size = sink.size(name)
        self._host = host
        self._tally = tally
        self._got = 0
        self._asked_from = 0

    def ask(self, stream: Stream) -> None:
        stream.link.limit(STALL_SECONDS)
        headers = {"host": self._host}
        self._asked_from = self._got
        if self._got:
            headers["range"] = f"bytes={self._got}-"
            headers["if-range"] = fields.tag(self.name)
        stream.ask("GET", f"/v1/blocks/{self.name}", headers)

    def answer(self, stream: Stream) -> None:
        answer = stream.answer()
        if answer.status == 404:
            content(stream, answer, limit=PROBLEM_BYTES)
            raise Aborted(
                "the mailbox does not have all blocks any more",
                party="mailbox",
                check="blocks of a letter",
                hint="ask your partner to send it again",
            )
        if answer.status not in {200, 206}:
            body = content(stream, answer, limit=PROBLEM_BYTES)
            raise from_problem(answer.status, body)
        begin = self._asked_from if answer.status == 206 else 0
        if answer.length != self._size - begin:
            raise Aborted("a block of the wrong length", party="mailbox", check="length of a block")
        self._got = begin
        view = _buffer(self._size)
        while self._got < self._size:
            self._got += stream.read_into(view[self._got :])
        self._sink.put(self.name, view)
        self._tally.add(self._size)
