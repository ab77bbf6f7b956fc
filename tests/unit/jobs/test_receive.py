"""Receiving: what is taken, what stays, and what a crash at any moment leaves behind."""

import errno
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from post import Post, Spy, blocks_of, cut_front
from workshop import AT, CHEAP, DAY, listed

from counterseal.errors import (
    Aborted,
    CountersealError,
    Dropped,
    ExpiredKey,
    TimedOut,
    UnknownVersion,
)
from counterseal.exchange.incoming import Incoming
from counterseal.exchange.letter import LetterBook
from counterseal.exchange.outbox import Outbox
from counterseal.exchange.shipment import Notice
from counterseal.exchange.transports.folder import FolderTransport
from counterseal.exchange.transports.memory import MemoryTransport
from counterseal.jobs import receive as receiving
from counterseal.jobs.receive import Arrived, Confirmed, Refused, await_receipt
from counterseal.jobs.seal import seal
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.file import FileKeystore
from counterseal.trust.partner import Partner
from counterseal.wire import canonical

MIB = 1 << 20


@pytest.fixture
def post(bench):
    return Post(bench)


@pytest.fixture
def package(bench):
    return bench.seal({"w.bin": os.urandom(4 * MIB)})


# ── names ───────────────────────────────────────────────────────────────────────────────────


def test_a_name_that_is_taken(post, bench, package, tmp_path):
    """By a file, a folder, a link to nowhere, a link to a file: none is touched."""
    name = package.name
    (post.inbox / name).write_text("mine")
    stem, _, ending = name.rpartition(".")
    (post.inbox / f"{stem}-2.{ending}").mkdir()
    (post.inbox / f"{stem}-3.{ending}").symlink_to(tmp_path / "nowhere")
    (post.inbox / f"{stem}-4.{ending}").symlink_to(package)
    os.mkfifo(post.inbox / f"{stem}-5.{ending}")
    post.send(package)
    (arrived,) = post.receive()
    assert arrived.path.name == f"{stem}-6.{ending}"
    assert arrived.path.read_bytes() == package.read_bytes()
    assert (post.inbox / name).read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_name_without_an_ending(post, package):
    plain = package.rename(package.with_name("package"))
    (post.inbox / "package").write_text("mine")
    post.send(plain)
    assert post.receive()[0].path.name == "package-2"


def test_too_many_of_one_name(post, package, monkeypatch):
    monkeypatch.setattr(receiving.os.path, "lexists", lambda _: True)
    post.send(package)
    (refused,) = post.receive()
    assert "too many" in refused.error.message
    assert not refused.removed
    monkeypatch.undo()
    assert isinstance(post.receive()[0], Arrived)


def test_a_package_that_is_here_already(post, package):
    """Sent once more: what is here is enough, and is answered."""
    post.send(package)
    post.receive()
    post.send(package)
    spy = Spy(post.objects)
    (arrived,) = post.receive(via=spy.transport())
    assert arrived.kept == arrived.bytes
    assert spy.moved("get") == 0
    assert listed(post.inbox) == [package.name]
    assert len(post.receive(by=post.bench.lab)) == 2


def test_one_that_looks_like_it_but_is_not(post, package):
    post.send(package)
    data = bytearray(package.read_bytes())
    data[-1] ^= 1
    (post.inbox / package.name).write_bytes(data)
    (arrived,) = post.receive()
    assert arrived.path.read_bytes() == package.read_bytes()
    assert len(listed(post.inbox)) == 2


# ── crashes ─────────────────────────────────────────────────────────────────────────────────


class Crash(BaseException):
    """The process ends here."""


def before(owner, name):
    def arrange(patch):
        def crash(*_, **__):
            raise Crash

        patch.setattr(owner, name, crash)

    return arrange


def after(owner, name):
    def arrange(patch):
        real = getattr(owner, name)

        def crash(*args, **more):
            real(*args, **more)
            raise Crash

        patch.setattr(owner, name, crash)

    return arrange


MOMENTS = {
    "before the first block": before(MemoryTransport, "fetch"),
    "between the blocks and the name": after(MemoryTransport, "fetch"),
    "while it is verified": before(receiving, "_verify"),
    "before it gets its name": before(receiving.Incoming, "finish"),
    "with both names": before(Incoming, "discard"),
    "between the name and the receipt": before(receiving, "_send_receipt"),
    "between the receipt and our note": before(LetterBook, "commit"),
    "between our note and taking it away": after(LetterBook, "commit"),
    "while it is taken away": before(MemoryTransport, "done"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_crash(post, package, monkeypatch, moment):
    """The next call goes on: one file, one shipment confirmed, nothing left over."""
    sent = post.send(package)
    with monkeypatch.context() as patch:
        MOMENTS[moment](patch)
        with pytest.raises(Crash):
            post.receive()
    spy = Spy(post.objects)
    events = post.receive(via=spy.transport())
    assert all(isinstance(event, Arrived) for event in events)
    assert (post.inbox / package.name).read_bytes() == package.read_bytes()
    assert listed(post.inbox) == [package.name]
    if moment != "before the first block":
        assert spy.moved("get") <= MIB  # at most the front
    confirmed = post.receive(by=post.bench.lab)
    assert {type(event) for event in confirmed} == {Confirmed}
    assert Outbox(post.bench.lab).get(sent.letter).state == "confirmed"
    assert len(Outbox(post.bench.lab).list()) == 1
    assert post.receive() == post.receive(by=post.bench.lab) == []
    assert post.objects.stored == {}


def test_the_user_moved_it_before_the_next_call(post, package, monkeypatch):
    """A crash with both names, and the user was quick: theirs is not touched."""
    post.send(package)
    with monkeypatch.context() as patch:
        before(Incoming, "discard")(patch)
        with pytest.raises(Crash):
            post.receive()
    mine = (post.inbox / package.name).rename(post.inbox / "mine.sealed")
    post.receive()
    assert mine.read_bytes() == package.read_bytes()
    assert mine.stat().st_nlink == 1


def test_a_store_that_loses_us_at_the_end_hides_nothing_that_arrived(post, package):
    def lost(kind, name):
        if kind == "delete":
            raise Dropped("the way is lost")

    post.send(package)
    (arrived,) = post.receive(via=Spy(post.objects, lost).transport())
    assert isinstance(arrived, Arrived)
    assert post.receive() == []  # known, answered, and taken away now


def test_no_way_back(post, package):
    """Our receipt cannot be delivered: the letter stays, and is answered when it can."""

    def no_receipts(kind, name):
        if kind == "put" and post.box(post.bench.clinic, post.bench.lab) in name:
            raise Dropped("full")

    post.send(package)
    via = Spy(post.objects, no_receipts).transport()
    (arrived,) = post.receive(via=via)
    assert not arrived.receipt_sent
    assert post.receive(via=via) == []
    assert len(post.places()) == 1
    assert post.receive() == []
    assert len(post.receive(by=post.bench.lab)) == 1
    assert post.objects.stored == {}


# ── nothing keeps the ones behind it waiting ────────────────────────────────────────────────


def from_two(post, bench):
    """A shipment of rival's, then one of lab's."""
    first = bench.seal({"w.bin": os.urandom(MIB)}, by=bench.rival)
    second = bench.seal({"w.bin": os.urandom(MIB)})
    post.send(first, by=bench.rival)
    post.send(second)
    return {first.name, second.name}


def only(events, kind):
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


def test_a_shipment_that_never_comes_whole(post, bench):
    from_two(post, bench)
    for name in list(post.objects.stored):
        if "/blocks/" in name and post.box(bench.rival) in name:
            del post.objects.stored[name]
    events = post.receive()
    assert only(events, Arrived).sender == "lab"
    refused = only(events, Refused)
    assert (refused.sender, refused.removed) == ("rival", False)
    assert isinstance(refused.error, Dropped)
    assert [type(event) for event in post.receive()] == [Refused]  # it may come yet


def test_one_that_is_too_large_for_us(post, bench, monkeypatch):
    from_two(post, bench)
    real = Incoming._check_room

    def small(self, wanted):
        if self.notice.file == "1.sealed":
            raise CountersealError("there is no room")
        real(self, wanted)

    monkeypatch.setattr(Incoming, "_check_room", small)
    events = post.receive()
    assert len(events) == 2
    assert not only(events, Refused).removed
    monkeypatch.undo()
    assert only(post.receive(), Arrived).bytes > MIB


def test_one_that_another_command_receives(post, bench, monkeypatch):
    names = from_two(post, bench)
    held = []
    real = receiving._fetch

    def second_command(*args, **more):
        monkeypatch.setattr(receiving, "_fetch", real)
        held.extend(post.receive())
        return real(*args, **more)

    monkeypatch.setattr(receiving, "_fetch", second_command)
    events = [*post.receive(), *held]
    assert {event.path.name for event in events if isinstance(event, Arrived)} == names
    assert "another command" in only(events, Refused).error.message
    assert set(listed(post.inbox)) == names


def test_both_of_two_commands_know_the_letter(post, package, monkeypatch):
    """The other one was through with it while we were at it: no error, no second file."""
    post.send(package)
    real = receiving._act

    def other_first(*args, **more):
        monkeypatch.setattr(receiving, "_act", real)
        event = real(*args, **more)
        (post.inbox / package.name).rename(post.inbox / "moved")
        LetterBook(post.bench.clinic.store, owner=post.bench.clinic.history.identity).commit(
            args[0], at=AT
        )
        return event

    monkeypatch.setattr(receiving, "_act", other_first)
    assert post.receive() == []
    assert listed(post.inbox) == ["moved"]


def test_a_transport_that_brings_nothing_and_says_so_not(post, package, monkeypatch):
    post.send(package)
    monkeypatch.setattr(MemoryTransport, "fetch", lambda *_, **__: None)
    (refused,) = post.receive()
    assert "not every block" in refused.error.message
    assert not refused.removed


@pytest.mark.parametrize("which", [0, -1], ids=["front", "body"])
def test_a_block_that_was_changed_is_brought_anew_by_sending_again(post, package, which):
    """Also if it was of the front, which the second letter encrypts anew."""
    post.send(package)
    notice = canonical.decode(post.read(post.letters()[0]).body, Notice, limit=MIB, what="notice")
    place = f"boxes/{post.box()}/blocks/{notice.names()[which]}"
    data = post.objects.stored[place]
    post.objects.stored[place] = data[:-1] + bytes([data[-1] ^ 1])
    (refused,) = post.receive()
    assert isinstance(refused.error, Aborted)
    assert not refused.removed
    spy = Spy(post.objects)
    post.send(package, via=spy.transport())
    assert spy.moved("put") <= 2 * MIB
    events = [*post.receive(), *post.receive()]
    arrived = [event for event in events if isinstance(event, Arrived)]
    assert len(arrived) == 2  # both letters are about the one file, so both are answered
    assert post.receive() == []
    assert listed(post.inbox) == [package.name]
    assert arrived[0].path.read_bytes() == package.read_bytes()


# ── what stays, and for how long ────────────────────────────────────────────────────────────


def test_a_card_that_is_not_here_yet(post, bench, package):
    known = post.partner(bench.lab)
    bench.lab.rotate(at=AT)
    post.send(package)
    real, post.partner = post.partner, lambda one: known if one is bench.lab else real(one)
    (refused,) = post.receive()
    assert "not here yet" in refused.error.message
    assert not refused.removed
    post.partner = real
    assert isinstance(post.receive()[0], Arrived)


def test_letters_that_ended_do_not_stay(post, bench, package):
    post.send(package)
    (refused,) = post.receive(at=AT + 31 * DAY)
    assert isinstance(refused.error, ExpiredKey)
    assert refused.removed
    assert post.objects.stored == {}


def test_nor_those_under_a_card_that_was_revoked_or_never_came(post, bench, package):
    post.send(package)
    bench.lab.revoke(reason="compromised", at=AT)
    (refused,) = post.receive()
    assert not refused.removed
    (refused,) = post.receive(at=AT + 31 * DAY)
    assert refused.removed
    assert post.objects.stored == {}


def test_what_is_of_a_newer_version_waits_for_an_upgrade(post, bench, package):
    (data,) = [post.send(package) and post.letters()[0]]
    for place in post.places():
        post.objects.delete(place)
    post.drop_in(data[:6] + b"\2" + data[7:])
    (refused,) = post.receive()
    assert (type(refused.error), refused.removed) == (UnknownVersion, False)
    newer, front = cut_front(blocks_of(package)[0], newer_package(package))
    post.drop_in(post.write(newer), blocks=front)
    refused = post.receive()[1]
    assert (type(refused.error), refused.removed) == (UnknownVersion, False)
    assert len(listed(post.inbox)) == 1


def newer_package(package):
    notice, _ = blocks_of(package)
    front = bytearray(package.read_bytes()[: notice.body])
    front[12] = 2
    return bytes(front)


def test_a_letter_from_the_future_waits_for_its_time(post, package):
    post.send(package, at=AT + DAY)
    (refused,) = post.receive(at=AT)
    assert "future" in refused.error.message
    assert not refused.removed
    assert isinstance(post.receive(at=AT + DAY)[0], Arrived)


def test_half_a_package_that_nobody_came_back_for(post, package):
    post.send(package)
    lost = [0]

    def before(kind, name):
        lost[0] += kind == "get" and "/blocks/" in name
        if lost[0] > 3:
            raise Dropped("lost")

    with pytest.raises(Dropped):  # also the next question is not answered
        post.receive(via=Spy(post.objects, before).transport())
    (hidden,) = post.inbox.iterdir()
    os.utime(hidden, (AT.timestamp(), AT.timestamp()))
    post.receive(at=AT + 32 * DAY)
    assert listed(post.inbox) == []


def test_the_way_is_lost(post, package):
    post.send(package)

    def lost(kind, name):
        raise Dropped("the way is lost")

    with pytest.raises(Dropped):
        post.receive(via=Spy(post.objects, lost).transport())


# ── waiting for a receipt ───────────────────────────────────────────────────────────────────


class Clock:
    def __init__(self):
        self.time, self.slept = 0.0, []

    def __call__(self):
        return self.time

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds


def wait_for(post, sent, clock, *, via=None, wait=60.0, then=lambda: None):
    via = via or post.via

    def sleep(seconds):
        clock.sleep(seconds)
        then()

    via._now, via._sleep = clock, sleep
    return await_receipt(
        sent.letter,
        by=post.bench.lab,
        of=post.partner(post.bench.clinic),
        via=via,
        wait=wait,
        now=lambda: AT,
        clock=clock,
        sleep=sleep,
    )


def test_a_receipt_that_is_there(post, package):
    sent, clock = post.send(package), Clock()
    post.receive()
    assert wait_for(post, sent, clock) == AT
    assert clock.slept == []
    assert wait_for(post, sent, clock) == AT  # remembered


def test_a_receipt_that_comes(post, package):
    sent, clock = post.send(package), Clock()

    def then():
        if len(clock.slept) == 7:
            post.receive(at=AT + timedelta(minutes=5))

    assert wait_for(post, sent, clock, then=then) == AT + timedelta(minutes=5)


@pytest.mark.parametrize(
    "beside", ["nothing", "a shipment", "rubbish", "a letter of an unknown card"]
)
def test_no_receipt(post, bench, package, beside):
    """It waits as long as it was told, and never asks without a pause."""
    sent, clock = post.send(package), Clock()
    box = post.box(bench.clinic, bench.lab)
    if beside == "a shipment":
        theirs = bench.seal({"w.bin": b"1"}, by=bench.clinic, to=[bench.lab])
        post.send(theirs, by=bench.clinic, to=bench.lab)
    elif beside == "rubbish":
        post.drop_in(b"rubbish", box=box)
    elif beside == "a letter of an unknown card":
        post.drop_in(post.write(b"{}", by=bench.clinic, to=bench.lab, card="f" * 64), box=box)
    asked = []
    spy = Spy(
        post.objects, lambda kind, name: asked.append(clock.time) if kind == "names" else None
    )
    with pytest.raises(TimedOut, match="no receipt"):
        wait_for(post, sent, clock, via=spy.transport(), wait=30.0)
    assert 30.0 <= clock.time < 31.0
    assert max(map(asked.count, set(asked))) <= 8  # one look has several questions
    assert len(post.places(box=box)) == (beside in {"a shipment", "a letter of an unknown card"})


def test_other_letters_are_left_for_receive(post, bench, package):
    theirs = bench.seal({"w.bin": b"1"}, by=bench.clinic, to=[bench.lab])
    post.send(theirs, by=bench.clinic, to=bench.lab)
    sent, clock = post.send(package), Clock()
    post.receive()
    assert wait_for(post, sent, clock) == AT
    (arrived,) = post.receive(by=bench.lab)
    assert arrived.path.read_bytes() == theirs.read_bytes()


# ── no room ─────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk(post, package, monkeypatch):
    from counterseal.exchange import payload

    post.send(package)
    real, left = os.pwrite, [3]

    def full(descriptor, data, offset):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    monkeypatch.setattr(payload.os, "pwrite", full)
    (refused,) = post.receive()
    assert "no room" in refused.error.message
    assert not refused.removed
    assert all(name.startswith(".") for name in listed(post.inbox))
    monkeypatch.undo()
    (arrived,) = post.receive()
    assert arrived.kept >= 2 * MIB
    assert listed(post.inbox) == [package.name]


# ── kill -9 ─────────────────────────────────────────────────────────────────────────────────

CHILD = """
import os, sys
from datetime import datetime
from pathlib import Path
from counterseal.exchange.transports.folder import FolderTransport
from counterseal.jobs.receive import receive
from counterseal.jobs.send import send
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import Partner
from counterseal.trust.card import CardDocument

job, home, name, card, post, package, inbox, at, kill_at = sys.argv[1:]
at = datetime.fromisoformat(at)
us = Identity.load(name, home=Home(Path(home)), passphrase=b"passphrase")
document = CardDocument.load(card)
from counterseal.trust.history import History
them = Partner.pin(document, key_id=History.verify(document).newest.key_id, at=at)

def progress(done, total):
    if done >= total * float(kill_at):
        os.kill(os.getpid(), 9)

via = FolderTransport(Path(post))
if job == "send":
    send(package, by=us, to=them, via=via, at=at, progress=progress)
else:
    list(receive(Path(inbox), by=us, partners=[them], via=via, now=lambda: at, progress=progress))
"""


class Scene:
    """lab and clinic with homes on disk, and a folder between them."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("lab", "clinic"):
            home = Home(folder / f"home-{name}")
            made = Identity.create(name, home=home, passphrase=b"passphrase", at=AT)
            keystore = FileKeystore(home.identity_folder(name) / "keystore.json", cost=CHEAP)
            keystore.save(made._ring, b"passphrase")
            made.card().save(folder / f"{name}.card")
            setattr(self, name, made)
        self.post, self.inbox = folder / "post", folder / "inbox"
        self.post.mkdir()
        self.inbox.mkdir()
        self.package = folder / "m.sealed"
        (folder / "w.bin").write_bytes(os.urandom(16 * MIB))
        to = Partner.pin(self.clinic.card(), key_id=self.clinic.key_id, at=AT)
        seal(folder / "w.bin", by=self.lab, to=to, output=self.package, at=AT, model="m")

    def killed(self, job, at):
        """Run it in a process of its own that ends by SIGKILL at that part of the bytes."""
        us, them = ("lab", "clinic") if job == "send" else ("clinic", "lab")
        command = [sys.executable, "-c", CHILD, job, self.folder / f"home-{us}", us]
        command += [self.folder / f"{them}.card", self.post, self.package, self.inbox]
        src = str(Path(__file__).resolve().parents[3] / "src")
        paths = os.pathsep.join(filter(None, [src, os.environ.get("PYTHONPATH")]))
        child = subprocess.run(
            [*map(str, command), AT.isoformat(), str(at)],
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            check=False,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr

    def send(self):
        from counterseal.jobs.send import send

        spy = Spy(FolderTransport(self.post)._objects)
        to = Partner.pin(self.clinic.card(), key_id=self.clinic.key_id, at=AT)
        return send(self.package, by=self.lab, to=to, via=spy.transport(), at=AT), spy

    def receive(self, by="clinic", of="lab"):
        spy = Spy(FolderTransport(self.post)._objects)
        by, of = getattr(self, by), getattr(self, of)
        partners = [Partner.pin(of.card(), key_id=of.key_id, at=AT)]
        via = spy.transport()
        found = receiving.receive(self.inbox, by=by, partners=partners, via=via, now=lambda: AT)
        return list(found), spy


@pytest.fixture
def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    scene.lab.store.close()
    scene.clinic.store.close()


def test_kill_9_of_the_sender(scene):
    scene.killed("send", 0.5)
    assert scene.receive()[0] == []  # nothing is shown before it is whole
    sent, spy = scene.send()
    assert sent.continued
    assert spy.moved("put") <= sent.bytes * 0.51 + MIB
    events, _ = scene.receive()
    assert [type(event) for event in events] == [Arrived]
    assert (scene.inbox / "m.sealed").read_bytes() == scene.package.read_bytes()
    left = [path for path in scene.post.rglob("*") if path.is_file() and "blocks" in path.parts]
    assert [path.name for path in left if not path.name.endswith(".part")] == []


def test_kill_9_of_the_receiver(scene):
    sent, _ = scene.send()
    for part in (0.0, 0.4, 0.3):
        scene.killed("receive", part)
        assert not any(not name.startswith(".") for name in listed(scene.inbox))
    events, spy = scene.receive()
    (arrived,) = events
    assert arrived.kept + spy.moved("get") == arrived.bytes == sent.bytes
    # 1 block, then 40 % of the rest, then 30 % of that: each attempt gave up one block at most
    assert spy.moved("get") <= sent.bytes * (0.6 * 0.7 + 0.01) + MIB
    assert (scene.inbox / "m.sealed").read_bytes() == scene.package.read_bytes()
    assert listed(scene.inbox) == ["m.sealed"]
    events, _ = scene.receive("lab", "clinic")
    assert [type(event) for event in events] == [Confirmed]


def test_kill_9_at_the_last_block(scene):
    scene.send()
    scene.killed("receive", 1.0)
    events, spy = scene.receive()
    assert [type(event) for event in events] == [Arrived]
    assert spy.moved("get") <= MIB
    assert listed(scene.inbox) == ["m.sealed"]
