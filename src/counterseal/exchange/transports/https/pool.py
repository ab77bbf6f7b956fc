"""Connections of a client to its mailbox, each proven at both ends before it is used."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from counterseal.errors import Aborted, Dropped
from counterseal.exchange.transports.https import binding
from counterseal.exchange.transports.https.http1 import Stream
from counterseal.exchange.transports.https.problems import PROBLEM_BYTES, from_problem
from counterseal.exchange.transports.https.protocol import JSON
from counterseal.exchange.transports.https.tls import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from counterseal.errors import CountersealError
    from counterseal.exchange.transports.https.http1 import Answer
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["Pool", "Reply", "content"]


class Reply:
    """A whole small answer."""

    def __init__(self, answer: Answer, body: bytes) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.body = body

    def error(self) -> CountersealError:
        return from_problem(self.status, self.body)


class Pool:
    """Without `by` a connection is a stranger's: good for slots only."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        by: Identity | None,
        server: History | None,
        clock: Callable[[], datetime],
        timeout: float,
    ) -> None:
        self._place = host, port
        self._by = by
        self._server = server
        self._clock = clock
        self._timeout = timeout
        self._lock = threading.Lock()
        self._idle: list[Stream] = []
        self._closed = False
        name = f"[{host}]" if ":" in host else host
        self.host = f"{name}:{port}"

    def take(self) -> Stream:
        """One that is idle, or a new one. Raises TrustError for the wrong mailbox."""
        with self._lock:
            if self._closed:
                raise Dropped("this transport is closed")
            if self._idle:
                return self._idle.pop()
        link = Link.connect(*self._place, timeout=self._timeout)
        try:
            stream = Stream(link)
            self._prove(stream)
        except BaseException:
            link.close()
            raise
        return stream

    def give_back(self, stream: Stream, *, good: bool) -> None:
        """`good`: no answer is outstanding."""
        with self._lock:
            if good and not self._closed:
                self._idle.append(stream)
                return
        stream.link.abort()
        stream.link.close()

    def forget(self) -> None:
        """The mailbox went away, so the idle ones are dead, too."""
        with self._lock:
            idle, self._idle = self._idle, []
        for stream in idle:
            stream.link.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self.forget()

    def _prove(self, stream: Stream) -> None:
        """SPEC 14.3.2: the mailbox first."""
        if self._server is None:
            return
        exporter, at = stream.link.exporter, self._clock()
        proof = self.exchange(stream, "GET", "/v1/session", limit=binding.PROOF_BYTES)
        if proof.status != 200:
            raise proof.error()
        binding.check_mailbox(proof.body, exporter, mailbox=self._server, at=at)
        if self._by is None:
            return
        ours = self._by.history.identity
        mailbox = self._server.identity
        data = binding.prove("client", exporter, by=self._by, mailbox=mailbox, client=ours, at=at)
        answer = self.exchange(
            stream, "POST", "/v1/session", {"content-type": JSON}, data, limit=PROBLEM_BYTES
        )
        if answer.status != 204:
            raise answer.error()
        stream.used = False

    def exchange(
        self,
        stream: Stream,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        limit: int,
        wait: float = 0.0,
    ) -> Reply:
        """One small request over this connection; `wait` is what it asks the mailbox to wait."""
        stream.link.limit(self._timeout + wait)
        stream.ask(method, target, {"host": self.host, **(headers or {})}, body)
        answer = stream.answer()
        return Reply(answer, content(stream, answer, limit=limit))

    def call(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        limit: int = PROBLEM_BYTES,
        wait: float = 0.0,
        expected: Sequence[int] = (200, 201, 204),
    ) -> Reply:
        """One small request; all of ours may be repeated. A status not `expected` is raised."""
        while True:
            stream = self.take()
            again = stream.used  # may have died while it was idle
            good = False
            try:
                reply = self.exchange(stream, method, target, headers, body, limit=limit, wait=wait)
                good = "close" not in reply.headers.get("connection", "").lower()
            except Dropped:
                self.forget()
                if not again:
                    raise
                continue
            finally:
                self.give_back(stream, good=good)
            if reply.status not in expected:
                raise reply.error()
            return reply


def content(stream: Stream, answer: Answer, *, limit: int) -> bytes:
    if answer.length > max(limit, PROBLEM_BYTES if answer.status >= 400 else 0):
        raise Aborted("the mailbox answers too much", party="mailbox", check="length of an answer")
    buffer = memoryview(bytearray(answer.length))
    at = 0
    while at < answer.length:
        at += stream.read_into(buffer[at:])
    return bytes(buffer)
