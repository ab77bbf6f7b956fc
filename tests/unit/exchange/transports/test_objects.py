"""Letters and blocks in any store of named bytes; what happens when two work on one box."""

import contextlib
import hashlib
import threading

import pytest
from post import Spy
from workshop import Cut

from counterseal.crypto.digest import leaf_digest
from counterseal.errors import BadCiphertext, Dropped, FormatError
from counterseal.exchange.transports import NoBlocks
from counterseal.exchange.transports import objects as stores
from counterseal.exchange.transports.memory import MemoryObjects, MemoryTransport
from counterseal.exchange.transports.objects import DAY, ObjectTransport

BOX, OTHER = "a" * 32, "b" * 32
A, B, C, D = (bytes([number]) * 1000 for number in range(4))


class Source:
    def __init__(self, *blocks):
        self.blocks = {leaf_digest(data).hex(): data for data in blocks}
        self.names = [leaf_digest(data).hex() for data in blocks]
        self.read_names = []

    def size(self, name):
        return len(self.blocks[name])

    def read(self, name):
        self.read_names.append(name)
        return self.blocks[name]

    def fill(self, name, view):
        view[:] = self.read(name)


class Sink:
    def __init__(self, *blocks):
        self.wanted = {leaf_digest(data).hex(): len(data) for data in blocks}
        self.got = {}
        self.lock = threading.Lock()

    def missing(self):
        return [name for name in self.wanted if name not in self.got]

    def size(self, name):
        return self.wanted[name]

    def put(self, name, data):
        if leaf_digest(data).hex() != name or len(data) != self.wanted[name]:
            raise BadCiphertext("not that block")
        with self.lock:
            self.got[name] = data


class Clock:
    def __init__(self):
        self.time = 1_800_000_000.0
        self.slept = []

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def memory():
    return MemoryObjects()


@pytest.fixture
def store(memory, clock):
    return ObjectTransport(memory, now=clock.now, sleep=clock.sleep)


def waiting(store, *boxes, wait=0.0):
    return list(store.waiting(boxes or [BOX], wait=wait))


def shelves(memory, box=BOX):
    """What lies in a box, by shelf."""
    found = {}
    for name in memory.stored:
        _, where, shelf, *_ = name.split("/")
        if where == box:
            found[shelf] = found.get(shelf, 0) + 1
    return found


def test_there_and_back(store, memory):
    store.deliver(BOX, b"letter", Source(A, B, A))
    (letter,) = waiting(store)
    assert (letter.box, letter.data) == (BOX, b"letter")
    sink, seen = Sink(A, B), []
    store.fetch(letter, sink, progress=lambda done, total: seen.append((done, total)))
    assert sorted(sink.got.values()) == [A, B]
    assert seen == [(1000, 2000), (2000, 2000)]
    store.done(letter)
    assert waiting(store) == []
    assert memory.stored == {}


def test_the_layout_is_the_one_of_the_specification(store, memory, clock):
    """SPEC 12.2."""
    store.deliver(BOX, b"letter", Source(A, B))
    names = [leaf_digest(data) for data in (A, B)]
    text = b"counterseal/1 stored letter\0\0\0\0\x06letter"
    digest = hashlib.sha256(text).hexdigest()[:32]
    assert memory.stored == {
        f"boxes/{BOX}/letters/00000001800000000000-{digest}": b"\0\0\0\2"
        + names[0]
        + names[1]
        + b"letter",
        f"boxes/{BOX}/blocks/{names[0].hex()}": A,
        f"boxes/{BOX}/blocks/{names[1].hex()}": B,
    }


def test_a_letter_alone(store, memory):
    store.deliver(BOX, b"letter", NoBlocks())
    assert shelves(memory) == {"letters": 1}
    (letter,) = waiting(store)
    store.fetch(letter, Sink())
    store.done(letter)
    assert memory.stored == {}
    store.done(letter)  # also if it is gone


def test_oldest_first_and_only_from_the_boxes_that_were_asked_for(store, clock):
    for number, box in enumerate([BOX, OTHER, BOX, BOX]):
        store.deliver(box, b"%d" % number, NoBlocks())
        clock.time += 1
    assert [letter.data for letter in waiting(store)] == [b"0", b"2", b"3"]
    assert [letter.data for letter in waiting(store, OTHER, BOX)] == [b"1", b"0", b"2", b"3"]
    assert waiting(store, "c" * 32) == []


def test_the_letter_comes_after_its_blocks(memory):
    kinds = []

    def before(kind, name):
        if kind == "put":
            kinds.append(name.split("/")[2])

    Spy(memory, before).transport().deliver(BOX, b"letter", Source(A, B))
    assert kinds == ["coming", "blocks", "blocks", "letters"]


def test_the_same_letter_again_is_one_letter(store, memory, clock):
    store.deliver(BOX, b"letter", Source(A))
    clock.time += 5
    source = Source(A)
    store.deliver(BOX, b"letter", source)
    assert shelves(memory) == {"letters": 1, "blocks": 1}
    assert source.read_names == []


def test_only_what_is_missing_there_is_sent(store, memory):
    store.deliver(BOX, b"one", Source(A, B))
    source, seen = Source(A, C), []
    store.deliver(BOX, b"two", source, progress=lambda done, total: seen.append((done, total)))
    assert source.read_names == [leaf_digest(C).hex()]
    assert seen == [(2000, 2000)]


def test_only_what_the_receiver_lacks_is_fetched(memory):
    spy = Spy(memory)
    store = spy.transport()
    store.deliver(BOX, b"letter", Source(A, B, C))
    (letter,) = waiting(store)
    sink = Sink(A, B, C)
    sink.put(leaf_digest(B).hex(), B)
    spy.log.clear()
    store.fetch(letter, sink)
    assert spy.moved("get") == 2000


def test_blocks_of_one_box_are_not_those_of_another(store, memory):
    store.deliver(BOX, b"one", Source(A))
    store.deliver(OTHER, b"two", Source(A))
    (letter,) = waiting(store)
    store.done(letter)
    assert shelves(memory) == {}
    assert shelves(memory, OTHER) == {"letters": 1, "blocks": 1}


class TestWaiting:
    def test_it_waits_as_long_as_it_is_told(self, store, clock):
        begun = clock.time
        assert waiting(store, wait=10.0) == []
        assert clock.time - begun == pytest.approx(10.0)
        assert min(clock.slept) > 0
        assert len(clock.slept) <= 21

    def test_it_never_asks_without_a_pause(self, memory, clock):
        spy = Spy(memory)
        store = spy.transport(now=clock.now, sleep=clock.sleep)
        asked = []
        spy.before = lambda kind, name: asked.append(clock.time)
        assert waiting(store, wait=3.0) == []
        assert len(asked) == len(set(asked))

    def test_what_comes_in_the_meantime_is_seen(self, store, clock, memory):
        sleep = store._sleep

        def later(seconds):
            sleep(seconds)
            if len(clock.slept) == 3:
                store.deliver(BOX, b"letter", NoBlocks())

        store._sleep = later
        assert [letter.data for letter in waiting(store, wait=10.0)] == [b"letter"]
        assert len(clock.slept) == 3

    def test_what_is_there_is_not_waited_for(self, store, clock):
        store.deliver(BOX, b"letter", NoBlocks())
        assert len(waiting(store, wait=10.0)) == 1
        assert clock.slept == []

    def test_a_letter_that_goes_while_we_look(self, store, memory):
        store.deliver(BOX, b"one", NoBlocks())
        store.deliver(BOX, b"two", NoBlocks())
        letters = store.waiting([BOX], wait=0.0)
        first = next(letters)
        memory.stored = {name: data for name, data in memory.stored.items() if first.id in name}
        assert list(letters) == []


class TestRubbish:
    """Anyone may write here."""

    def put(self, memory, data, name=f"{1:020d}-{'0' * 32}"):
        memory.stored[f"boxes/{BOX}/letters/{name}"] = data

    @pytest.mark.parametrize(
        "data",
        [b"", b"\0\0\0", b"\0\0\0\1" + bytes(31), b"\xff\xff\xff\xff", b"\0\0\x80\x01" + bytes(32 * 0x8001)],
        ids=["empty", "cut", "a name cut", "4 billion blocks", "one block too many"],
    )  # fmt: skip
    def test_what_is_no_letter_is_passed_over(self, store, memory, data):
        self.put(memory, data)
        store.deliver(BOX, b"letter", NoBlocks())
        (letter,) = waiting(store)
        assert letter.data == b"letter"
        store.done(letter)

    def test_it_is_taken_away_in_time(self, store, memory, clock):
        self.put(memory, b"", f"{int(clock.time * 1000):020d}-{'0' * 32}")
        store.deliver(BOX, b"letter", NoBlocks())
        clock.time += 368 * DAY
        store.deliver(BOX, b"new letter", NoBlocks())
        assert [letter.data for letter in waiting(store)] == [b"new letter"]
        assert shelves(memory) == {"letters": 1}

    def test_an_object_that_is_too_long(self, store, memory, monkeypatch):
        monkeypatch.setattr(stores, "MAX_OBJECT", 100)
        self.put(memory, bytes(101))
        assert waiting(store) == []

    def test_the_most_blocks(self, store, memory):
        self.put(memory, b"\0\0\x80\x00" + bytes(32 * 0x8000) + b"letter")
        (letter,) = waiting(store)
        assert letter.data == b"letter"

    @pytest.mark.parametrize(
        "name", ["letter", ".hidden", "1-0", f"{1:020d}-{'G' * 32}", f"{1:020d}-{'0' * 32}.part"]
    )
    def test_other_names_are_not_letters(self, store, memory, name):
        self.put(memory, bytes(4) + b"letter", name)
        assert waiting(store) == []

    def test_a_list_that_names_blocks_of_others_takes_none_away(self, store, memory):
        """A forged letter is thrown away; the blocks that it claims are somebody's."""
        store.deliver(BOX, b"letter", Source(A, B))
        listed = leaf_digest(A) + leaf_digest(B)
        self.put(memory, (2).to_bytes(4, "big") + listed + b"forged")
        forged, letter = waiting(store)
        store.done(forged)
        assert shelves(memory)["blocks"] == 2
        store.fetch(letter, Sink(A, B))

    def test_a_letter_that_was_cut_in_the_meantime_can_be_done(self, store, memory):
        store.deliver(BOX, b"letter", Source(A))
        (letter,) = waiting(store)
        self.put(memory, b"\0", letter.id)
        store.done(letter)
        assert shelves(memory) == {"blocks": 1}


class TestFetch:
    @pytest.fixture
    def letter(self, store):
        store.deliver(BOX, b"letter", Source(A, B))
        return waiting(store)[0]

    def block(self, data):
        return f"boxes/{BOX}/blocks/{leaf_digest(data).hex()}"

    def test_a_block_that_is_gone(self, store, memory, letter):
        del memory.stored[self.block(B)]
        sink = Sink(A, B)
        with pytest.raises(Dropped, match="gone") as caught:
            store.fetch(letter, sink)
        assert "send it again" in caught.value.hint
        assert len(sink.got) == 1

    @pytest.mark.parametrize(
        "data", [A, B[:-1], B + b"\0", b""], ids=["other", "cut", "long", "no"]
    )
    def test_a_block_that_was_changed_is_replaced_by_the_senders_next_attempt(
        self, store, memory, letter, data
    ):
        memory.stored[self.block(B)] = data
        with pytest.raises((BadCiphertext, FormatError)):
            store.fetch(letter, Sink(A, B))
        source = Source(A, B)
        store.deliver(BOX, b"letter", source)
        assert source.read_names == [leaf_digest(B).hex()]
        sink = Sink(A, B)
        store.fetch(letter, sink)
        assert sorted(sink.got.values()) == [A, B]

    def test_no_more_than_announced_is_read(self, memory, letter):
        limits = []

        class Measuring(MemoryObjects):
            def get(self, name, *, limit):
                limits.append(limit)
                return memory.get(name, limit=limit)

        ObjectTransport(Measuring()).fetch(letter, Sink(A, B))
        assert limits == [1000, 1000]

    def test_in_parallel(self, memory, letter):
        memory.parallel = 8
        blocks = [bytes([n]) * 100 for n in range(50)]
        store = ObjectTransport(memory)
        seen = []
        store.deliver(OTHER, b"l", Source(*blocks), progress=lambda *both: seen.append(both))
        assert seen[-1] == (5000, 5000)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        (letter,) = waiting(store, OTHER)
        sink = Sink(*blocks)
        store.fetch(letter, sink)
        assert len(sink.got) == 50
        del memory.stored[f"boxes/{OTHER}/blocks/{leaf_digest(blocks[7]).hex()}"]
        with pytest.raises(Dropped):
            store.fetch(letter, Sink(*blocks))


# ── two letters that share blocks ───────────────────────────────────────────────────────────


def test_what_another_letter_needs_stays(store, memory, clock):
    store.deliver(BOX, b"one", Source(A, B))
    clock.time += 1
    store.deliver(BOX, b"two", Source(B, C))
    one, two = waiting(store)
    store.done(one)
    assert shelves(memory) == {"letters": 1, "blocks": 2}
    store.fetch(two, Sink(B, C))
    store.done(two)
    assert memory.stored == {}


class Stepper:
    """Runs something in a thread of its own up to its nth operation, then to its end."""

    def __init__(self, memory, work, stop_before):
        self.count, self.stop = 0, stop_before
        self.reached, self.go = threading.Event(), threading.Event()
        self.store = Spy(memory, self.before).transport(sleep=lambda _: None)
        self.thread = threading.Thread(target=self.run, args=(work,))
        self.failure = None

    def before(self, kind, name):
        if self.count == self.stop:
            self.reached.set()
            assert self.go.wait(60)
        self.count += 1

    def run(self, work):
        try:
            work(self.store)
        except BaseException as error:  # noqa: BLE001 - for the main thread
            self.failure = error
        finally:
            self.reached.set()

    def start(self):
        self.thread.start()
        assert self.reached.wait(60)

    def finish(self):
        self.go.set()
        self.thread.join()
        if self.failure:
            raise self.failure


def interleave(stop_done, stop_deliver):
    """The receiver is done with one letter while the sender delivers another with the same
    blocks. The receiver stops before its nth operation, the sender before its mth; then the
    sender goes on, and the receiver when the sender waits for it or is through.
    Returns whether everything that the second letter lists is there.
    """
    memory = MemoryObjects()
    ObjectTransport(memory).deliver(BOX, b"one", Source(A, B))
    (one,) = waiting(ObjectTransport(memory))
    source = Source(A, B, C)
    sender = Stepper(memory, lambda store: store.deliver(BOX, b"two", source), stop_deliver)
    receiver = Stepper(memory, lambda store: store.done(one), stop_done)
    sender.store._sleep = lambda _: receiver.finish()
    sender.start()
    receiver.start()
    sender.finish()
    receiver.finish()
    there = [f"boxes/{BOX}/blocks/{name}" in memory.stored for name in source.names]
    assert shelves(memory) == {"letters": 1, "blocks": sum(there)}
    return all(there)


STEPS = range(20)
NO_PATIENCE = Cut("counterseal.exchange.transports.objects:ObjectTransport.deliver", "self._wait_for_leaving(box)")  # fmt: skip
NO_NOTICE = Cut("counterseal.exchange.transports.objects:ObjectTransport._free", "self._objects.put(leaving, _list(sorted(blocks)))")  # fmt: skip


def test_no_interleaving_loses_a_block():
    assert all(interleave(n, m) for n in STEPS for m in STEPS)


@pytest.mark.parametrize("cut", [NO_PATIENCE, NO_NOTICE], ids=["patience", "notice"])
def test_without_the_defence_some_do(cut, monkeypatch):
    cut.apply(monkeypatch)
    assert not all(interleave(n, m) for n in STEPS for m in STEPS)


NO_SECOND_LOOK = Cut("counterseal.exchange.transports.objects:ObjectTransport.deliver", "self._free(box, set(names), instead_of=coming)")  # fmt: skip


def quick_receiver(before):
    """It looks before the sender's nth operation, and at the end. Returns what stays."""
    memory = MemoryObjects()
    receiver = ObjectTransport(memory, sleep=lambda _: None)
    taken = []

    def receive(kind, name):
        if len(taken) == before:
            for letter in waiting(receiver):
                receiver.fetch(letter, Sink(A, B))
                receiver.done(letter)
        taken.append(kind)

    Spy(memory, receive).transport(sleep=lambda _: None).deliver(BOX, b"one", Source(A, B))
    for letter in waiting(receiver):
        receiver.fetch(letter, Sink(A, B))
        receiver.done(letter)
    return memory.stored


def test_a_receiver_that_is_quick_leaves_nothing_behind():
    """It has the letter before `deliver` ends; blocks kept for nobody would stay for ever."""
    assert not any(quick_receiver(before) for before in STEPS)


def test_without_the_second_look_it_does(monkeypatch):
    NO_SECOND_LOOK.apply(monkeypatch)
    assert any(quick_receiver(before) for before in STEPS)


@pytest.mark.parametrize("before", STEPS)
def test_a_receiver_that_dies_leaves_nothing_for_ever(store, memory, clock, before):
    """Before its nth operation of taking a letter away; an hour later somebody tidies up."""
    store.deliver(BOX, b"one", Source(A, B))
    (one,) = waiting(store)
    count = []

    def die(kind, name):
        count.append(kind)
        if len(count) > before:
            raise SystemExit

    with contextlib.suppress(SystemExit):
        Spy(memory, die).transport(now=clock.now).done(one)
    clock.time += 3700
    store.deliver(BOX, b"two", NoBlocks())
    for letter in waiting(store):
        store.done(letter)
    assert memory.stored == {}


def test_a_receiver_that_died_does_not_stop_senders_for_ever(store, memory, clock):
    store.deliver(BOX, b"one", Source(A))
    (one,) = waiting(store)

    def die(kind, name):
        if kind == "delete":
            raise SystemExit  # at the first thing it takes away; the mark stays too

    with pytest.raises(SystemExit):
        Spy(memory, die).transport(now=clock.now).done(one)
    assert shelves(memory)["leaving"] == 1
    begun = clock.time
    store.deliver(BOX, b"two", Source(A, B))
    assert clock.time - begun == stores.PATIENCE
    clock.time += 3601
    begun = clock.time
    store.deliver(BOX, b"three", Source(A, C))
    assert clock.time == begun
    assert "leaving" not in shelves(memory)


# ── what is never fetched ───────────────────────────────────────────────────────────────────


def test_blocks_of_a_letter_that_never_came_are_taken_away_in_time(store, memory, clock):
    """The sender was killed between the blocks and the letter, and never came back."""

    def kill(kind, name):
        if kind == "put" and "/letters/" in name:
            raise SystemExit

    with pytest.raises(SystemExit):
        Spy(memory, kill).transport(now=clock.now).deliver(BOX, b"lost", Source(A, B))
    assert shelves(memory) == {"coming": 1, "blocks": 2}
    store.deliver(BOX, b"letter", Source(B, C))
    clock.time += 30 * DAY
    (letter,) = waiting(store)
    store.done(letter)
    assert shelves(memory) == {"coming": 1, "blocks": 2}  # still announced, so still kept
    clock.time += 2 * DAY
    store.deliver(BOX, b"new", NoBlocks())
    assert shelves(memory) == {"letters": 1}


def test_going_on_after_a_crash_announces_nothing_twice(store, memory, clock):
    def kill(kind, name):
        if kind == "put" and name.endswith(leaf_digest(B).hex()):
            raise Dropped("gone")

    with pytest.raises(Dropped):
        Spy(memory, kill).transport(now=clock.now).deliver(BOX, b"letter", Source(A, B))
    clock.time += 100
    source = Source(A, B)
    store.deliver(BOX, b"letter", source)
    assert source.read_names == [leaf_digest(B).hex()]
    assert shelves(memory) == {"letters": 1, "blocks": 2}


def test_letters_that_ended_are_taken_away_with_their_blocks(store, memory, clock):
    store.deliver(BOX, b"old", Source(A))
    clock.time += 366 * DAY
    store.deliver(BOX, b"new", Source(B))
    assert shelves(memory) == {"letters": 2, "blocks": 2}
    clock.time += 2 * DAY
    store.deliver(BOX, b"newer", NoBlocks())
    assert shelves(memory) == {"letters": 2, "blocks": 1}


# ── the board ───────────────────────────────────────────────────────────────────────────────


def test_the_board():
    store = MemoryTransport()
    assert store.lookup(BOX) is None
    store.publish(BOX, b"one")
    store.publish(OTHER, b"other")
    store.publish(BOX, b"two")
    assert store.lookup(BOX) == b"two"
    assert store.lookup(OTHER) == b"other"
    assert waiting(store) == []
    store.objects.stored[f"boxes/{BOX}/board"] = bytes(stores.limits.LETTER_BYTES + 1)
    with pytest.raises(FormatError):
        store.lookup(BOX)
    store.close()
