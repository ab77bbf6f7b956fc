"""The mailbox: answers requests, without a socket and without a clock (SPEC 14.3).

Rules for every request, in order; the first that fails is the answer:
1. It is not too often for its address, if it comes from a stranger, or for its client.
2. A stranger may prove who it is, and use a slot; nothing else.
3. A client's card is still the current one, as `lookup` knows it now.
4. What is asked for exists and is for this client; else there is no such thing.
5. Its parts are in the form that the protocol gives them; sizes are checked before bytes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from typing import TYPE_CHECKING, Final

from counterseal.errors import CountersealError, TrustError
from counterseal.exchange.transports.https import binding, block_routes, box_routes, slot_routes
from counterseal.exchange.transports.https.call import Call, Desk
from counterseal.exchange.transports.https.index import Index
from counterseal.exchange.transports.https.limits import Limits
from counterseal.exchange.transports.https.messages import Response, read_all
from counterseal.exchange.transports.https.problems import StatusError, nothing, problem
from counterseal.exchange.transports.https.protocol import JSON
from counterseal.exchange.transports.https.rates import Buckets
from counterseal.exchange.transports.https.shelf import Shelf
from counterseal.exchange.transports.https.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from counterseal.exchange.transports.https.messages import Later, Request
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

    Lookup = Callable[[str], History | None]
    Route = Callable[[Call], Response | Later]

__all__ = ["Mailbox"]

_NAME: Final = r"(?P<name>[0-9a-f]{64})"
_BOX: Final = r"(?P<box>[0-9a-f]{32})"
_ID: Final = r"(?P<identifier>[0-9a-f]{32})"
_NUMBER: Final = r"(?P<number>[0-9]{1,9})"
# Two routes are for strangers: `session` below, and these.
_OPEN: Final[dict[str, dict[str, Route]]] = {
    rf"/v1/slots/{_NUMBER}/messages": {"POST": slot_routes.post},
    rf"/v1/slots/{_NUMBER}/messages/(?P<place>[0-7])": {"GET": slot_routes.read},
}
_ROUTES: Final[dict[str, dict[str, Route]]] = {
    r"/v1/blocks/missing": {"POST": block_routes.missing},
    rf"/v1/blocks/{_NAME}": {
        "GET": block_routes.get,
        "HEAD": block_routes.get,
        "PUT": block_routes.put,
        "OPTIONS": block_routes.options,
    },
    rf"/v1/uploads/{_ID}": {
        "HEAD": block_routes.offset,
        "PATCH": block_routes.append,
        "DELETE": block_routes.cancel,
    },
    r"/v1/boxes": {"GET": box_routes.listing},
    rf"/v1/boxes/{_BOX}/letters": {"POST": box_routes.post},
    rf"/v1/boxes/{_BOX}/letters/{_ID}": {"GET": box_routes.read, "DELETE": box_routes.delete},
    rf"/v1/board/{_BOX}": {"GET": box_routes.notice, "PUT": box_routes.put_up},
    rf"/v1/slots/{_NUMBER}": {"PUT": slot_routes.open_, "DELETE": slot_routes.close},
}
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Mailbox:
    """A store for letters and blocks under `root`, for the clients that `lookup` knows.

    `lookup` gives the pinned history of an identity, or None. It is called on every request,
    so that a revocation acts at once: let it be quick.
    """

    def __init__(
        self,
        root: Path,
        *,
        identity: Identity,
        lookup: Callable[[str], History | None],
        limits: Limits | None = None,
    ) -> None:
        """Raises CountersealError if another process serves `root`."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.limits = limits or Limits()
        self.identity = identity
        self._lock = _alone(root)
        try:
            self._index = Index(root / "mailbox.sqlite")
            shelf = Shelf(root, self._index, self.limits)
        except BaseException:
            os.close(self._lock)
            raise
        self.desk = Desk(
            self.limits,
            _discreet(lookup),
            shelf,
            Slots(self._index, self.limits),
            Buckets(self.limits.postings, what="letters"),
        )
        self._requests = Buckets(self.limits.requests, what="requests")
        self._strangers = Buckets(self.limits.strangers, what="requests from your address")
        self._sessions = Buckets(self.limits.sessions, what="connections from your address")

    def handle(self, request: Request, *, at: datetime) -> Response | Later:
        """Answer by the rules above; never raises what the other side could cause."""
        try:
            return self._handle(request, at)
        except CountersealError as error:
            return problem(error, at=at)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return problem(CountersealError("no space left here", hint="try again later"), 507)

    def _handle(self, request: Request, at: datetime) -> Response | Later:
        if request.path == "/v1/session":
            self._sessions.take(request.peer.address, at=at)
            return self._session(request, at)
        who = request.peer.who
        found = _find(_OPEN, request.path)
        if who is None:
            if not request.again:
                self._strangers.take(request.peer.address, at=at)
            if found is None:
                return problem(TrustError("this mailbox wants to know who you are"), 401)
        else:
            who.check(self.desk.lookup(who.identity), at=at)
            if not request.again:
                self._requests.take(who.identity, at=at)
            found = found or _find(_ROUTES, request.path)
        if found is None:
            return nothing()
        methods, parts = found
        if request.method not in methods:
            return _not_allowed(methods)
        identity = "" if who is None else who.identity
        return methods[request.method](Call(self.desk, request, at, identity, parts))

    def _session(self, request: Request, at: datetime) -> Response:
        """SPEC 14.3.2: first we prove who we are, then the client may."""
        us = self.identity.history.identity
        exporter = request.peer.exporter
        if request.method == "GET":
            proof = binding.prove(
                "mailbox", exporter, by=self.identity, mailbox=us, client=None, at=at
            )
            return Response(200, proof, {"content-type": JSON, "cache-control": "no-store"})
        if request.method != "POST":
            return _not_allowed(("GET", "POST"))
        if request.peer.who is not None:
            raise StatusError("this connection has its client already", 409)
        proof = read_all(request.body, limit=binding.PROOF_BYTES)
        request.peer.who = binding.check_client(
            proof, exporter, mailbox=us, lookup=self.desk.lookup, at=at
        )
        return Response(204)

    def sweep(self, *, at: datetime) -> None:
        """Take away what has ended; now and then."""
        self.desk.shelf.sweep(at=at)
        self.desk.slots.sweep(at=at)

    def close(self) -> None:
        self._index.close()
        os.close(self._lock)


def _discreet(lookup: Lookup) -> Lookup:
    """What goes wrong in the operator's home, and where that is, is no client's business."""

    def discreet(identity: str) -> History | None:
        try:
            return lookup(identity)
        except CountersealError as error:
            raise StatusError("this mailbox cannot look you up now", 500) from error

    return discreet


def _not_allowed(methods: Iterable[str]) -> Response:
    answer = problem(CountersealError("that cannot be done with this"), 405)
    answer.headers["allow"] = ", ".join(methods)
    return answer


def _find(
    routes: dict[str, dict[str, Route]], path: str
) -> tuple[dict[str, Route], dict[str, str]] | None:
    for pattern, methods in routes.items():
        match = re.fullmatch(pattern, path)
        if match is not None:
            return methods, match.groupdict()
    return None


def _alone(root: Path) -> int:
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CountersealError(
            f"another process serves {root}", hint="stop it, or serve another folder"
        ) from None
    return descriptor
