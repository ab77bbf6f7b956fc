"""What arrives, in any order and number of attempts, in a folder where others may write."""

import contextlib
import errno
import os
import random
import socket
from datetime import timedelta
from typing import NamedTuple

import msgspec
import pytest
from post import blocks_of, cut_front, outgoing
from workshop import AT, Cut, listed, open_descriptors

from counterseal.errors import BadCiphertext, BadSignature, CountersealError, TrustError
from counterseal.exchange import hidden as hiding
from counterseal.exchange import incoming as incomings
from counterseal.exchange import payload
from counterseal.exchange.hidden import sweep
from counterseal.exchange.incoming import Incoming
from counterseal.exchange.letter import Ended

MIB = 1 << 20
LAB, RIVAL = "1" * 64, "2" * 64


@pytest.fixture
def package(bench):
    return bench.seal({"w.bin": os.urandom(3 * MIB + 5)})


@pytest.fixture
def parts(package):
    return blocks_of(package)


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def nothing(_descriptor):
    """The caller has nothing to say."""


def arrive(notice, blocks, inbox, *, names=None, sender=LAB):
    """One attempt that brings `names`; finishes if all are there."""
    with Incoming(notice, inbox / "m.sealed", sender=sender) as incoming:
        for name in incoming.missing() if names is None else names:
            incoming.put(name, blocks[name])
        if not incoming.missing():
            incoming.finish(nothing)
        return incoming.kept


def test_any_order_and_twice(package, parts, inbox):
    notice, blocks = parts
    names = [*blocks, *blocks]
    random.Random(7).shuffle(names)
    assert arrive(notice, blocks, inbox, names=names) == 0
    assert (inbox / "m.sealed").read_bytes() == package.read_bytes()
    assert listed(inbox) == ["m.sealed"]
    assert (inbox / "m.sealed").stat().st_nlink == 1


def test_nothing_has_a_name_before_it_is_whole(package, parts, inbox):
    notice, blocks = parts
    for name in blocks:
        assert not any(not one.startswith(".") for one in listed(inbox))
        arrive(notice, blocks, inbox, names=[name])
    assert listed(inbox) == ["m.sealed"]
    assert (inbox / "m.sealed").read_bytes() == package.read_bytes()


def test_an_attempt_goes_on_where_the_last_one_stopped(parts, inbox):
    notice, blocks = parts
    first, *_, last = blocks
    assert arrive(notice, blocks, inbox, names=[last]) == 0
    with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
        assert incoming.kept == len(blocks[last])
        assert incoming.missing() == [name for name in blocks if name != last]
        assert incoming.size(first) == len(blocks[first])
        assert incoming.total == sum(map(len, blocks.values()))


def test_a_claim_that_the_bytes_do_not_keep_is_noticed(parts, inbox):
    """After a crash of the machine the file may have the right length and other bytes."""
    notice, blocks = parts
    names = list(blocks)
    arrive(notice, blocks, inbox, names=names[1:])
    (hidden,) = inbox.iterdir()
    with hidden.open("r+b") as file:
        file.seek(notice.body + MIB + 17)
        file.write(b"lost")
    with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
        assert sorted(incoming.missing()) == sorted([names[0], notice.names()[2]])


def test_a_second_letter_about_the_same_package_goes_on_with_the_first(package, inbox):
    notice, blocks = blocks_of(package)
    arrive(notice, blocks, inbox, names=notice.names()[2:])
    again, others = blocks_of(package)
    with Incoming(again, inbox / "other-name", sender=LAB) as incoming:
        assert incoming.missing() == again.names()[:2]
        for name in incoming.missing():
            incoming.put(name, others[name])
        incoming.finish(nothing)
    assert (inbox / "other-name").read_bytes() == package.read_bytes()


def test_another_partner_cannot_spoil_what_arrived(parts, inbox):
    """A recipient of the same package knows its blocks; its own notice may lie about the rest."""
    notice, blocks = parts
    arrive(notice, blocks, inbox, names=list(blocks)[1:])
    hostile, front = cut_front(notice, bytes(notice.body))
    with Incoming(hostile, inbox / "m.sealed", sender=RIVAL) as incoming:
        for data in [*front, *list(blocks.values())[1:]]:
            incoming.put(incomings.leaf_digest(data).hex(), data)
        with pytest.raises(BadCiphertext):
            incoming.finish(refuse(BadCiphertext("no")))
    with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
        assert len(incoming.missing()) == 1


def refuse(error):
    def verify(_descriptor):
        raise error

    return verify


@pytest.mark.parametrize("change", ["a bit", "shorter", "longer", "another block", "empty"])
def test_a_block_that_is_not_the_one_is_refused(parts, inbox, change):
    notice, blocks = parts
    one, two, three = notice.names()[:3]
    data = {
        "a bit": blocks[two][:-1] + bytes([blocks[two][-1] ^ 1]),
        "shorter": blocks[two][:-1],
        "longer": blocks[two] + b"\0",
        "another block": blocks[three],
        "empty": b"",
    }[change]
    with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
        with pytest.raises(BadCiphertext, match="changed on the way"):
            incoming.put(two, data)
        with pytest.raises(BadCiphertext):
            incoming.put("0" * 64, blocks[one])
        assert len(incoming.missing()) == len(blocks)
    assert listed(inbox) == []


def test_blocks_that_are_alike(inbox):
    """A hostile package of zeros: one name for many places, and holes that read as it."""
    notice, blocks = zeros()
    (zero,) = [name for name, data in blocks.items() if data == bytes(MIB)]
    with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
        assert incoming.missing().count(zero) == 1
        incoming.put(zero, blocks[zero])
        assert zero not in incoming.missing()
    with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
        assert incoming.kept == 4 * MIB
        (hidden,) = inbox.iterdir()
        with hidden.open("r+b") as file:
            file.seek(notice.body + 2 * MIB)
            file.write(b"x")
    with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
        assert zero in incoming.missing()  # one of its places is wrong


def zeros():
    from counterseal.exchange.shipment import Notice, front_message

    body, size = 4096, 4096 + 4 * MIB
    key = bytes(32)
    front = front_message(key, body).seal_whole(bytes(body))
    block = incomings.leaf_digest(bytes(MIB))
    notice = Notice(
        kind="shipment", format=1, file="z", package="0" * 32, size=size, body=body,
        block_bytes=MIB, key=key, front=incomings.leaf_digest(front), blocks=block * 4,
    )  # fmt: skip
    return notice, {incomings.leaf_digest(front).hex(): front, block.hex(): bytes(MIB)}


class TestFinish:
    def test_not_before_all_is_there(self, parts, inbox):
        notice, blocks = parts
        with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
            incoming.put(notice.names()[0], blocks[notice.names()[0]])
            with pytest.raises(RuntimeError):
                incoming.finish(nothing)

    @pytest.mark.parametrize("error", [BadSignature("no"), Ended("over")], ids=["bad", "ended"])
    def test_what_will_never_be_good_is_thrown_away(self, parts, inbox, error):
        notice, blocks = parts
        with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
            for name, data in blocks.items():
                incoming.put(name, data)
            with pytest.raises(type(error)):
                incoming.finish(refuse(error))
        assert listed(inbox) == []

    def test_what_may_be_good_later_is_kept(self, parts, inbox):
        notice, blocks = parts
        with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
            for name, data in blocks.items():
                incoming.put(name, data)
            with pytest.raises(TrustError):
                incoming.finish(refuse(TrustError("who?")))
        with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
            assert set(incoming.missing()) <= set(notice.names()[: len(notice.plan.front)])

    def test_the_caller_sees_the_package_as_it_will_be(self, package, parts, inbox):
        notice, blocks = parts
        seen = []
        with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
            for name, data in blocks.items():
                incoming.put(name, data)
            incoming.finish(lambda descriptor: seen.append(os.pread(descriptor, 1 << 30, 0)))
        assert seen == [package.read_bytes()]

    @pytest.mark.parametrize("key", [bytes(32), None], ids=["another key", "another size"])
    def test_a_front_that_does_not_open(self, parts, inbox, key):
        notice, blocks = parts
        if key is None:
            plain = bytes(notice.body)
            hostile, pieces = cut_front(notice, plain)
            pieces = [pieces[0][:-1] + b"?"]
            front = incomings.leaf_digest(pieces[0])
            hostile = msgspec.structs.replace(hostile, front=front)
            blocks = {**blocks, front.hex(): pieces[0]}
        else:
            hostile = msgspec.structs.replace(notice, key=key)
        with Incoming(hostile, inbox / "m.sealed", sender=LAB) as incoming:
            for name in incoming.missing():
                incoming.put(name, blocks[name])
            with pytest.raises(BadCiphertext):
                incoming.finish(nothing)
        assert listed(inbox) == []

    def test_a_name_that_was_taken_in_the_meantime(self, package, parts, inbox):
        notice, blocks = parts
        with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
            for name, data in blocks.items():
                incoming.put(name, data)
            (inbox / "m.sealed").write_text("mine")
            with pytest.raises(CountersealError, match="in the meantime"):
                incoming.finish(nothing)
        assert (inbox / "m.sealed").read_text() == "mine"
        with Incoming(notice, inbox / "m-2.sealed", sender=LAB) as incoming:
            assert incoming.missing() == notice.names()[:1]
            incoming.put(notice.names()[0], blocks[notice.names()[0]])
            incoming.finish(nothing)
        assert (inbox / "m-2.sealed").read_bytes() == package.read_bytes()


def test_a_front_larger_than_a_block(bench, inbox):
    """For a thousand recipients; opened leaf by leaf."""
    package = bench.seal({"w.bin": b"1"})
    notice, blocks = blocks_of(package)
    plain = package.read_bytes()[: notice.body] + bytes(3 * MIB)
    grown = msgspec.structs.replace(notice, body=len(plain), size=notice.size + 3 * MIB)
    grown, pieces = cut_front(grown, plain)
    assert len(pieces) == 4
    blocks |= {incomings.leaf_digest(piece).hex(): piece for piece in pieces}
    arrive(grown, blocks, inbox)
    assert (inbox / "m.sealed").read_bytes() == plain + package.read_bytes()[notice.body :]


# ── somebody else writes in the folder ──────────────────────────────────────────────────────


def hidden_path(notice, inbox):
    return hiding.path_of(inbox, notice, sender=LAB)


def test_a_planted_link_is_not_written_through(package, parts, inbox, tmp_path):
    notice, blocks = parts
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for plant in ("symlink", "hard link", "dangling"):
        hidden = hidden_path(notice, inbox)
        if plant == "symlink":
            hidden.symlink_to(victim)
        elif plant == "hard link":
            hidden.hardlink_to(victim)
        else:
            hidden.symlink_to(tmp_path / "nowhere")
        arrive(notice, blocks, inbox)
        assert (inbox / "m.sealed").read_bytes() == package.read_bytes()
        assert victim.read_text() == "precious"
        (inbox / "m.sealed").unlink()
    assert not (tmp_path / "nowhere").exists()


def test_a_planted_pipe_or_socket_does_not_hold_us_up(package, parts, inbox):
    notice, blocks = parts
    os.mkfifo(hidden_path(notice, inbox))
    arrive(notice, blocks, inbox)
    assert (inbox / "m.sealed").read_bytes() == package.read_bytes()
    (inbox / "m.sealed").unlink()
    with contextlib.chdir(inbox), socket.socket(socket.AF_UNIX) as planted:
        planted.bind(hidden_path(notice, inbox).name)  # a socket's path is short
    arrive(notice, blocks, inbox)
    assert (inbox / "m.sealed").read_bytes() == package.read_bytes()


def test_a_planted_folder_is_an_error(parts, inbox):
    notice, _ = parts
    hidden_path(notice, inbox).mkdir()
    with pytest.raises(CountersealError, match="cannot write"):
        Incoming(notice, inbox / "m.sealed", sender=LAB)


def test_the_output_is_never_replaced(parts, inbox, tmp_path):
    notice, _ = parts
    for make in (
        lambda path: path.write_text("mine"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(tmp_path / "nowhere"),
    ):
        make(inbox / "m.sealed")
        with pytest.raises(CountersealError, match="in the meantime"):
            Incoming(notice, inbox / "m.sealed", sender=LAB)
        assert listed(inbox) == ["m.sealed"]
        path = inbox / "m.sealed"
        path.rmdir() if path.is_dir() else path.unlink()


# ── two at once, and crashes ────────────────────────────────────────────────────────────────


def test_two_at_once(parts, inbox):
    notice, _ = parts
    with (
        Incoming(notice, inbox / "m.sealed", sender=LAB),
        pytest.raises(CountersealError, match="another command"),
    ):
        Incoming(notice, inbox / "m.sealed", sender=LAB)


NOT_THERE = Cut("counterseal.exchange.hidden:open_alone", "_is_there(descriptor, path)", "True")


@pytest.mark.parametrize("defended", [True, False])
def test_who_gets_the_lock_late_does_not_write_into_the_finished_package(
    package, parts, inbox, monkeypatch, defended
):
    """Opened before the other one published, locked after: the same file, under its new name."""
    notice, blocks = parts
    if not defended:
        NOT_THERE.apply(monkeypatch)
    real = hiding.fcntl.flock
    first = Incoming(notice, inbox / "m.sealed", sender=LAB)
    for name, data in blocks.items():
        first.put(name, data)

    def late(descriptor, how):
        monkeypatch.setattr(hiding.fcntl, "flock", real)
        first.finish(nothing)
        (inbox / "m.sealed").rename(inbox / "mine.sealed")  # the user has it already
        first.close()
        real(descriptor, how)

    monkeypatch.setattr(hiding.fcntl, "flock", late)
    with Incoming(notice, inbox / "m.sealed", sender=LAB):
        pass
    intact = (inbox / "mine.sealed").read_bytes() == package.read_bytes()
    assert intact is defended


def test_a_file_system_without_locks(package, parts, inbox, monkeypatch):
    notice, blocks = parts

    def without(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(hiding.fcntl, "flock", without)
    arrive(notice, blocks, inbox)
    assert (inbox / "m.sealed").read_bytes() == package.read_bytes()


def test_a_file_that_somebody_takes_away_all_the_time(parts, inbox, monkeypatch):
    notice, _ = parts
    before = open_descriptors()
    monkeypatch.setattr(hiding, "_is_there", lambda *_: False)
    with pytest.raises(CountersealError, match="changes all the time"):
        Incoming(notice, inbox / "m.sealed", sender=LAB)
    assert open_descriptors() == before


def test_a_crash_between_the_new_name_and_the_end_of_the_old(package, parts, inbox, monkeypatch):
    """The user moved it away; a replay of the letter must not touch it through its hidden name."""
    notice, blocks = parts
    monkeypatch.setattr(Incoming, "discard", lambda self: None)
    arrive(notice, blocks, inbox)
    monkeypatch.undo()
    (inbox / "m.sealed").rename(inbox / "mine.sealed")
    assert len(listed(inbox)) == 2
    with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
        assert incoming.kept == 0
    assert listed(inbox) == ["mine.sealed"]
    assert (inbox / "mine.sealed").read_bytes() == package.read_bytes()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_process_that_just_ends(package, parts, inbox, count):
    """What the kernel does after `kill -9`; real processes are in tests/unit/jobs."""
    notice, blocks = parts
    incoming = Incoming(notice, inbox / "m.sealed", sender=LAB)
    for name in incoming.missing()[:count]:
        incoming.put(name, blocks[name])
    os.close(incoming._descriptor)
    with Incoming(notice, inbox / "m.sealed", sender=LAB) as incoming:
        assert len(incoming.missing()) == len(blocks) - count
    arrive(notice, blocks, inbox)
    assert (inbox / "m.sealed").read_bytes() == package.read_bytes()


# ── no room ─────────────────────────────────────────────────────────────────────────────────


class Room(NamedTuple):
    """What `fstatvfs` says."""

    f_bavail: int
    f_frsize: int
    f_blocks: int


def test_no_room_is_said_before_the_first_block(parts, inbox, monkeypatch):
    notice, _ = parts
    monkeypatch.setattr(incomings.os, "fstatvfs", lambda _: Room(2, MIB, 100))
    with pytest.raises(CountersealError, match="no room") as caught:
        Incoming(notice, inbox / "m.sealed", sender=LAB)
    assert "what arrived is kept" in caught.value.hint
    assert listed(inbox) == []


def test_what_has_arrived_needs_no_room_again(parts, inbox, monkeypatch):
    notice, blocks = parts
    arrive(notice, blocks, inbox, names=list(blocks)[1:])
    monkeypatch.setattr(incomings.os, "fstatvfs", lambda _: Room(1, MIB, 100))
    assert arrive(notice, blocks, inbox) > 3 * MIB
    assert listed(inbox) == ["m.sealed"]


def test_a_file_system_that_does_not_tell(parts, inbox, monkeypatch):
    notice, blocks = parts
    monkeypatch.setattr(incomings.os, "fstatvfs", lambda _: Room(0, 0, 0))
    arrive(notice, blocks, inbox)


def test_a_promise_alone_takes_no_room(parts, inbox):
    """Somebody announces a terabyte and sends nothing."""
    notice, blocks = parts
    with Incoming(notice, inbox / "m.sealed", sender=LAB):
        (hidden,) = inbox.iterdir()
        assert hidden.stat().st_blocks == 0
    assert listed(inbox) == []
    arrive(notice, blocks, inbox, names=notice.names()[1:2])
    with Incoming(notice, inbox / "m.sealed", sender=LAB):
        pass
    assert len(listed(inbox)) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_a_disk_that_fills_up(package, inbox, monkeypatch, number, after):
    """At any write, also after half of one; then somebody makes room."""
    notice, blocks = blocks_of(package)
    real, writes = os.pwrite, [0]

    def full(descriptor, data, offset):
        writes[0] += 1
        if writes[0] > after:
            real(descriptor, data[: len(data) // 2], offset)
            raise OSError(number, os.strerror(number))
        return real(descriptor, data, offset)

    monkeypatch.setattr(payload.os, "pwrite", full)
    with pytest.raises(CountersealError, match="no room"):
        arrive(notice, blocks, inbox)
    assert not any(not name.startswith(".") for name in listed(inbox))
    monkeypatch.undo()
    assert arrive(notice, blocks, inbox) >= (after - 1) * MIB
    assert (inbox / "m.sealed").read_bytes() == package.read_bytes()


# ── what nobody came back for ───────────────────────────────────────────────────────────────


def test_sweep(parts, inbox):
    notice, blocks = parts
    arrive(notice, blocks, inbox, names=notice.names()[:2])
    (hidden,) = inbox.iterdir()
    others = [inbox / ".notes.incoming", inbox / f".{'a' * 31}.incoming", inbox / "m.sealed"]
    for path in others:
        path.write_text("not ours")
    folder = inbox / f".{'b' * 32}.incoming"
    folder.mkdir()
    made = AT.timestamp()
    for path in [hidden, *others, folder]:
        os.utime(path, (made, made))
    sweep(inbox, at=AT + timedelta(days=31))
    assert hidden.exists()
    with Incoming(msgspec.structs.replace(notice), inbox / "n", sender=LAB):
        os.utime(hidden, (made, made))
        sweep(inbox, at=AT + timedelta(days=32))
        assert hidden.exists()  # somebody works on it
    sweep(inbox, at=AT + timedelta(days=32))
    assert not hidden.exists()
    assert all(path.exists() for path in [*others, folder])


def test_sweep_takes_the_other_name_of_what_was_published(package, parts, inbox, monkeypatch):
    notice, blocks = parts
    monkeypatch.setattr(Incoming, "discard", lambda self: None)
    arrive(notice, blocks, inbox)
    sweep(inbox, at=AT)
    assert listed(inbox) == ["m.sealed"]
    assert (inbox / "m.sealed").read_bytes() == package.read_bytes()


def test_outgoing_and_incoming_agree_on_names(package, inbox):
    with outgoing(package) as out, Incoming(out.notice, inbox / "m", sender=LAB) as incoming:
        assert sorted(set(out.names)) == sorted(incoming.missing())
        assert all(out.size(name) == incoming.size(name) for name in out.names)
