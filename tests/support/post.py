"""What the tests of letters and shipments share: two parties, a store between them, and what an
attacker who owns the store, or holds valid keys of another organization, can do with it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import msgspec
from workshop import AT

from counterseal.crypto.digest import leaf_digest
from counterseal.errors import CountersealError
from counterseal.exchange import letter as letters
from counterseal.exchange import sealing
from counterseal.exchange.boxes import box
from counterseal.exchange.reader import read_front
from counterseal.exchange.receipt import Receipt
from counterseal.exchange.shipment import Notice, Outgoing, front_message
from counterseal.exchange.transports.memory import MemoryTransport
from counterseal.exchange.transports.objects import ObjectTransport, _split
from counterseal.jobs.receive import Arrived, Refused, receive
from counterseal.jobs.send import send
from counterseal.trust import signed
from counterseal.trust.history import History
from counterseal.trust.partner import Partner
from counterseal.wire import canonical


class Post:
    """lab sends, clinic receives; both know bank and rival too. `via` is everybody's store."""

    def __init__(self, bench, via=None):
        self.bench = bench
        self.via = via or MemoryTransport()
        self.objects = self.via._objects
        self.inbox = bench.folder / "inbox"
        self.inbox.mkdir(exist_ok=True)
        self.everybody = [bench.lab, bench.clinic, bench.bank, bench.rival]

    def partner(self, identity):
        """As it is known to the others: pinned before, and refreshed since."""
        return Partner(identity.name, History.verify(identity.card()), AT)

    def send(self, path, *, by=None, to=None, at=AT, via=None, **more):
        by, to = by or self.bench.lab, to or self.bench.clinic
        return send(path, by=by, to=self.partner(to), via=via or self.via, at=at, **more)

    def receive(self, *, by=None, of=None, at=AT, folder=None, via=None, **more):
        by = by or self.bench.clinic
        partners = [self.partner(one) for one in of or self.everybody if one is not by]
        return list(
            receive(
                folder or self.inbox,
                by=by,
                partners=partners,
                via=via or self.via,
                now=lambda: at,
                **more,
            )
        )

    def taken(self, **more):
        """As `receive`; what was refused is raised."""
        events = self.receive(**more)
        for event in events:
            if isinstance(event, Refused):
                raise event.error
        return events

    def arrives(self, **more):
        """What most attackers want: that the victim takes what they made."""
        return any(isinstance(event, Arrived) for event in self.taken(**more))

    # ── the owner of the store ──────────────────────────────────────────────────────────────

    def box(self, sender=None, recipient=None):
        sender, recipient = sender or self.bench.lab, recipient or self.bench.clinic
        return box(sender.history.identity, recipient.history.identity)

    def places(self, shelf="letters", *, box=None):
        """Full names of the objects on a shelf, in order."""
        folder = f"boxes/{box or self.box()}/{shelf}"
        return [f"{folder}/{name}" for name in sorted(self.objects.names(folder))]

    def stored(self, place):
        return self.objects.get(place, limit=1 << 30)

    def letters(self, *, box=None):
        """The sealed bytes of the letters that wait."""
        return [_split(self.stored(place))[1] for place in self.places(box=box)]

    def drop_in(self, data, *, box=None, blocks=(), number=0):
        """A letter of the attacker's making, with blocks."""
        box = box or self.box()
        for block in blocks:
            self.objects.put(f"boxes/{box}/blocks/{leaf_digest(block).hex()}", block)
        names = b"".join(leaf_digest(block) for block in blocks)
        listed = len(blocks).to_bytes(4, "big") + names
        place = f"boxes/{box}/letters/{number:020d}-{os.urandom(16).hex()}"
        self.objects.put(place, listed + data)
        return place

    # ── who holds keys ──────────────────────────────────────────────────────────────────────

    def write(self, body, *, by=None, to=None, type_="shipment", at=AT, signer=None, **fields):
        """A letter with any fields, signed by whomever, sealed for `to`; returns its bytes."""
        by, to = by or self.bench.lab, to or self.bench.clinic
        made = canonical.timestamp(at)
        letter = letters.Letter(
            **{
                "kind": "letter",
                "format": 1,
                "id": os.urandom(16).hex(),
                "type": type_,
                "sender": by.history.identity,
                "card": by.key_id,
                "recipient": to.history.identity,
                "created": made,
                "expires": made + letters.LIFETIME,
                "body": body if isinstance(body, bytes) else canonical.encode(body),
                **fields,
            }
        )
        keys = (signer or by).signer_of((signer or by).key_id)
        envelope = signed.sign(letter, letters.LETTER_TYPE, by=[keys])
        return self.sealed(canonical.encode(envelope), to=to)

    def sealed(self, plain, *, to=None):
        to = to or self.bench.clinic
        return sealing.seal_message(plain, to=to.history.newest, prekey=None)

    def plain(self, data, *, by=None, sender=None):
        by, sender = by or self.bench.clinic, sender or self.bench.lab
        return sealing.open_sealed_message(data, by=by, partner=sender.history.identity)

    def read(self, data, *, by=None, sender=None, at=AT):
        by, sender = by or self.bench.clinic, sender or self.bench.lab
        return letters.read(data, by=by, sender=sender.history, at=at)

    def ship(self, path, *, box=None, change=(), blocks=None, **letter):
        """A shipment by a sender without scruples: any notice, any blocks."""
        with outgoing(path) as out:
            notice = msgspec.structs.replace(out.notice, **dict(change))
            pieces = [out.read(name) for name in out.names] if blocks is None else blocks
        return self.drop_in(self.write(notice, **letter), box=box, blocks=pieces)

    def receipt(self, sent, *, by=None, to=None, **change):
        """A receipt of a shipment, by whomever."""
        by, to = by or self.bench.clinic, to or self.bench.lab
        fields = {
            "kind": "receipt",
            "format": 1,
            "letter": sent.letter,
            "notice": sent.notice,
            "package": sent.package,
            "at": canonical.timestamp(AT),
            **change,
        }
        data = self.write(Receipt(**fields), by=by, to=to, type_="receipt")
        return self.drop_in(data, box=self.box(by, to))


@contextmanager
def outgoing(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Outgoing.of(Path(path), descriptor, front=read_front(descriptor))
    finally:
        os.close(descriptor)


def blocks_of(path):
    with outgoing(path) as out:
        return out.notice, {name: out.read(name) for name in out.names}


def cut_front(notice, plain):
    """The blocks of another front under the notice's key, and the notice that lists them."""
    sealed = front_message(notice.key, len(plain)).seal_whole(plain)
    size = notice.block_bytes
    pieces = [sealed[at : at + size] for at in range(0, len(sealed), size)]
    digests = b"".join(map(leaf_digest, pieces))
    return msgspec.structs.replace(notice, front=digests), pieces


class Spy:
    """Objects that count what is read and written, and call `before` ahead of each operation."""

    parallel = 1

    def __init__(self, inner, before=lambda kind, name: None):
        self.inner = inner
        self.before = before
        self.log = []

    def put(self, name, data):
        self._note("put", name)
        self.inner.put(name, data)
        self.log.append(("put", name, len(data)))

    def get(self, name, *, limit):
        self._note("get", name)
        data = self.inner.get(name, limit=limit)
        self.log.append(("get", name, len(data or b"")))
        return data

    def names(self, folder):
        self._note("names", folder)
        return self.inner.names(folder)

    def delete(self, name):
        self._note("delete", name)
        self.inner.delete(name)
        self.log.append(("delete", name, 0))

    def _note(self, kind, name):
        self.before(kind, name)

    def moved(self, kind):
        """Bytes of blocks."""
        return sum(count for what, name, count in self.log if what == kind and "/blocks/" in name)

    def transport(self, **more):
        return ObjectTransport(self, **more)


__all__ = ["CountersealError", "Notice", "Post", "Spy", "blocks_of", "cut_front", "outgoing"]
