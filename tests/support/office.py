"""A mailbox of the bank's, which knows lab, clinic and rival: without sockets, and with them."""

import dataclasses
import json
import os

from workshop import AT

from counterseal.crypto.digest import leaf_digest
from counterseal.exchange.boxes import box
from counterseal.exchange.transports.https import HttpsTransport, Limits, Mailbox, serve
from counterseal.exchange.transports.https.binding import Who
from counterseal.exchange.transports.https.messages import BytesBody, Part, Peer, Request
from counterseal.exchange.transports.https.protocol import Missing, Names, Posting, join, split
from counterseal.wire import canonical

LIMITS = Limits(spare_bytes=0)


def block(size=100_000):
    data = os.urandom(size)
    return leaf_digest(data).hex(), data


class Blocks:
    """A source of blocks, and a sink for the same."""

    def __init__(self, *sizes):
        self.data = dict(block(size) for size in sizes)
        self.names = list(self.data)
        self.got = {}

    def size(self, name):
        return len(self.data[name])

    def read(self, name):
        return self.data[name]

    def fill(self, name, view):
        view[:] = self.read(name)

    def missing(self):
        return [name for name in self.names if name not in self.got]

    def put(self, name, data):
        assert leaf_digest(data).hex() == name
        self.got[name] = bytes(data)

    @property
    def whole(self):
        return self.got == self.data


class Office:
    """The mailbox and who uses it; `ask` is a request of somebody who has proven who they are."""

    def __init__(self, cast, root):
        self.cast, self.root, self.limits, self.at = cast, root, LIMITS, AT
        self.known = {
            one.history.identity: one.history for one in (cast.lab, cast.clinic, cast.rival)
        }
        self.interim = []
        self.mailbox = None
        self.open()

    def open(self, **limits):
        """Again, as after a restart."""
        self.shut()
        self.limits = dataclasses.replace(self.limits, **limits)
        self.mailbox = Mailbox(
            self.root, identity=self.cast.bank, lookup=self.known.get, limits=self.limits
        )

    def shut(self):
        if self.mailbox is not None:
            self.mailbox.close()
            self.mailbox = None

    close = shut

    def peer(self, identity=None, address="10.0.0.1"):
        who = identity and Who(
            identity=identity.history.identity, card=identity.history.newest.key_id
        )
        return Peer(address, bytes(32), who)

    def ask(
        self,
        by,
        method,
        path,
        body=b"",
        *,
        peer=None,
        waited=False,
        again=False,
        lost_after=None,
        **headers,
    ):
        path, _, query = path.partition("?")
        fields = {}
        for pair in filter(None, query.split("&")):
            name, _, value = pair.partition("=")
            fields.setdefault(name, []).append(value)
        self.interim.clear()
        request = Request(
            method,
            path,
            peer or self.peer(by),
            query=fields,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            body=body if hasattr(body, "left") else BytesBody(body, lost_after=lost_after),
            interim=lambda status, said: self.interim.append((status, dict(said))),
            waited=waited,
            again=again or waited,
        )
        answer = self.mailbox.handle(request, at=self.at)
        if isinstance(getattr(answer, "body", None), Part):
            part = answer.body
            answer.body = os.pread(part.descriptor, part.length, part.offset)
            os.close(part.descriptor)
        return answer

    def put(self, by, data, **headers):
        return self.ask(by, "PUT", f"/v1/blocks/{leaf_digest(data).hex()}", data, **headers)

    def box(self, by, to):
        return box(by.history.identity, to.history.identity)

    def post(self, by, to, letter=b"letter", names=(), *, into=None):
        posting = Posting(
            kind="posting",
            recipient=to.history.identity,
            letter=letter,
            blocks=join(list(names)),
        )
        where = into or self.box(by, to)
        return self.ask(by, "POST", f"/v1/boxes/{where}/letters", canonical.encode(posting))

    def missing(self, by, names):
        data = canonical.encode(Names(kind="names", names=join(list(names))))
        answer = self.ask(by, "POST", "/v1/blocks/missing", data)
        said = canonical.decode(answer.body, Missing, limit=10**7, what="answer")
        return split(said.names), said.partial

    def listed(self, by, query=""):
        return json.loads(self.ask(by, "GET", f"/v1/boxes{query}").body)["letters"]

    def stored(self):
        """All block files, whole or not."""
        return sorted(
            path.name
            for folder in ("blocks", "uploads")
            for path in (self.root / folder).rglob("*")
            if path.is_file()
        )


class Street(Office):
    """The same, with sockets."""

    def __init__(self, cast, root):
        super().__init__(cast, root)
        self.log = []
        self.transports = []
        self.server = None
        self.port = 0

    def serve(self):
        """On the same port as before."""
        self.server = serve(
            self.mailbox, "127.0.0.1", self.port, clock=lambda: self.at, log=self.log.append
        )
        self.port = self.server.port

    def stop(self):
        if self.server is not None:
            self.server.close()
            self.server = None

    def transport(self, by, *, server=None, **more):
        more.setdefault("partners", list(self.known))
        made = HttpsTransport(
            "127.0.0.1",
            self.port,
            by=by,
            server=(server or self.cast.bank).history,
            clock=lambda: self.at,
            **more,
        )
        self.transports.append(made)
        return made

    def close(self):
        for one in self.transports:
            one.close()
        self.stop()
        self.shut()
