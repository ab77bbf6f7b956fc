"""What may be done by a broker, and by anybody who may publish at it; each sentence is made.

A row of the table is made twice: against counterseal, where the attacker must not get what it
wants, and against counterseal without the one check that is said to stop it, where it must.
The attacker reads every topic and writes to any; it has neither keys nor the letter's contents.
"""

import random
import threading

import paho.mqtt.client as paho
import pytest
from broker import Broker
from shipping import MemorySink, MemorySource
from workshop import AT, Cut

from counterseal.exchange.boxes import box
from counterseal.exchange.transports import NoBlocks
from counterseal.exchange.transports.mqtt import MqttTransport, messages, topics
from counterseal.exchange.transports.mqtt.broker import Arrived
from counterseal.exchange.transports.mqtt.mail import Mail
from counterseal.exchange.transports.mqtt.messages import Kind, Lock, Part, State, Want
from counterseal.exchange.transports.mqtt.receiver import HALF_BLOCKS, Receiver
from counterseal.exchange.transports.mqtt.sender import MIB, Sender
from counterseal.jobs.receive import Arrived as ArrivedPackage
from counterseal.jobs.receive import receive
from counterseal.jobs.send import send

MQTT = "counterseal.exchange.transports.mqtt."
PLACE = topics.letters("ab" * 16)
TRANSFER = topics.transfer(PLACE, b"letter")
SECRET = b"k" * 32
OURS, STRANGER = Lock(TRANSFER, SECRET), Lock(TRANSFER)
RUN = b"run....."


class Post:
    """A sender of eight blocks, and what its receiver says."""

    def __init__(self, secret=SECRET):
        self.lock = Lock(TRANSFER, secret)
        self.source = MemorySource([bytes([n]) * 1000 for n in range(8)], secret=secret)
        self.sender = Sender(self.source, self.lock, part_bytes=1000, window_bytes=4000, at=0.0)

    def want(self, names=None, *, run=RUN, lock=None, at=0.0):
        names = self.source.names if names is None else names
        want = Want(last=True, remaining=8000, names=tuple(map(messages.short, names)))
        data = (lock or self.lock).close(Kind.WANT, run, 0, want.encode())
        self.sender.receive(data, at=at)
        return data

    def state(self, top, seen, base, *, number=1, lock=None):
        body = State(top, seen, base, 0).encode()
        data = (lock or self.lock).close(Kind.STATE, RUN, number, body)
        self.sender.receive(data, at=0.0)
        return data

    def push(self, at=0.0):
        return [push.name for push in self.sender.pushes(at=at)]


class Drawer:
    """Stands for a connection."""

    generation = 1

    def __init__(self):
        self.inbox, self.said = [], []

    def publish(self, topic, data, **_):
        self.said.append((topic, data))

    def acknowledge(self, number):
        pass


def stranger_says_done():
    post = Post()
    post.sender.receive(STRANGER.close(Kind.DONE, RUN, 9), at=0.0)
    return post.sender.finished


def stranger_claims_blocks_for_the_receiver():
    post = Post()
    post.want()
    post.push()
    post.state(4, 0b1111, 8, lock=STRANGER)
    return post.sender.finished


def stranger_cancels_without_any_secret():
    post = Post(secret=b"")
    post.sender.receive(STRANGER.close(Kind.CANCEL, RUN, 9), at=0.0)
    return post.sender.cancelled


def old_report_again():
    post = Post()
    post.want()
    post.push()
    old = post.state(1, 0, 0, number=1)
    post.state(4, 0b1111, 4, number=2)
    post.push()
    post.sender._list.flight.clear()
    post.sender._list.under_way = 0
    heard = post.sender._list.reported
    post.sender.receive(old, at=0.0)
    return post.sender._list.reported < heard


def old_list_again():
    post = Post()
    old = post.want()
    post.push()
    post.state(4, 0b1111, 4)
    post.push()
    post.sender.receive(old, at=0.0)
    return post.push() == post.source.names[:4]


def lists_without_end():
    """Each is new, and asks for everything: pushed to nobody, as fast as we can."""
    post = Post(secret=b"")
    for number in range(1000):
        post.want(run=number.to_bytes(8, "big"))
        post.push()
    return post.sender.pushed > 100_000


def a_list_of_nothing_of_ours():
    post = Post(secret=b"")
    post.want()
    post.push()
    post.want(["00" * 32], run=b"stranger")
    return post.sender._list.run == b"stranger"


def a_receiver(lock=OURS, size=1000):
    receiver = Receiver(lock, random=lambda: RUN, at=0.0)
    receiver.wants([bytes([n]).hex() * 32 for n in range(8)], lambda _: size, at=0.0)
    return receiver


def part(lock, block, *, number=0, run=RUN, offset=0, data=b"x" * 1000):
    return lock.close(Kind.PART, run, number, Part(block, offset, len(data)).encode()) + data


def stranger_pushes_a_part():
    return a_receiver().receive(part(STRANGER, 0), at=0.0) is not None


def a_part_of_an_old_list_again():
    return a_receiver().receive(part(OURS, 0, run=b"old list"), at=0.0) is not None


def half_blocks_fill_the_memory():
    receiver = a_receiver(STRANGER, size=16 * MIB)
    for block in range(8):
        receiver.receive(part(STRANGER, block, number=block), at=0.0)
    return receiver._held() > HALF_BLOCKS


def mail_with(*arrived):
    mail = Mail(Drawer(), kept=True)
    mail._connection.inbox = None
    for one in arrived:
        mail._take(one)
    return mail


def letter(data=b"letter", *, topic=PLACE, retained=False, again=False):
    return Arrived(topic, data, 1, 1, retained, again)


def a_retained_letter():
    """Left at the broker for everybody who ever subscribes: an old one, or a stranger's."""
    return mail_with(letter(retained=True)).waiting(["ab" * 16]) != []


def a_letter_too_long():
    return mail_with(letter(bytes(5 * MIB))).waiting(["ab" * 16]) != []


def letters_without_end():
    mail = mail_with(*(letter(bytes([n]) * (3 * MIB)) for n in range(20)))
    mail._connection.inbox = []
    mail._sort()
    return mail._bytes > 32 * MIB


def a_copy_in_another_box_speaks_for_the_letter():
    """Its reader refuses the copy, and is done with it; the sender must not take that as done."""
    elsewhere = "cd" * 16
    place = topics.letters(elsewhere)
    mail = mail_with(letter(topic=place))
    mail._connection.inbox = []
    (copy,) = mail.waiting([elsewhere])
    mail.done(copy, Lock(copy.id))
    ((topic, data),) = mail._connection.said
    transfer = topics.transfer(PLACE, b"letter")
    source = MemorySource([b"block"])
    sender = Sender(source, Lock(transfer), part_bytes=1000, window_bytes=4000, at=0.0)
    if topic == topics.wants(transfer):
        sender.receive(data, at=0.0)
    return sender.finished


NO_TAG = Cut(MQTT + "messages:Lock.open", "not equal(tag, self._tag(head))", "False")
ATTACKS = {
    "a stranger cannot say that all arrived": (stranger_says_done, NO_TAG),
    "a stranger cannot report for the receiver": (stranger_claims_blocks_for_the_receiver, NO_TAG),
    "a stranger cannot push a part": (stranger_pushes_a_part, NO_TAG),
    "without a secret nobody can cancel": (
        stranger_cancels_without_any_secret,
        Cut(MQTT + "sender:Sender.receive", "and self._lock.secret", ""),
    ),
    "a report that was overtaken says nothing": (
        old_report_again,
        Cut(MQTT + "sender:Sender._state", "message.number <= wanted.reported", "False"),
    ),
    "a list counts once": (
        old_list_again,
        Cut(MQTT + "sender:Sender._want", "or message.run in self._runs", ""),
    ),
    "lists without end do not make a sender push without end": (
        lists_without_end,
        Cut(MQTT + "sender:Sender._want", "or self._tokens < 1", ""),
    ),
    "a list of nothing of ours takes nothing over": (
        a_list_of_nothing_of_ours,
        Cut(MQTT + "sender:Sender._want", "not any(names)", "False"),
    ),
    "a part of an old list is not of this one": (
        a_part_of_an_old_list_again,
        Cut(MQTT + "receiver:Receiver.receive", "or message.run != self._run", ""),
    ),
    "half blocks do not fill the memory": (
        half_blocks_fill_the_memory,
        Cut(MQTT + "receiver:Receiver._join", "self._held() + size > HALF_BLOCKS", "False"),
    ),
    "a retained letter is not one": (
        a_retained_letter,
        Cut(MQTT + "mail:Mail._take", "arrived.retained", "False"),
    ),
    "a letter has a limit": (
        a_letter_too_long,
        Cut(MQTT + "mail:Mail._take", "or len(arrived.data) > limits.LETTER_BYTES", ""),
    ),
    "letters without end do not fill the memory": (
        letters_without_end,
        Cut(MQTT + "mail:Mail._sort", "self._bytes > HELD_BYTES", "False"),
    ),
    "a copy in another box does not speak for the letter": (
        a_copy_in_another_box_speaks_for_the_letter,
        Cut(MQTT + "topics:transfer", "topic.encode(), ", ""),
    ),
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_attack(sentence):
    make, _ = ATTACKS[sentence]
    assert make() is False


@pytest.mark.parametrize("sentence", ATTACKS)
def test_without_the_check_it_succeeds(sentence, monkeypatch):
    make, cut = ATTACKS[sentence]
    cut.apply(monkeypatch)
    assert make() is True


class Spy:
    """Another client of the broker, with a subscription to everything."""

    def __init__(self, broker, react=lambda _spy, _message: None):
        self.heard = []
        self.react = react
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.tls_set(ca_certs=str(broker.ca))
        self.client.on_message = self._on_message
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("localhost", broker.port)
        self.client.loop_start()
        self.client.subscribe("#", options=paho.SubscribeOptions(qos=1, noLocal=True))
        assert ready.wait(10)

    def _on_message(self, _client, _data, message):
        self.heard.append(message)
        self.react(self, message)

    def publish(self, topic, data, **more):
        self.client.publish(topic, data, **more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker"), persist=False) as started:
        if started.version != "5":
            pytest.skip("Debian's mosquitto is not installed")
        yield started


@pytest.fixture
def ends(broker):
    made = [MqttTransport("localhost", broker.port, ca_file=broker.ca) for _ in range(2)]
    yield made
    for one in made:
        one.close()


def carry(bench, ends, folder, package):
    """lab sends, clinic receives; what clinic reads of it."""
    lab, clinic = bench.lab, bench.clinic
    to_clinic = box(lab.history.identity, clinic.history.identity)
    assert list(ends[1].waiting([to_clinic], wait=0)) == []
    sent = []

    def work():
        sent.append(send(package, by=lab, to=bench.cast.partner(clinic), via=ends[0], at=AT))

    sending = threading.Thread(target=work)
    sending.start()
    events = []
    while not any(isinstance(event, ArrivedPackage) for event in events):
        events += receive(
            folder, by=clinic, partners=[bench.cast.partner(lab)], via=ends[1],
            wait=20, now=lambda: AT,
        )  # fmt: skip
    sending.join()
    assert sent
    arrived = next(event for event in events if isinstance(event, ArrivedPackage))
    return arrived.path.read_bytes()


def package_of(bench, mebibytes):
    weights = random.Random(1).randbytes(mebibytes * MIB)
    path = bench.seal({"patients-weights.bin": weights}, model="patients-scan")
    return path.rename(path.with_name("patients-scan.sealed"))


def test_who_reads_everything_learns_sizes_and_nothing_else(bench, broker, ends, tmp_path):
    package = package_of(bench, 3)
    folder = tmp_path / "in"
    folder.mkdir()
    with Spy(broker) as spy:
        assert carry(bench, ends, folder, package) == package.read_bytes()
    said = b"\0".join(message.payload for message in spy.heard)
    assert len(said) > 3 * MIB  # it did hear
    secrets = {
        "the name of the model": b"patients-scan",
        "the name of a file": b"patients-weights",
        "the start of the package": package.read_bytes()[:64],
        "a piece of its header": package.read_bytes()[100:132],
        "a format of ours": b"counterseal",
        "JSON": b'"kind"',
    }
    for identity in (bench.lab, bench.clinic):
        for what, text in (
            ("identity", identity.history.identity),
            ("card", identity.key_id),
        ):
            secrets[f"{identity.name}'s {what} in hex"] = text.encode()
            secrets[f"{identity.name}'s {what}"] = bytes.fromhex(text)
    found = [what for what, secret in secrets.items() if secret in said]
    assert found == []
    places = {message.topic for message in spy.heard}
    assert {topic.split("/")[2] for topic in places} == {"letters", "wants", "blocks"}
    between = box(bench.lab.history.identity, bench.clinic.history.identity)
    assert not any(between in topic for topic in places)
    assert not any(message.retain for message in spy.heard)


def test_who_writes_everywhere_cannot_get_a_block_accepted(bench, broker, ends, tmp_path):
    package = package_of(bench, 6)
    folder = tmp_path / "in"
    folder.mkdir()

    def disturb(spy, message):
        """Everything once more, changed and kept for later; and words of all kinds."""
        place, topic = message.topic.rpartition("/")[::2]
        changed = bytearray(message.payload)
        changed[-1] ^= 1
        spy.publish(message.topic, bytes(changed))
        spy.publish(message.topic, bytes(changed), retain=True, qos=1)
        spy.publish(message.topic, message.payload)
        if topic in ("wants", "blocks"):
            lock = Lock(place.split("/")[1])
            for kind in Kind:
                for target in ("wants", "blocks"):
                    spy.publish(f"{place}/{target}", lock.close(kind, RUN, 2**31))

    with Spy(broker, disturb) as spy:
        assert carry(bench, ends, folder, package) == package.read_bytes()
    assert len(spy.heard) > 6
    assert [path.name for path in folder.iterdir()] == ["patients-scan.sealed"]


def test_what_a_stranger_puts_up_is_handed_up_and_no_more(broker, ends):
    """A transport cannot tell; the letter is verified above."""
    place = "ef" * 16
    with Spy(broker) as spy:
        for data in (b"forged", bytes(2 * MIB), b"\xff" * 10):
            info = spy.client.publish(topics.board(place), data, qos=1, retain=True)
            info.wait_for_publish(10)
            assert ends[0].lookup(place) == data
        spy.client.publish(topics.board(place), b"", qos=1, retain=True).wait_for_publish(10)
        assert ends[0].lookup(place) is None
        ends[1].publish(place, b"ours")
        assert ends[0].lookup(place) == b"ours"


def test_a_flood_in_one_box_does_not_stop_another(broker, ends):
    mine, theirs = "aa" * 16, "bb" * 16
    assert list(ends[0].waiting([mine, theirs], wait=0)) == []
    with Spy(broker) as spy:
        for number in range(200):
            spy.publish(topics.letters(theirs), number.to_bytes(4, "big"), qos=1)
        spy.client.publish(topics.letters(theirs), b"last", qos=1).wait_for_publish(10)
        ends[1].deliver(mine, b"letter", NoBlocks())
        seen = []
        while b"letter" not in seen:
            for waiting in ends[0].waiting([mine, theirs], wait=10):
                seen.append(waiting.data)
                ends[0].done(waiting)


def test_a_changed_block_is_fetched_again_from_the_honest_end(broker, ends):
    source = MemorySource([bytes([n]) * 100_000 for n in range(20)], secret=SECRET)
    sink, place = MemorySink(source), "dd" * 16

    def forge(spy, message):
        if message.topic.endswith("/blocks") and len(message.payload) > 1000:
            forged = message.payload[: messages.HEAD_BYTES] + bytes(100_000)
            spy.publish(message.topic, forged)

    assert list(ends[1].waiting([place], wait=0)) == []
    with Spy(broker, forge):
        sending = threading.Thread(target=ends[0].deliver, args=(place, b"letter", source))
        sending.start()
        (waiting,) = ends[1].waiting([place], wait=20)
        ends[1].fetch(waiting, sink)
        ends[1].done(waiting)
        sending.join()
    assert sink.blocks == {name: source.read(name) for name in source.names}
