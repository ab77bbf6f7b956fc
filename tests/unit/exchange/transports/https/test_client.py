"""The transport against a mailbox that listens: what `Transport` promises."""

import contextlib
import socket
import threading

import pytest
from office import Blocks

from counterseal.errors import (
    Aborted,
    BadCiphertext,
    CountersealError,
    Dropped,
    QuotaExceeded,
    RevokedKey,
    RolledBack,
    TamperError,
    TimedOut,
    TrustError,
    UnknownPartner,
)
from counterseal.exchange.transports import NoBlocks
from counterseal.exchange.transports.https import HttpsTransport, Rate

MIB = 1 << 20


@pytest.fixture
def box(street, cast):
    return street.box(cast.lab, cast.clinic)


@pytest.fixture
def lab(street, cast):
    return street.transport(cast.lab)


@pytest.fixture
def clinic(street, cast):
    return street.transport(cast.clinic)


def test_a_shipment_travels(street, lab, clinic, box):
    blocks = Blocks(MIB, MIB, 17, 0, 3 * MIB)
    seen = []
    lab.deliver(box, b"notice", blocks, progress=lambda *two: seen.append(two))
    total = sum(map(blocks.size, blocks.names))
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    (letter,) = clinic.waiting([box], wait=0)
    assert (letter.box, letter.data) == (box, b"notice")
    clinic.fetch(letter, blocks)
    assert blocks.whole
    clinic.fetch(letter, blocks)  # nothing left to do
    clinic.done(letter)
    clinic.done(letter)
    assert list(clinic.waiting([box], wait=0)) == []
    assert street.stored() == []


def test_what_is_there_is_not_sent_again(street, lab, cast, box):
    blocks = Blocks(MIB, MIB)
    lab.deliver(box, b"1", blocks)
    street.log.clear()
    seen = []
    lab.deliver(
        street.box(cast.lab, cast.rival), b"2", blocks, progress=lambda *two: seen.append(two)
    )
    assert not any("PUT" in line for line in street.log)
    assert seen[0] == (2 * MIB, 2 * MIB)


def test_letters_come_oldest_first(street, lab, clinic, box):
    for number in range(5):
        lab.deliver(box, b"%d" % number, NoBlocks())
    assert [one.data for one in clinic.waiting([box, "0" * 32], wait=0)] == [
        b"0", b"1", b"2", b"3", b"4",
    ]  # fmt: skip
    assert list(clinic.waiting(["0" * 32], wait=0)) == []
    assert list(clinic.waiting([], wait=0)) == []


def test_more_letters_than_a_page(street, lab, clinic, box):
    street.mailbox.desk.postings._room = 1e9
    for number in range(103):
        lab.deliver(box, b"%d" % number, NoBlocks())
    assert len(list(clinic.waiting([box], wait=0))) == 103


def test_waiting_ends_when_a_letter_comes(street, lab, clinic, box):
    found = []
    thread = threading.Thread(target=lambda: found.extend(clinic.waiting([box], wait=60)))
    thread.start()
    while not any("POST /v1/session" in line for line in street.log):
        pass
    lab.deliver(box, b"now", NoBlocks())
    thread.join(30)
    assert [one.data for one in found] == [b"now"]


def test_waiting_ends_when_the_mailbox_does(street, clinic, box):
    failure = []

    def wait():
        try:
            list(clinic.waiting([box], wait=60))
        except CountersealError as error:
            failure.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    while not any("POST /v1/session" in line for line in street.log):
        pass
    street.stop()
    thread.join(30)
    assert failure in ([], [Dropped])


def test_a_mailbox_that_restarts_between_two_calls(street, lab, clinic, box):
    lab.deliver(box, b"1", NoBlocks())
    street.stop()
    street.open()
    street.serve()
    lab.deliver(box, b"2", NoBlocks())
    assert len(list(clinic.waiting([box], wait=0))) == 2


def test_a_transfer_survives_a_restart(street, lab, clinic, box):
    blocks = Blocks(*[MIB] * 12)

    class Once:
        """Stops the mailbox when so many blocks have been asked for."""

        def __init__(self, after):
            self.left, self.lock = after, threading.Lock()

        def __call__(self):
            with self.lock:
                self.left -= 1
                if self.left == 0:
                    street.stop()
                    street.open()
                    street.serve()

    up, down = Once(5), Once(5)
    read, put = blocks.read, blocks.put
    blocks.read = lambda name: (up(), read(name))[1]
    blocks.put = lambda name, data: (down(), put(name, data))[1]
    lab.deliver(box, b"notice", blocks)
    (letter,) = clinic.waiting([box], wait=0)
    clinic.fetch(letter, blocks)
    assert blocks.whole


def test_blocks_that_vanish_before_the_letter_are_sent_again(street, lab, clinic, cast, box):
    blocks = Blocks(MIB)
    lab.deliver(box, b"1", blocks)
    (letter,) = clinic.waiting([box], wait=0)
    other = street.box(cast.lab, cast.rival)
    real, calls = lab._missing, []

    def missing(stream, names):
        found = real(stream, names)
        if not calls:
            clinic.done(letter)
        calls.append(1)
        return found

    lab._missing = missing
    lab.deliver(other, b"2", blocks)
    assert len(calls) == 2
    assert street.stored() == blocks.names


def test_a_sink_that_refuses_ends_the_fetch(street, lab, clinic, box):
    blocks = Blocks(MIB, MIB, MIB, MIB)
    lab.deliver(box, b"notice", blocks)
    (letter,) = clinic.waiting([box], wait=0)

    def put(name, data):
        raise BadCiphertext("no")

    blocks.put = put
    with pytest.raises(BadCiphertext, match="no"):
        clinic.fetch(letter, blocks)


def test_a_source_that_changed_ends_the_delivery(street, lab, clinic, box):
    blocks = Blocks(MIB, MIB)
    blocks.data[blocks.names[1]] = bytes(MIB)
    with pytest.raises(BadCiphertext, match="not the block of this name"):
        lab.deliver(box, b"notice", blocks)
    assert list(clinic.waiting([box], wait=0)) == []


def test_a_source_that_knows_of_its_change_says_so(street, lab, clinic, box):
    """The mailbox refuses the block; whose fault it is, the source can tell."""
    blocks = Blocks(MIB, MIB)
    blocks.data[blocks.names[1]] = bytes(MIB)

    def read(name):
        raise TamperError("package.sealed changed while it was being sent")

    blocks.fill = lambda name, view: view.__setitem__(slice(None), blocks.data[name])
    blocks.read = read
    with pytest.raises(TamperError, match="changed while it was being sent"):
        lab.deliver(box, b"notice", blocks)
    assert list(clinic.waiting([box], wait=0)) == []


def test_blocks_that_are_gone(street, lab, clinic, box):
    blocks = Blocks(MIB)
    lab.deliver(box, b"notice", blocks)
    (letter,) = clinic.waiting([box], wait=0)
    clinic.done(letter)
    with pytest.raises(Aborted, match="does not have all blocks"):
        clinic.fetch(letter, blocks)


def test_a_quota_comes_out_as_one(street, lab, box):
    street.stop()
    street.open(stored_bytes=MIB)
    street.serve()
    with pytest.raises(QuotaExceeded, match="used up"):
        lab.deliver(box, b"notice", Blocks(MIB, MIB))


def test_a_refused_block_that_is_too_large_to_be_read(street, lab, box, monkeypatch):
    from counterseal.exchange.transports.https import connection

    monkeypatch.setattr(connection, "DRAIN_BYTES", 1000)
    street.stop()
    street.open(stored_bytes=MIB)
    street.serve()
    with pytest.raises(QuotaExceeded, match="used up"):
        lab.deliver(box, b"notice", Blocks(8 * MIB))


def test_rates_come_with_a_time(street, lab, box):
    street.stop()
    street.open(postings=Rate(count=1, seconds=60, burst=1))
    street.serve()
    lab.deliver(box, b"1", NoBlocks())
    with pytest.raises(QuotaExceeded) as caught:
        lab.deliver(box, b"2", NoBlocks())
    assert (caught.value.retry_at - street.at).total_seconds() == 60


def test_too_many_connections_of_one_client(street, cast, lab):
    street.stop()
    street.open(connections_per_client=1)
    street.serve()
    lab.lookup("0" * 32)
    with pytest.raises(QuotaExceeded, match="connections"):
        street.transport(cast.lab).lookup("0" * 32)
    street.transport(cast.clinic).lookup("0" * 32)


def test_too_many_connections_from_one_address(street, cast, lab):
    street.stop()
    street.open(connections_per_address=1)
    street.serve()
    lab.lookup("0" * 32)
    with pytest.raises(Dropped):
        street.transport(cast.clinic).lookup("0" * 32)


def test_nobody_there(cast):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    transport = HttpsTransport("127.0.0.1", port, by=cast.lab, server=cast.bank.history)
    with pytest.raises(Dropped, match="cannot reach"):
        transport.lookup("0" * 32)
    transport.close()


def test_somebody_who_says_nothing(cast):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        transport = HttpsTransport(
            "127.0.0.1", port, by=cast.lab, server=cast.bank.history, timeout=0.1
        )
        with pytest.raises(TimedOut):
            transport.lookup("0" * 32)
        transport.close()


def test_who_we_are_needs_whom_we_trust(cast):
    with pytest.raises(ValueError, match="anybody"):
        HttpsTransport("127.0.0.1", 1, by=cast.lab, server=None)


def test_the_wrong_mailbox_is_refused_before_it_learns_who_we_are(street, cast):
    with pytest.raises(TrustError, match="another mailbox"):
        street.transport(cast.lab, server=cast.rival).lookup("0" * 32)
    assert not any("POST" in line for line in street.log)


def test_an_unknown_client(street, cast):
    del street.known[cast.lab.history.identity]
    with pytest.raises(UnknownPartner, match="does not know you"):
        street.transport(cast.lab).lookup("0" * 32)


def test_a_client_revoked_while_connected(street, cast, lab):
    lab.lookup("0" * 32)
    cast.lab.revoke(reason="lost", at=street.at)
    street.known[cast.lab.history.identity] = cast.lab.history
    with pytest.raises(RevokedKey):
        lab.lookup("0" * 32)


def test_the_operator_is_a_client_too(street, cast, lab):
    street.known[cast.bank.history.identity] = cast.bank.history
    bank = street.transport(cast.bank)
    box = street.box(cast.lab, cast.bank)
    street.transport(cast.lab).deliver(box, b"to the operator", NoBlocks())
    assert [one.data for one in bank.waiting([box], wait=0)] == [b"to the operator"]


def test_a_box_of_nobody(lab):
    with pytest.raises(CountersealError, match="none of ours"):
        lab.deliver("0" * 32, b"x", NoBlocks())
    with pytest.raises(CountersealError, match="none of ours"):
        lab.publish("0" * 32, b"x")


def test_the_notice_board(street, cast, lab, clinic, box):
    assert clinic.lookup(box) is None
    lab.publish(box, b"1")
    assert clinic.lookup(box) == b"1"
    real, statuses = clinic._pool.call, []

    def call(*args, **more):
        reply = real(*args, **more)
        statuses.append(reply.status)
        return reply

    clinic._pool.call = call
    assert clinic.lookup(box) == b"1"
    assert statuses == [304]  # what did not change is not sent again
    lab.publish(box, b"2")
    assert clinic.lookup(box) == b"2"


def test_two_processes_publish(street, cast, lab, clinic, box):
    other = street.transport(cast.lab)
    lab.publish(box, b"1")
    other.publish(box, b"2")  # has looked just now
    with pytest.raises(RolledBack, match="changed"):
        lab.publish(box, b"3")
    assert clinic.lookup(box) == b"2"
    lab.publish(box, b"3")  # after looking again
    assert clinic.lookup(box) == b"3"
    with contextlib.suppress(RolledBack):
        other.publish(box, b"3")  # the same: no harm
    assert clinic.lookup(box) == b"3"


def test_two_meet_in_a_slot(street, cast, lab):
    stranger = HttpsTransport("127.0.0.1", street.port, by=None, server=None)
    street.transports.append(stranger)
    with pytest.raises(CountersealError, match="nobody waits"):
        stranger.post_slot(7, b"x")
    with pytest.raises(TrustError):
        stranger.open_slot(7)
    lab.open_slot(7)
    assert stranger.post_slot(7, b"hello") == 0
    assert lab.poll_slot(7, 0) == b"hello"
    assert lab.poll_slot(7, 1) is None
    found = []
    thread = threading.Thread(target=lambda: found.append(stranger.poll_slot(7, 1, wait=60)))
    thread.start()
    assert lab.post_slot(7, b"welcome") == 1
    thread.join(30)
    assert found == [b"welcome"]
    lab.close_slot(7)
    assert stranger.poll_slot(7, 1) == b"welcome"  # it may not have read that yet
    with pytest.raises(CountersealError, match="nobody waits"):
        stranger.poll_slot(7, 2)
    with pytest.raises(CountersealError, match="nobody waits"):
        stranger.post_slot(7, b"more")
    with pytest.raises(ValueError, match="nine digits"):
        lab.open_slot(10**9)


def test_the_log_has_no_names(street, cast, lab, box):
    lab.deliver(box, b"notice", Blocks(1000))
    text = "\n".join(street.log)
    assert cast.lab.history.identity[:8] in text
    for secret in ("lab", "127.0.0.1", box, cast.lab.history.identity[:9]):
        assert secret not in text


def begin(street, by, data, got):
    """What is left when a sender is killed after so many bytes."""
    street.put(by, data, lost_after=got)


def test_a_block_continues_where_it_was_interrupted(street, cast, lab, clinic, box):
    blocks = Blocks(MIB, MIB)
    begin(street, cast.lab, blocks.data[blocks.names[0]], 700_000)
    sizes = []
    real = street.mailbox.handle

    def handle(request, *, at):
        if request.method in {"PUT", "PATCH"}:
            sizes.append((request.method, request.body.left))
        return real(request, at=at)

    street.mailbox.handle = handle
    lab.deliver(box, b"notice", blocks)
    assert sorted(sizes) == [("PATCH", MIB - 700_000), ("PUT", MIB)]
    (letter,) = clinic.waiting([box], wait=0)
    clinic.fetch(letter, blocks)
    assert blocks.whole


def test_a_damaged_beginning_is_sent_again_whole(street, cast, lab, clinic, box):
    blocks = Blocks(MIB)
    begin(street, cast.lab, blocks.data[blocks.names[0]], 700_000)
    (path,) = [one for one in (street.root / "uploads").rglob("*") if one.is_file()]
    street.stop()
    street.shut()
    path.write_bytes(bytes(700_000))
    street.open()
    street.serve()
    lab.deliver(box, b"notice", blocks)
    (letter,) = clinic.waiting([box], wait=0)
    clinic.fetch(letter, blocks)
    assert blocks.whole


def test_a_beginning_that_vanished_is_sent_again_whole(street, cast, lab, box):
    blocks = Blocks(MIB)
    begin(street, cast.lab, blocks.data[blocks.names[0]], 700_000)
    real = lab._missing

    def missing(stream, names):
        found = real(stream, names)
        for upload in list(street.mailbox.desk.shelf.blocks._open.values()):
            street.mailbox.desk.shelf.blocks.cancel(upload)
        return found

    lab._missing = missing
    lab.deliver(box, b"notice", blocks)
    assert street.stored() == blocks.names


def test_a_block_is_fetched_from_where_the_connection_was_lost(
    street, lab, clinic, box, monkeypatch
):
    from counterseal.exchange.transports.https.connection import Connection

    blocks = Blocks(3 * MIB)
    lab.deliver(box, b"notice", blocks)
    (letter,) = clinic.waiting([box], wait=0)
    real, asked = Connection._send_part, []

    def send_part(self, part):
        asked.append((part.offset, part.length))
        if len(asked) == 1:
            part.length = 2 * MIB
            real(self, part)
            self._link.close()
            raise Dropped("lost")
        real(self, part)

    monkeypatch.setattr(Connection, "_send_part", send_part)
    clinic.fetch(letter, blocks)
    assert blocks.whole
    assert asked == [(0, 3 * MIB), (2 * MIB, MIB)]


def test_patience_ends(street, lab, clinic, box, monkeypatch):
    from counterseal.exchange.transports.https.connection import Connection

    blocks = Blocks(MIB)
    lab.deliver(box, b"notice", blocks)
    (letter,) = clinic.waiting([box], wait=0)

    def send_part(self, part):
        raise Dropped("lost")

    monkeypatch.setattr(Connection, "_send_part", send_part)
    impatient = street.transport(street.cast.clinic, patience=0.3)
    with pytest.raises(Dropped):
        impatient.fetch(letter, blocks)


def test_ctrl_c_ends_all_lanes(street, lab, box):
    before = threading.active_count()

    def progress(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.deliver(box, b"notice", Blocks(*[MIB] * 10), progress=progress)
    assert threading.active_count() <= before + 4  # of the mailbox, no lane of ours
    assert not any(one.name.startswith("Thread") for one in threading.enumerate())
    lab.deliver(box, b"notice", Blocks(MIB))


def test_a_mailbox_that_refuses_a_block_while_it_is_read(street, cast, lab, clinic, box):
    blocks = Blocks(*[MIB] * 4)
    lab.deliver(box, b"notice", blocks)
    (letter,) = clinic.waiting([box], wait=0)
    real = street.mailbox.handle

    def handle(request, *, at):
        if request.path.startswith("/v1/blocks/"):
            street.known.pop(cast.clinic.history.identity, None)
        return real(request, at=at)

    street.mailbox.handle = handle
    with pytest.raises(UnknownPartner):
        clinic.fetch(letter, blocks)


def test_a_closed_transport(lab):
    lab.close()
    with pytest.raises(Dropped, match="closed"):
        lab.lookup("0" * 32)
