"""The transport over a real broker: letters, the board, and what can be wrong with a broker."""

import contextlib
import ssl
import threading

import pytest
from broker import Authority, Broker, free_port
from shipping import MemorySink, MemorySource

from counterseal.errors import CountersealError, Dropped, FormatError, TimedOut, TrustError
from counterseal.exchange.transports import NoBlocks
from counterseal.exchange.transports.mqtt import MqttTransport, topics
from counterseal.exchange.transports.mqtt.broker import refusal
from counterseal.wire import limits
from counterseal.wire.limits import MIB

BOX, OTHER = "ab" * 16, "cd" * 16


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker"), persist=False) as started:
        yield started


@pytest.fixture
def connect(broker):
    with contextlib.ExitStack() as stack:

        def make(**more):
            more = {"ca_file": broker.ca, "version": broker.version, "patience": 20.0} | more
            return stack.enter_context(
                contextlib.closing(MqttTransport("localhost", broker.port, **more))
            )

        yield make


@pytest.fixture
def ends(connect, request):
    """(one who sends, one who receives)"""
    return connect(session=f"s {request.node.name}"), connect(session=f"r {request.node.name}")


def box_of(request):
    return topics.transfer(request.node.name, b"")


@pytest.fixture
def box(request):
    return box_of(request)


def heard(via, box, wait=10.0):
    return [letter.data for letter in via.waiting([box], wait=wait)]


def test_letters_wait_in_their_order_and_until_they_are_done(ends, box):
    sender, receiver = ends
    assert heard(receiver, box, wait=0) == []
    for text in (b"one", b"two", b"three"):
        sender.deliver(box, text, NoBlocks())
    receiver.close()  # it is away, and comes back
    letters = []
    while len(letters) < 3:
        letters = list(receiver.waiting([box], wait=10))
    assert [letter.data for letter in letters] == [b"one", b"two", b"three"]
    receiver.done(letters[1])
    assert heard(receiver, box) == [b"one", b"three"]
    receiver.close()
    left = []
    while len(left) < 2:
        left = heard(receiver, box)
    assert left == [b"one", b"three"]


def test_only_the_boxes_that_were_asked_for(ends, box):
    sender, receiver = ends
    assert list(receiver.waiting([box, OTHER], wait=0)) == []
    sender.deliver(OTHER, b"other", NoBlocks())
    sender.deliver(box, b"mine", NoBlocks())
    assert heard(receiver, box) == [b"mine"]
    assert heard(receiver, OTHER) == [b"other"]  # it stayed


def test_a_letter_for_nobody_is_not_called_delivered(connect, box):
    via = connect(patience=0.1)
    with pytest.raises(Dropped, match="nobody to keep"):
        via.deliver(box, b"letter", NoBlocks())


def test_a_letter_posted_twice_is_one_letter(ends, box):
    sender, receiver = ends
    heard(receiver, box, wait=0)
    for _ in range(3):
        sender.deliver(box, b"letter", NoBlocks())
    assert heard(receiver, box) == [b"letter"]
    (letter,) = receiver.waiting([box], wait=10)
    receiver.done(letter)
    assert heard(receiver, box, wait=0) == []
    sender.deliver(box, b"letter", NoBlocks())  # posted anew, it is handed up anew
    assert heard(receiver, box) == [b"letter"]


def test_a_shipment(ends, box):
    sender, receiver = ends
    source = MemorySource(
        [bytes([n]) * MIB for n in range(5)] + [b"end", bytes(MIB)], secret=b"k" * 32
    )
    steps, sink = [], MemorySink(source)
    heard(receiver, box, wait=0)
    sending = threading.Thread(
        target=sender.deliver, args=(box, b"letter", source),
        kwargs={"progress": lambda *step: steps.append(step)},
    )  # fmt: skip
    sending.start()
    (letter,) = receiver.waiting([box], wait=20)
    receiver.fetch(letter, sink)
    receiver.done(letter)
    sending.join()
    assert sink.blocks == {name: source.read(name) for name in source.names}
    assert steps[-1][1] == 5 * MIB + 3
    assert steps == sorted(steps)


def test_fetching_what_is_all_there_tells_the_sender(ends, box):
    sender, receiver = ends
    source = MemorySource([b"block"], secret=b"k" * 32)
    heard(receiver, box, wait=0)
    sending = threading.Thread(target=sender.deliver, args=(box, b"letter", source))
    sending.start()
    (letter,) = receiver.waiting([box], wait=20)
    receiver.fetch(letter, MemorySink(source, without=source.names))
    sending.join(20)
    assert not sending.is_alive()


def test_a_full_disk_at_the_receiver_ends_both(ends, box):
    class Full(MemorySink):
        def put(self, name, data):
            raise CountersealError("no space left")

    sender, receiver = ends
    source = MemorySource([bytes(1000)], secret=b"k" * 32)
    heard(receiver, box, wait=0)
    errors = []

    def send():
        try:
            sender.deliver(box, b"letter", source)
        except Dropped as error:
            errors.append(error)

    sending = threading.Thread(target=send)
    sending.start()
    (letter,) = receiver.waiting([box], wait=20)
    with pytest.raises(CountersealError, match="no space"):
        receiver.fetch(letter, Full(source))
    sending.join()
    assert "stopped" in errors[0].message


def test_a_sender_that_is_away(ends, connect, box):
    sender, receiver = ends
    heard(receiver, box, wait=0)
    sender.deliver(box, b"letter", NoBlocks())
    impatient = connect(patience=0.3)
    (letter,) = receiver.waiting([box], wait=20)
    with pytest.raises(TimedOut, match="sender does not answer"):
        impatient.fetch(letter, MemorySink(MemorySource([b"block"])))


def test_the_board_is_replaced_and_stays(connect, box):
    one, two = connect(), connect()
    assert two.lookup(box) is None
    one.publish(box, b"first")
    one.publish(box, b"second")
    assert two.lookup(box) == b"second"
    assert one.lookup(box) == b"second"


def test_a_letter_has_a_limit(connect, box):
    with pytest.raises(FormatError, match="too long"):
        connect().deliver(box, bytes(limits.LETTER_BYTES + 1), NoBlocks())


def test_the_newest_command_has_the_session(connect, box):
    ends = [connect(session="one"), connect(session="one")]
    errors = []

    def listen(via):
        try:
            heard(via, box, wait=30)
        except Dropped as error:
            errors.append(error.message)
            ends.remove(via)
            ends[0].deliver(box, b"the other one is still there", NoBlocks())

    listening = [threading.Thread(target=listen, args=(via,)) for via in list(ends)]
    for thread in listening:
        thread.start()
    for thread in listening:
        thread.join()
    assert errors == ["another command took over our session at the broker"]


def test_parts_have_a_size_that_brokers_carry(connect):
    for wrong in (100_000, 2 * MIB):
        with pytest.raises(ValueError, match="parts"):
            connect(part_bytes=wrong)


def test_no_broker_there(tmp_path, box):
    via = MqttTransport("localhost", free_port())
    with pytest.raises(Dropped, match="no connection"):
        via.lookup(box)


def test_a_broker_of_another_authority_is_refused(connect, tmp_path, box):
    stranger = Authority(tmp_path / "stranger")
    with pytest.raises(TrustError, match="not the broker"):
        connect(ca_file=stranger.ca).lookup(box)


def test_a_broker_under_another_name_is_refused(broker, box):
    certificate, key = broker.authority.issue("elsewhere", ["elsewhere.example"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                plain, _ = server.accept()
                with plain, context.wrap_socket(plain, server_side=True):
                    pass

        serving = threading.Thread(target=serve)
        serving.start()
        via = MqttTransport("localhost", server.getsockname()[1], ca_file=broker.ca)
        with pytest.raises(TrustError, match="not the broker"):
            via.lookup(box)
        serving.join()


def test_passwords_and_access(tmp_path, box):
    broker = Broker(tmp_path, persist=False)
    broker.add_user("lab", "right")
    acl = tmp_path / "acl"
    acl.write_text("user lab\ntopic readwrite cs1/+/letters\n")
    acl.chmod(0o600)
    broker._options.append(f"acl_file {acl}")
    with broker:

        def via(username, password):
            return MqttTransport(
                "localhost", broker.port, ca_file=broker.ca, username=username, password=password
            )

        for wrong in [(None, None), ("lab", "wrong"), ("bank", "right")]:
            with pytest.raises(TrustError, match="refuses us"):
                via(*wrong).lookup(box)
        right = via("lab", "right")
        assert heard(right, box, wait=0) == []
        with pytest.raises(TrustError):
            right.publish(box, b"letter")
        right.close()


def test_client_certificates(tmp_path, box):
    with Broker(tmp_path, persist=False, client_certificates=True) as broker:
        with pytest.raises(Dropped):
            MqttTransport("localhost", broker.port, ca_file=broker.ca).lookup(box)
        pair = broker.authority.issue("lab")
        via = MqttTransport("localhost", broker.port, ca_file=broker.ca, certificate=pair)
        assert via.lookup(box) is None


@pytest.mark.parametrize(
    ("code", "kind"), [(0x97, "QuotaExceeded"), (0x87, "TrustError"), (0x84, "CountersealError")]
)
def test_refusals(code, kind):
    assert type(refusal(code)).__name__ == kind
