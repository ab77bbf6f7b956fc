"""Parsers of what travels: letters, pairings, handshakes, brokers, mailboxes (see `targets`)."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from types import SimpleNamespace

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp
from workshop import AT, Cast

from counterseal.crypto.ephemeral import SHARE_BYTES
from counterseal.exchange import epoch_check, letter, receipt, shipment
from counterseal.exchange.handshake_messages import Hello, check_purpose
from counterseal.exchange.link import Link, line_of
from counterseal.exchange.transports.https import fields
from counterseal.exchange.transports.https.http1 import Stream
from counterseal.exchange.transports.mqtt import messages as mqtt
from counterseal.exchange.transports.mqtt.receiver import Receiver
from counterseal.exchange.transports.mqtt.sender import Sender
from counterseal.trust.directory import metadata
from counterseal.trust.directory.bundle import DirectoryBundle
from counterseal.trust.directory.publisher import make_directory
from counterseal.trust.pairing import Accepter, Code, Invitation, Inviter
from counterseal.wire import canonical, limits
from counterseal.wire.dsse import Envelope

TRANSFER = bytes(16).hex()


@cache
def cast():
    return Cast()


def sealed_letter(data):
    letter.read(data, by=cast().clinic, sender=cast().lab.history, at=AT)


def letter_inside(data):
    canonical.decode(data, letter.Letter, limit=limits.LETTER_BYTES, what="letter")


def notice(data):
    shipment.Notice.parse(data).places()


def receipts(data):
    receipt.Receipt.parse(data)


def directory(data):
    DirectoryBundle.parse(data).roots()


def directory_file(data):
    roles = (Root, Timestamp, Snapshot, Targets)
    if data:
        metadata.load(data[1:], roles[data[0] % 4], names=None)


def epoch(data):
    envelope = canonical.decode(data, Envelope, limit=limits.LETTER_BYTES, what="epoch")
    epoch_check.parse(envelope)


def code(data):
    Code.parse(data.decode("utf-8", "surrogateescape"))


@cache
def invitation():
    return Invitation.create(at=AT)


@cache
def accepter():
    return Accepter(invitation().code, us=cast().clinic, at=AT)


def pairing_inviter(data):
    Inviter(invitation(), us=cast().lab).receive(data, at=AT)


def pairing_accepter(data):
    accepter().receive(data, at=AT)


def handshake(data):
    Hello.parse(data)


def line(data):
    line_of(data)
    Link(bytes(16), initiator=True).receive(data, now=0.0)


def _said(data):
    """Anybody at a broker can make a message that is well closed, if there is no secret."""
    lock = mqtt.Lock(TRANSFER)
    kinds = list(mqtt.Kind)
    body = data[9:]
    if kinds[data[0] % len(kinds)] is mqtt.Kind.PART:
        body = body.ljust(mqtt.HEAD_BYTES, b"\0")
        size = len(mqtt.Part(0, 0, 0).encode())
        closed = lock.close(mqtt.Kind.PART, data[1:9], data[0], body[:size])
        return lock, closed + body[size:]
    return lock, lock.close(kinds[data[0] % len(kinds)], data[1:9], data[0], body)


def broker_to_sender(data):
    if len(data) < 9:
        return
    lock, message = _said(data)
    blocks = SimpleNamespace(names=["00" * 32, "11" * 32], size=lambda _: 1 << 16)
    sender = Sender(blocks, lock, part_bytes=1 << 18, window_bytes=1 << 20, at=0.0)
    sender.receive(data, at=0.0)
    sender.receive(message, at=0.0)
    for push in sender.pushes(at=0.0):
        assert push.offset + push.length <= 1 << 16
    sender.receive(message, at=1.0)


def broker_to_receiver(data):
    if len(data) < 9:
        return
    lock, message = _said(data)
    receiver = Receiver(lock, random=lambda: data[1:9], at=0.0)
    receiver.wants(["00" * 32, "11" * 32], lambda _: 1 << 16, at=0.0)
    receiver.receive(data, at=0.0)
    receiver.receive(message, at=0.0)
    list(receiver.replies(at=9.0))


class _Wire:
    """A link on which these bytes come, and then the end."""

    def __init__(self, data):
        self._rest = data

    def read_into(self, view):
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def send(self, data):
        pass


def http_request(data):
    link = _Wire(data)
    found = Stream(link).next_head(link.read_into)
    if found is not None:
        headers = found[0].headers
        fields.boolean(headers, "upload-complete")
        fields.integer(headers, "upload-offset")
        fields.read_digest(headers, "repr-digest")
        fields.wants_digest(headers)
        fields.tags(headers.get("if-match", ""))
        try:
            fields.read_range(headers, 1000)
        except ValueError:  # documented: not satisfiable
            return


def http_answer(data):
    stream = Stream(_Wire(data))
    stream.ask("GET", "/v1/boxes", {"host": "mailbox"})
    stream.answer()


TARGETS = {
    f.__name__: f
    for f in (
        sealed_letter, letter_inside, notice, receipts, directory, directory_file, epoch, code,
        pairing_inviter, pairing_accepter, handshake, line, broker_to_sender, broker_to_receiver,
        http_request, http_answer,
    )
}  # fmt: skip


@cache
def seeds():
    """Honest inputs for each target."""
    lab, clinic = cast().lab, cast().clinic
    made, sealed = letter.write("receipt", b"{}", by=lab, to=clinic.history, at=AT)
    bundle = make_directory(lab, clinic.history, at=AT)
    block = bytes(32)
    size = 3 << 20
    plan = shipment.Plan.of(body=4096, size=size, block_bytes=1 << 20)
    digests = [bytes([number]) * 32 for number, _ in enumerate(plan.blocks, 2)]
    a_notice = shipment.Notice(
        kind="shipment", format=1, file="a.sealed", package="00" * 16, size=size, body=4096,
        block_bytes=1 << 20, key=block, front=b"\1" * 32, blocks=b"".join(digests),
    )  # fmt: skip
    files = [bytes([_role(name)]) + data for name, data in bundle.files.items() if _role(name) < 4]
    hello = accepter().hello
    reply = Inviter(invitation(), us=lab).receive(hello, at=AT)
    want = mqtt.Want(last=True, remaining=9, names=(bytes(mqtt.NAME_BYTES),)).encode()
    state = mqtt.State(1, 1, 0, 1).encode()
    run = bytes(8)
    request = (
        b"PUT /v1/blocks/00 HTTP/1.1\r\nhost: m\r\ncontent-length: 3\r\nupload-complete: ?1\r\n"
        b"range: bytes=1-2\r\nrepr-digest: sha-256=:" + b64encode(bytes(32)) + b":\r\n\r\nabc"
    )
    answers = (
        b"HTTP/1.1 104 x\r\nlocation: /v1/uploads/1\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    )
    return {
        "sealed_letter": [sealed],
        "letter_inside": [canonical.encode(made)],
        "notice": [canonical.encode(a_notice)],
        "receipts": [
            canonical.encode(
                receipt.Receipt(
                    kind="receipt", format=1, letter="00" * 16, notice="00" * 32,
                    package="00" * 16, at=canonical.timestamp(AT),
                )
            )
        ],
        "directory": [bundle.encode()],
        "directory_file": files,
        "epoch": [canonical.encode(_epoch())],
        "code": [b"4711-hobby-valid-actor", b"4711, HOBBY valid\tactor."],
        "pairing_inviter": [hello],
        "pairing_accepter": [reply.send],
        "handshake": [Hello(bytes(32), check_purpose("call"), bytes(SHARE_BYTES)).encode()],
        "line": [bytes(64)],
        "broker_to_sender": [b"\1" + run + want, b"\2" + run + state],
        "broker_to_receiver": [bytes([n]) + run + bytes(16) for n in range(len(mqtt.Kind))],
        "http_request": [request],
        "http_answer": [answers],
    }  # fmt: skip


def _epoch():
    from counterseal.exchange.epoch import Seat
    from counterseal.exchange.groups import Group

    _, made = Group.found(cast().lab, [Seat(cast().clinic.history)], at=AT)
    return made.envelope


def _role(name):
    for number, role in enumerate(("root", "timestamp", "snapshot", "targets")):
        if role in name:
            return number
    return 4
