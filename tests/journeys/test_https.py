"""Mailbox and clients as real processes, killed with -9 in the middle.

What was acknowledged is there afterwards; what was sent is not sent again. The mailbox counts
the bytes of blocks that come and go in a file that outlives it.
"""

import contextlib
import json
import mmap
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from office import Blocks
from OpenSSL import SSL
from workshop import AT, CHEAP

from counterseal.crypto.digest import leaf_digest
from counterseal.crypto.tls_identity import throw_away
from counterseal.errors import Dropped, TrustError
from counterseal.exchange.boxes import box
from counterseal.exchange.transports import NoBlocks
from counterseal.exchange.transports.https import HttpsTransport
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.file import FileKeystore

MIB = 1 << 20
SIZE = 64 * MIB
PASSPHRASE = b"passphrase"
LANES_AHEAD = 2 * 2 * MIB  # connections times blocks under way on each

COMMON = """
import json, mmap, os, struct, sys, threading
from datetime import datetime
from pathlib import Path
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity

folder, name, at = Path(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3])
us = Identity.load(name, home=Home(folder / f"home-{name}"), passphrase=b"passphrase")
cards = {one.stem: History.verify(CardDocument.load(one)) for one in folder.glob("*.card")}
"""

SERVER = (
    COMMON
    + """
from counterseal.exchange.transports.https import Limits, Mailbox, http1, serve, tls

count = mmap.mmap(os.open(folder / "count", os.O_RDWR), 16)
lock = threading.Lock()

def add(place, number):
    with lock:
        (before,) = struct.unpack_from("<q", count, place)
        struct.pack_into("<q", count, place, before + number)

real_read, real_send = http1.StreamBody.read_into, tls.Link.send

def read_into(self, view):
    number = real_read(self, view)
    add(0, number)
    return number

def send(self, data):
    if len(data) > 10_000:
        add(8, len(data))
    return real_send(self, data)

http1.StreamBody.read_into, tls.Link.send = read_into, send
known = {one.identity: one for one in cards.values()}
mailbox = Mailbox(folder / "mailbox", identity=us, lookup=known.get, limits=Limits(spare_bytes=0))
server = serve(mailbox, "127.0.0.1", int(sys.argv[4]), clock=lambda: at)
print(server.port, flush=True)
sys.stdin.readline()
server.close()
mailbox.close()
"""
)

CLIENT = (
    COMMON
    + """
from counterseal.crypto.digest import leaf_digest
from counterseal.errors import BadCiphertext
from counterseal.exchange.boxes import box
from counterseal.exchange.transports.https import HttpsTransport

port, job, partner = int(sys.argv[4]), sys.argv[5], cards[sys.argv[6]].identity
names = json.loads((folder / "names").read_text())
transport = HttpsTransport(
    "127.0.0.1", port, by=us, server=cards["bank"], partners=[partner], clock=lambda: at
)

class Source:
    def __init__(self):
        self.names = names
        self.file = os.open(folder / "package", os.O_RDONLY)
        self.place = {one: number for number, one in enumerate(names)}
    def size(self, name):
        return 1 << 20
    def read(self, name):
        return os.pread(self.file, 1 << 20, self.place[name] << 20)
    def fill(self, name, view):
        view[:] = self.read(name)

class Sink(Source):
    def __init__(self):
        super().__init__()
        self.out = folder / f"got-{us.name}"
        self.out.mkdir(exist_ok=True)
    def missing(self):
        there = {one.name for one in self.out.iterdir()}
        return [one for one in names if one not in there]
    def put(self, name, data):
        if leaf_digest(data).hex() != name:
            raise BadCiphertext("changed")
        temporary = self.out / f".{name}"
        temporary.write_bytes(data)
        temporary.rename(self.out / name)

if job == "send":
    transport.deliver(box(us.history.identity, partner), b"notice", Source())
else:
    (letter,) = transport.waiting([box(partner, us.history.identity)], wait=60)
    transport.fetch(letter, Sink())
    transport.done(letter)
transport.close()
print("done", flush=True)
"""
)


class Template:
    """What all scenes have: homes of three, and a package. Unlocking keys is slow on purpose."""

    def __init__(self, folder):
        self.folder = folder
        self.cards = {}
        for name in ("bank", "lab", "clinic"):
            home = Home(folder / f"home-{name}")
            made = Identity.create(name, home=home, passphrase=PASSPHRASE, at=AT)
            place = home.identity_folder(name) / "keystore.json"
            FileKeystore(place, cost=CHEAP).save(made._ring, PASSPHRASE)
            made.card().save(folder / f"{name}.card")
            self.cards[name] = made
        pieces = [os.urandom(MIB) for _ in range(SIZE // MIB)]
        (folder / "package").write_bytes(b"".join(pieces))
        self.names = [leaf_digest(piece).hex() for piece in pieces]
        (folder / "names").write_text(json.dumps(self.names))


class Scene:
    """bank runs the mailbox; lab and clinic use it; a package of 64 blocks."""

    def __init__(self, folder, template):
        self.folder = folder
        shutil.copytree(template.folder, folder, dirs_exist_ok=True, copy_function=_copy)
        (folder / "count").write_bytes(bytes(16))
        self.cards, self.names = template.cards, template.names
        self.children = []
        self.server = None
        self.port = 0

    def start(self, script, *arguments):
        src = str(Path(__file__).resolve().parents[2] / "src")
        paths = os.pathsep.join(filter(None, [src, os.environ.get("PYTHONPATH")]))
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(self.folder), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        )
        self.children.append(child)
        return child

    def serve(self):
        self.server = self.start(SERVER, "bank", AT.isoformat(), self.port)
        line = self.server.stdout.readline()
        assert line.strip().isdigit(), self.server.stderr.read()
        self.port = int(line)

    def client(self, name, job, partner):
        return self.start(CLIENT, name, AT.isoformat(), self.port, job, partner)

    def kill(self, child):
        child.kill()
        child.communicate()

    def finish(self, child):
        output, errors = child.communicate(timeout=120)
        assert output == b"done\n", errors.decode()

    def stop(self):
        """An orderly end of the mailbox."""
        _, errors = self.server.communicate(b"\n", timeout=60)
        assert self.server.returncode == 0, errors.decode()
        assert errors == b""

    def counted(self):
        """(bytes of contents that came, bytes of blocks that went)"""
        return struct.unpack("<qq", (self.folder / "count").read_bytes())

    def wait_until(self, place, number):
        with (self.folder / "count").open("r+b") as file, mmap.mmap(file.fileno(), 16) as count:
            end = time.monotonic() + 60
            while struct.unpack_from("<q", count, 8 * place)[0] < number:
                assert time.monotonic() < end
                time.sleep(0.001)

    def got(self, name):
        folder = self.folder / f"got-{name}"
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))

    def transport(self, name, **more):
        by = self.cards[name]
        more.setdefault("server", self.cards["bank"].history)
        return HttpsTransport(
            "127.0.0.1",
            self.port,
            by=by,
            partners=[one.history.identity for one in self.cards.values()],
            clock=lambda: AT,
            **more,
        )

    def box(self, by, to):
        return box(self.cards[by].history.identity, self.cards[to].history.identity)

    def close(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.communicate()


def _copy(source, target):
    """The package is large and nobody writes to it."""
    (os.link if Path(source).name == "package" else shutil.copy2)(source, target)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return Template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def scene(tmp_path, template):
    made = Scene(tmp_path, template)
    try:
        made.serve()
        yield made
    finally:
        made.close()


def check_sent_again(scene, sent_before):
    """At most one percent of what had been sent before each kill."""
    came, _ = scene.counted()
    print(f"sent again: {came - SIZE} bytes after {sent_before}")
    assert came - SIZE <= sum(sent_before) // 100


def test_the_sender_is_killed_and_starts_again(scene):
    child = scene.client("lab", "send", "clinic")
    sent_before = []
    for part in (0.5, 0.8):
        scene.wait_until(0, int(SIZE * part))
        scene.kill(child)
        sent_before.append(scene.counted()[0])
        child = scene.client("lab", "send", "clinic")
    scene.finish(child)
    check_sent_again(scene, sent_before)
    scene.finish(scene.client("clinic", "receive", "lab"))
    assert scene.got("clinic") == sorted(scene.names)
    scene.stop()


def test_the_mailbox_is_killed_while_it_takes_a_shipment(scene):
    child = scene.client("lab", "send", "clinic")
    sent_before = []
    for part in (0.5, 0.8):
        scene.wait_until(0, int(SIZE * part))
        scene.kill(scene.server)
        sent_before.append(scene.counted()[0])
        scene.serve()
    scene.finish(child)
    check_sent_again(scene, sent_before)
    scene.finish(scene.client("clinic", "receive", "lab"))
    assert scene.got("clinic") == sorted(scene.names)
    scene.stop()


def test_the_receiver_is_killed_and_starts_again(scene):
    scene.finish(scene.client("lab", "send", "clinic"))
    child = scene.client("clinic", "receive", "lab")
    scene.wait_until(1, SIZE // 2)
    scene.kill(child)
    scene.finish(scene.client("clinic", "receive", "lab"))
    assert scene.got("clinic") == sorted(scene.names)
    _, went = scene.counted()
    print(f"sent again: {(went - SIZE) / MIB:.1f} MiB")
    assert went <= SIZE + LANES_AHEAD
    scene.stop()


def test_the_mailbox_is_killed_while_it_hands_out_a_shipment(scene):
    scene.finish(scene.client("lab", "send", "clinic"))
    child = scene.client("clinic", "receive", "lab")
    scene.wait_until(1, SIZE // 2)
    scene.kill(scene.server)
    scene.serve()
    scene.finish(child)
    assert scene.got("clinic") == sorted(scene.names)
    _, went = scene.counted()
    assert went <= SIZE + LANES_AHEAD
    scene.stop()


def test_two_clients_at_once_in_both_directions(scene):
    sending = [scene.client("lab", "send", "clinic"), scene.client("clinic", "send", "lab")]
    for child in sending:
        scene.finish(child)
    receiving = [scene.client("lab", "receive", "clinic"), scene.client("clinic", "receive", "lab")]
    for child in receiving:
        scene.finish(child)
    assert scene.got("lab") == scene.got("clinic") == sorted(scene.names)
    scene.stop()
    left = [p for p in (scene.folder / "mailbox" / "blocks").rglob("*") if p.is_file()]
    assert left == []  # with the last letter went the last block


def test_nothing_acknowledged_is_lost(scene):
    """Letters and notices, with the mailbox killed at random moments."""
    rng = random.Random()
    lab, clinic = scene.transport("lab", patience=0.1), scene.transport("clinic")
    inbox = scene.box("lab", "clinic")
    tried, acknowledged, notices = [], [], [None]
    for attempt in range(4):
        server = scene.server
        killer = threading.Timer(rng.random() * 0.5, server.kill)
        killer.start()
        with contextlib.suppress(Dropped):
            for number in range(45):
                word = b"%d.%d" % (attempt, number)
                tried.append(word)
                lab.deliver(inbox, word, Blocks(1000) if number % 2 else NoBlocks())
                acknowledged.append(word)
                notices.append(word)
                lab.publish(inbox, word)
                del notices[:-1]
        killer.join()
        server.communicate()
        scene.serve()
        found = [letter.data for letter in clinic.waiting([inbox], wait=0)]
        assert [word for word in found if word in acknowledged] == acknowledged
        assert set(found) <= set(tried)
        assert clinic.lookup(inbox) in notices
    lab.close()
    clinic.close()
    scene.stop()


def test_only_the_right_mailbox_and_only_post_quantum(scene):
    wrong = scene.transport("lab", server=scene.cards["clinic"].history)
    with pytest.raises(TrustError, match="another mailbox"):
        wrong.lookup("0" * 32)
    wrong.close()
    from cryptography.hazmat.primitives.asymmetric import ec

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    ours = throw_away()
    context.use_certificate(ours.certificate)
    context.use_privatekey(ours.key)
    context.set_tmp_ecdh(ec.SECP256R1())  # what a client without X25519MLKEM768 offers

    def ask(sock):
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        connection.do_handshake()
        connection.sendall(b"GET /v1/session HTTP/1.1\r\nhost: h\r\n\r\n")
        connection.recv(1)

    with (
        socket.create_connection(("127.0.0.1", scene.port)) as sock,
        pytest.raises(SSL.Error),
    ):
        ask(sock)
    scene.stop()


def test_a_stranger_that_only_pairs(scene):
    lab = scene.transport("lab")
    lab.open_slot(4711)
    stranger = HttpsTransport("127.0.0.1", scene.port, by=None, server=None)
    assert stranger.post_slot(4711, b"hello") == 0
    assert lab.poll_slot(4711, 0, wait=5) == b"hello"
    scene.kill(scene.server)
    scene.serve()
    assert stranger.poll_slot(4711, 0) == b"hello"
    lab.close()
    stranger.close()
    scene.stop()
