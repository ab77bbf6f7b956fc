"""What may be done to a mailbox, through one, and by one; each sentence is an attack that is made.

The rival is a client like the others, with keys of its own; a stranger has none; somebody in
the middle ends TLS connections; and the mailbox itself may be hostile. Every row with `without`
is made twice: as it is, where it must be refused, and without the one check, where it succeeds.
"""

import contextlib
import socket
import threading
import time

import pytest
from office import Blocks, Office, Street, block
from OpenSSL import SSL
from workshop import Cut, attack, undefended

from counterseal.crypto.tls_identity import throw_away
from counterseal.errors import (
    Aborted,
    BadCiphertext,
    CountersealError,
    Dropped,
    RevokedKey,
    TimedOut,
    TrustError,
    UnknownPartner,
)
from counterseal.exchange.transports.https import HttpsTransport, tls
from counterseal.exchange.transports.https.http1 import Stream
from counterseal.exchange.transports.https.problems import from_problem
from counterseal.exchange.transports.https.tls import Link

HTTPS = "counterseal.exchange.transports.https."
SHELF = HTTPS + "shelf:"


@pytest.fixture
def office(cast, tmp_path):
    made = Office(cast, tmp_path / "mailbox")
    yield made
    made.close()


@pytest.fixture
def street(cast, tmp_path):
    made = Street(cast, tmp_path / "mailbox")
    made.serve()
    yield made
    made.close()


def must(answer):
    """The answer, or the error that a client would raise."""
    if answer.status >= 400:
        raise from_problem(answer.status, answer.body)
    return answer


# ------------------------------------------------------------------ the rival, a client


@attack(CountersealError, Cut(SHELF + "Shelf.read", "AND recipient = ?", "AND ? IS NOT NULL"))
def read_a_letter(office):
    lab, clinic, rival = office.cast.lab, office.cast.clinic, office.cast.rival
    place = office.post(lab, clinic).headers["location"]
    return lambda: must(office.ask(rival, "GET", place)).body == b"letter"


@attack(CountersealError, Cut(SHELF + "Shelf.delete", "AND recipient = ?", "AND ? IS NOT NULL"))
def delete_a_letter(office):
    lab, clinic, rival = office.cast.lab, office.cast.clinic, office.cast.rival
    place = office.post(lab, clinic).headers["location"]

    def deleted():
        must(office.ask(rival, "DELETE", place))
        return office.listed(clinic) == []

    return deleted


@attack(
    CountersealError,
    Cut(
        SHELF + "Shelf.listing", "WHERE recipient = ? AND number", "WHERE ? IS NOT NULL AND number"
    ),
)
def list_what_waits_for_another(office):
    lab, clinic, rival = office.cast.lab, office.cast.clinic, office.cast.rival
    office.post(lab, clinic)

    def listed():
        found = office.listed(rival, f"?box={office.box(lab, clinic)}")
        if not found:
            raise CountersealError("like a box that is empty")
        return True

    return listed


@attack(CountersealError, Cut(SHELF + "Shelf.readable", "AND recipient = ?", "AND ? IS NOT NULL"))
def read_a_block(office):
    lab, clinic, rival = office.cast.lab, office.cast.clinic, office.cast.rival
    name, data = block()
    office.put(lab, data)
    office.post(lab, clinic, names=[name])
    return lambda: must(office.ask(rival, "GET", f"/v1/blocks/{name}")).body == data


@attack(
    CountersealError,
    Cut(HTTPS + "blocks:Blocks._place", "{client}", "everybody"),
)
def learn_that_another_sent_a_block(office):
    """A public model: who has it can ask whether the lab is sending it to somebody."""
    lab, rival = office.cast.lab, office.cast.rival
    name, data = block()
    office.put(lab, data)

    def learned():
        if office.missing(rival, [name])[0] == [name]:
            raise CountersealError("to the rival it is missing")
        return True

    return learned


NO_BOX = Cut(SHELF + "_check_box", "not equal(box_of(by, to).encode(), box.encode())", "False")


@attack(TrustError, NO_BOX)
def put_a_letter_between_two_others(office):
    lab, clinic, rival = office.cast.lab, office.cast.clinic, office.cast.rival
    box = office.box(lab, clinic)

    def planted():
        must(office.post(rival, clinic, b"from the lab", into=box))
        return office.listed(clinic, f"?box={box}") != []

    return planted


@attack(TrustError, NO_BOX)
def replace_a_notice_of_another(office):
    lab, clinic, rival = office.cast.lab, office.cast.clinic, office.cast.rival
    path = f"/v1/board/{office.box(lab, clinic)}"
    to = {"counterseal_recipient": clinic.history.identity}
    office.ask(lab, "PUT", path, b"directory", if_none_match="*", **to)

    def replaced():
        must(office.ask(rival, "PUT", path, b"old directory", if_none_match="*", **to))
        return office.ask(clinic, "GET", path).body == b"old directory"

    return replaced


@attack(
    CountersealError,
    Cut(SHELF + "Shelf.notice", "? IN (sender, recipient)", "? IS NOT NULL"),
)
def read_a_notice_of_another(office):
    lab, clinic, rival = office.cast.lab, office.cast.clinic, office.cast.rival
    path = f"/v1/board/{office.box(lab, clinic)}"
    to = {"counterseal_recipient": clinic.history.identity}
    office.ask(lab, "PUT", path, b"directory", if_none_match="*", **to)
    return lambda: must(office.ask(rival, "GET", path)).body == b"directory"


@attack(BadCiphertext, Cut(HTTPS + "uploads:Upload.verify", "not good", "False"))
def poison_a_block(office):
    """The clinic has letters of both; whose block it gets is the mailbox's choice."""
    clinic, rival = office.cast.clinic, office.cast.rival
    name, data = block()

    def poisoned():
        must(office.ask(rival, "PUT", f"/v1/blocks/{name}", bytes(len(data))))
        must(office.post(rival, clinic, names=[name]))
        return office.ask(clinic, "GET", f"/v1/blocks/{name}").body != data

    return poisoned


ANYBODYS_UPLOAD = Cut(
    HTTPS + "blocks:Blocks.upload",
    "self._open.get((client, identifier))",
    "next((one for (_, name), one in self._open.items() if name == identifier), None)",
)


def begun(office):
    office.put(office.cast.lab, block(500_000)[1], lost_after=200_000)
    (identifier,) = (one.id for one in office.mailbox.desk.shelf.blocks._open.values())
    return f"/v1/uploads/{identifier}"


@attack(CountersealError, ANYBODYS_UPLOAD)
def cancel_an_upload_of_another(office):
    place = begun(office)
    return lambda: must(office.ask(office.cast.rival, "DELETE", place)).status == 204


@attack(CountersealError, ANYBODYS_UPLOAD)
def append_to_an_upload_of_another(office):
    place = begun(office)
    headers = {"content_type": "application/partial-upload"}
    headers |= {"upload_offset": "200000", "upload_complete": "?0"}
    return lambda: (
        must(office.ask(office.cast.rival, "PATCH", place, b"x", **headers)).status == 204
    )


@attack(CountersealError, Cut(HTTPS + "slots:Slots.open", "rows[0][0] != owner", "False"))
def take_over_a_slot(office):
    office.ask(office.cast.lab, "PUT", "/v1/slots/7")
    return lambda: must(office.ask(office.cast.rival, "PUT", "/v1/slots/7")).status == 201


@attack(
    RevokedKey,
    Cut(HTTPS + "mailbox:Mailbox._handle", "who.check(self.desk.lookup(who.identity), at=at)"),
)
def go_on_after_revocation(office):
    """The thief of the rival's key keeps its connection open."""
    rival, clinic = office.cast.rival, office.cast.clinic
    peer = office.peer(rival)
    office.post(clinic, rival)
    rival.revoke(reason="compromised", at=office.at)
    office.known[rival.history.identity] = rival.history
    return lambda: must(office.ask(rival, "GET", "/v1/boxes", peer=peer)).status == 200


RIVAL = {
    "reading a letter for another": read_a_letter,
    "deleting a letter for another": delete_a_letter,
    "listing what waits for another": list_what_waits_for_another,
    "reading a block that two others exchange": read_a_block,
    "learning from `missing` what another sent": learn_that_another_sent_a_block,
    "putting a letter into the box of two others": put_a_letter_between_two_others,
    "putting up a notice in the name of another": replace_a_notice_of_another,
    "reading a notice for another": read_a_notice_of_another,
    "poisoning a block that another will ask for": poison_a_block,
    "canceling an upload of another": cancel_an_upload_of_another,
    "appending to an upload of another": append_to_an_upload_of_another,
    "taking over a slot that another opened": take_over_a_slot,
    "going on after a revocation": go_on_after_revocation,
}


@pytest.mark.parametrize("sentence", RIVAL)
def test_the_rival_is_refused(office, sentence):
    RIVAL[sentence].is_refused(office)


@pytest.mark.parametrize("sentence", undefended(RIVAL))
def test_without_the_check_the_rival_succeeds(office, sentence, monkeypatch):
    RIVAL[sentence].works_undefended(office, monkeypatch)


# ------------------------------------------------------------------ on the line


class Middle:
    """Ends TLS on both sides and passes everything on, in clear to itself."""

    def __init__(self, street):
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(street.port,))
        self._thread.start()

    def _run(self, port):
        sock, _ = self._listener.accept()
        near = Link.accept(sock, timeout=10)
        far = Link.connect("127.0.0.1", port, timeout=10)
        view = memoryview(bytearray(1 << 20))
        with contextlib.suppress(Dropped):
            while True:  # what they say is short: one question, one answer
                for source, target in ((near, far), (far, near)):
                    if not (count := source.read_into(view)):
                        raise Dropped("one of them has had enough")
                    self.heard += bytes(view[:count])
                    target.send(view[:count])
        near.close()
        far.close()

    def close(self):
        self._listener.close()
        self._thread.join()


OTHER_END = Cut(HTTPS + "binding:_read", "not equal(binding.exporter, exporter)", "False")


@pytest.fixture
def middle(street):
    made = Middle(street)
    yield made
    made.close()


def through(street, middle, by):
    transport = HttpsTransport(
        "127.0.0.1",
        middle.port,
        by=by,
        server=street.cast.bank.history,
        clock=lambda: street.at,
        partners=list(street.known),
    )
    street.transports.append(transport)
    return transport


def test_somebody_who_ends_tls_in_the_middle_learns_nothing(street, middle):
    with pytest.raises(TrustError, match="does not end where it should"):
        through(street, middle, street.cast.lab).lookup("0" * 32)
    assert street.cast.lab.history.identity.encode() not in middle.heard


def test_without_the_exporter_somebody_in_the_middle_reads_and_writes(street, middle, monkeypatch):
    OTHER_END.apply(monkeypatch)
    lab = street.cast.lab
    transport = through(street, middle, lab)
    transport.publish(street.box(lab, street.cast.clinic), b"in clear")
    assert b"in clear" in middle.heard
    transport.close()


def test_a_proof_is_worth_nothing_on_another_connection(street):
    """A hostile mailbox passes on to another one what a client has proven to it."""
    cast = street.cast
    from counterseal.exchange.transports.https import binding

    with contextlib.closing(Link.connect("127.0.0.1", street.port, timeout=10)) as link:
        stream = Stream(link)
        proof = binding.prove(
            "client",
            bytes(32),
            by=cast.lab,
            mailbox=cast.bank.history.identity,
            client=cast.lab.history.identity,
            at=street.at,
        )
        stream.ask("POST", "/v1/session", {"host": "h"}, proof)
        assert stream.answer().status == 403


def plain_client(port, prepare):
    """Some TLS client: returns what it can read after asking."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    ours = throw_away()
    context.use_certificate(ours.certificate)
    context.use_privatekey(ours.key)
    prepare(context)
    sock = socket.create_connection(("127.0.0.1", port))
    try:
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        connection.do_handshake()
        connection.sendall(b"GET /v1/session HTTP/1.1\r\nhost: h\r\n\r\n")
        return connection.recv(1000)
    except SSL.Error:
        return b""
    finally:
        sock.close()


def classical(context):
    from cryptography.hazmat.primitives.asymmetric import ec

    context.set_tmp_ecdh(ec.SECP256R1())


NO_GROUP = Cut(HTTPS + "tls:_check_group", "tls.get_group_name() != GROUP", "False")


def test_a_client_without_post_quantum_keys_is_refused(street, monkeypatch):
    assert b"200 OK" in plain_client(street.port, lambda _: None)
    assert plain_client(street.port, classical) == b""
    NO_GROUP.apply(monkeypatch)
    assert b"200 OK" in plain_client(street.port, classical)


def test_a_client_of_an_old_tls_is_refused(street):
    assert plain_client(street.port, lambda c: c.set_max_proto_version(SSL.TLS1_2_VERSION)) == b""


def test_a_client_without_a_certificate_is_refused(street):
    def ask(sock):
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), sock)
        connection.set_connect_state()
        connection.do_handshake()
        connection.recv(1)

    with (
        socket.create_connection(("127.0.0.1", street.port)) as sock,
        pytest.raises(SSL.Error, match="certificate required"),
    ):
        ask(sock)


def test_a_mailbox_without_post_quantum_keys_is_refused(cast, monkeypatch):
    """Somebody has the mailbox's machine answer with classical keys only."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            sock, _ = listener.accept()
            context = SSL.Context(SSL.TLS_SERVER_METHOD)
            ours = throw_away()
            context.use_certificate(ours.certificate)
            context.use_privatekey(ours.key)
            context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
            classical(context)
            connection = SSL.Connection(context, sock)
            connection.set_accept_state()
            with contextlib.suppress(SSL.Error):
                connection.do_handshake()
                connection.recv(1)
            sock.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Aborted, match="post-quantum"):
            Link.connect("127.0.0.1", listener.getsockname()[1], timeout=10)
        thread.join()


# ------------------------------------------------------------------ strangers


def connected(street):
    return contextlib.closing(Link.connect("127.0.0.1", street.port, timeout=10))


def quick(street):
    """A mailbox that waits for nobody."""
    street.stop()
    street.open(head_seconds=0.2, stranger_seconds=0.2, idle_seconds=0.2, stall_seconds=0.2)
    street.serve()


def ended(link):
    """The mailbox has hung up; what it said before."""
    link.limit(10)
    heard, view = b"", memoryview(bytearray(16_384))
    with contextlib.suppress(Dropped):
        while count := link.read_into(view):
            heard += bytes(view[:count])
    return heard


def drip(link, data):
    with contextlib.suppress(Dropped, TimedOut):
        for byte in data:
            link.send(bytes([byte]))
            time.sleep(0.05)


@pytest.mark.parametrize(
    "say",
    [
        lambda link: None,
        lambda link: link.send(b"GET / HT"),
        lambda link: drip(link, b"GET / HTTP/1.1\r\nhost: hhhhhhhhhhhhhhhhhhhhhhhh\r\n\r\n"),
        lambda link: link.send(
            b"POST /v1/session HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n1"
        ),
    ],
    ids=["nothing", "half a head", "a head, drop by drop", "half a body"],
)
def test_who_says_too_little_loses_the_connection(street, say):
    quick(street)
    with connected(street) as link:
        say(link)
        ended(link)


def test_a_body_drop_by_drop(street):
    """Each drop comes in time; all of them together do not."""
    quick(street)
    with connected(street) as link:
        link.send(b"POST /v1/session HTTP/1.1\r\nhost: h\r\ncontent-length: 200\r\n\r\n")
        drip(link, bytes(8))
        assert ended(link).startswith(b"HTTP/1.1 408 ")


def test_who_connects_and_never_speaks_tls(street):
    quick(street)
    with socket.create_connection(("127.0.0.1", street.port)) as sock:
        sock.settimeout(10)
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""


def test_many_connections_leave_room_for_others(street):
    street.stop()
    street.open(connections=100, connections_per_address=3)
    street.serve()
    held = [Link.connect("127.0.0.1", street.port, timeout=10) for _ in range(3)]
    with pytest.raises(Dropped):
        Link.connect("127.0.0.1", street.port, timeout=10)
    for link in held:
        link.close()


def test_what_is_not_http_is_told_so(street):
    with connected(street) as link:
        link.send(b"\x00" * 100 + b"\r\n\r\n")
        heard = ended(link)
        assert heard.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in heard


def test_a_second_request_cannot_hide_in_a_body(street):
    inner = b"GET /v1/slots/1/messages/0 HTTP/1.1\r\nhost: h\r\n\r\n"
    with connected(street) as link:
        head = b"POST /v1/session HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n" % len(inner)
        link.send(head + b"transfer-encoding: chunked\r\n\r\n" + inner)
        heard = ended(link)
        assert heard.count(b"HTTP/1.1 ") == 1
        assert heard.startswith(b"HTTP/1.1 400 ")


def test_a_stranger_cannot_make_the_mailbox_read_for_nothing(street):
    with connected(street) as link:
        link.send(
            b"PUT /v1/blocks/%s HTTP/1.1\r\nhost: h\r\ncontent-length: 999999999\r\n\r\n"
            % (b"0" * 64)
        )
        heard = ended(link)
        assert heard.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in heard


# ------------------------------------------------------------------ a hostile mailbox


@pytest.fixture
def shipment(street):
    lab, clinic = street.cast.lab, street.cast.clinic
    blocks = Blocks(1000, 2000)
    street.transport(lab).deliver(street.box(lab, clinic), b"letter", blocks)
    receiver = street.transport(clinic)
    (letter,) = receiver.waiting([street.box(lab, clinic)], wait=0)
    return receiver, letter, blocks


def hostile(street, change):
    """The mailbox changes its answers."""
    real = street.mailbox.handle

    def handle(request, *, at):
        answer = real(request, at=at)
        return change(request, answer) or answer

    street.mailbox.handle = handle


def test_a_block_of_another_length(street, shipment):
    receiver, letter, blocks = shipment

    def change(request, answer):
        if request.path.startswith("/v1/blocks/"):
            answer.body.length -= 1

    hostile(street, change)
    with pytest.raises(Aborted, match="wrong length"):
        receiver.fetch(letter, blocks)


def test_a_changed_block(street, shipment):
    receiver, letter, blocks = shipment
    for name in blocks.names:
        path = street.mailbox.desk.shelf.blocks.path(street.cast.lab.history.identity, name)
        path.write_bytes(bytes(blocks.size(name)))

    def put(name, data):
        if data != blocks.data[name]:
            raise BadCiphertext("changed on the way")

    blocks.put = put
    with pytest.raises(BadCiphertext):
        receiver.fetch(letter, blocks)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/boxes", b"[]"),
        ("/v1/boxes", b'{"kind":"letters","letters":[],"more":false,"x":1}'),
        ("/v1/boxes", b" " * (9 << 20)),
    ],
)
def test_an_answer_that_is_none(street, shipment, path, body):
    receiver, letter, _ = shipment

    def change(request, answer):
        if request.path == path:
            answer.body = body

    hostile(street, change)
    with pytest.raises(CountersealError):
        list(receiver.waiting([letter.box], wait=0))


def test_letters_of_boxes_that_nobody_asked_about(street, shipment):
    receiver, letter, _ = shipment

    def change(request, answer):
        if request.path == "/v1/boxes":
            answer.body = answer.body.replace(letter.box.encode(), b"f" * 32)

    hostile(street, change)
    assert list(receiver.waiting([letter.box], wait=0)) == []


def test_pages_without_end(street, shipment):
    receiver, letter, _ = shipment

    def change(request, answer):
        if request.path == "/v1/boxes":
            answer.body = answer.body.replace(b'"more":false', b'"more":true')

    hostile(street, change)
    assert len(list(receiver.waiting([letter.box], wait=0))) == 1


def test_a_letter_that_is_too_long(street, shipment):
    receiver, letter, _ = shipment

    def change(request, answer):
        if "/letters/" in request.path:
            answer.body = bytes((4 << 20) + 1)

    hostile(street, change)
    with pytest.raises(Aborted, match="too much"):
        list(receiver.waiting([letter.box], wait=0))


def test_a_mailbox_that_always_wants_more(street, cast):
    lab = street.transport(cast.lab)

    def change(request, answer):
        if request.path == "/v1/blocks/missing":
            answer.body = answer.body.replace(b'"names":""', b'"names":"%s"' % (b"A" * 43 + b"="))

    lab.deliver(street.box(cast.lab, cast.clinic), b"1", Blocks(10))
    hostile(street, change)
    blocks = Blocks()
    blocks.data = {street.stored()[0]: b"x" * 10}
    blocks.names = list(blocks.data)
    with pytest.raises(Aborted, match="nobody asked"):
        lab.deliver(street.box(cast.lab, cast.clinic), b"2", blocks)


def test_interim_answers_without_end(cast):
    """It keeps a client busy with `104` forever."""

    class Endless:
        def read_into(self, view):
            said = b"HTTP/1.1 104 X\r\n\r\n" * 100
            view[: len(said)] = said
            return len(said)

        def send(self, data):
            pass

    stream = Stream(Endless())
    stream.ask("GET", "/", {"host": "h"})
    with pytest.raises(Aborted, match="without end"):
        stream.answer()


def test_an_error_that_a_mailbox_may_not_say(street, shipment):
    receiver, letter, _ = shipment

    def change(request, answer):
        answer.status = 403
        answer.body = b'{"type":"urn:counterseal:problem:LedgerBroken","title":"\\u001b[2J"}'

    hostile(street, change)
    with pytest.raises(Aborted) as caught:
        receiver.done(letter)
    assert "\x1b" not in caught.value.message


def test_a_stranger_with_the_clients_name(street):
    """The rival says that it is the lab."""
    from counterseal.exchange.transports.https import binding

    cast = street.cast
    with connected(street) as link:
        stream = Stream(link)
        proof = binding.prove(
            "client",
            link.exporter,
            by=cast.rival,
            mailbox=cast.bank.history.identity,
            client=cast.lab.history.identity,
            at=street.at,
        )
        stream.ask("POST", "/v1/session", {"host": "h"}, proof)
        answer = stream.answer()
        body = memoryview(bytearray(answer.length))
        while body:
            body = body[stream.read_into(body) :]
        assert answer.status == 403


def test_whoever_is_not_known_is_told_the_same_as_an_impostor(street):
    cast = street.cast
    del street.known[cast.rival.history.identity]
    with pytest.raises(UnknownPartner):
        street.transport(cast.rival).lookup("0" * 32)


def test_names_of_blocks_stay_in_their_folder(office):
    lab = office.cast.lab
    for name in ("..%2f..%2flock", "../../lock", "A" * 64, "0" * 63 + "\n", "0" * 64 + "/"):
        assert office.ask(lab, "PUT", f"/v1/blocks/{name}", b"x").status == 404
    assert office.stored() == []
    assert (office.root / "lock").stat().st_size == 0


def test_tls_labels_are_as_specified():
    assert (tls.GROUP, tls.EXPORTER_LABEL) == ("X25519MLKEM768", b"EXPORTER-counterseal-https-v1")
