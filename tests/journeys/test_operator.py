"""Who runs the mailbox or the broker, or owns the stick, means no good.

Letters are put back, changed, removed, brought in another order and more than once; so are
blocks and directories. What is refused leaves everything as it was, and a second, honest attempt
succeeds; nothing half-done is ever visible. See `tests/support/organizations.py`.
"""

import shutil
from datetime import timedelta

import pytest
from interceptor import Interceptor
from organizations import MAILBOX, RelayBroker, together

DAY = timedelta(days=1)
OPENED = ("letter", "seen", "opened")


# ── letters and blocks ─────────────────────────────────────────────────────────────────────────────


def flip(path, at=1000):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


class Stick:
    """The folder, and what its owner finds in the box of the lab's letters to the clinic."""

    def __init__(self, town):
        self.via = str(town.store)
        self.box = town.store / "boxes" / town.box()
        self.town = town

    def letters(self):
        return sorted((self.box / "letters").iterdir())

    def blocks(self):
        return sorted((self.box / "blocks").iterdir(), key=lambda path: path.stat().st_size)


@pytest.fixture
def stick(town):
    return Stick(town)


def test_an_old_letter_put_back(town, stick):
    """With all its blocks, after it was processed: by the mailbox's operator, and on a stick."""
    town.serve()
    for via in (MAILBOX, stick.via):
        town.send(via=via).finish()
        place = town.root if via == MAILBOX else town.store
        shutil.copytree(place / "blocks" if via == MAILBOX else stick.box, town.folder / "kept")
        with town.index() as rows:
            letters = rows.execute("SELECT * FROM letters").fetchall()
            names = rows.execute("SELECT * FROM names").fetchall()
        town.receive(via=via).finish()
        town.whole()
        (town.inbox / town.small.name).unlink()  # the clinic keeps it elsewhere
        before = town.clinic.remembers()
        if via == MAILBOX:
            shutil.copytree(town.folder / "kept", place / "blocks", dirs_exist_ok=True)
            with town.index() as rows:
                rows.executemany("INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?, ?)", letters)
                rows.executemany("INSERT INTO names VALUES (?, ?)", names)
        else:
            shutil.copytree(town.folder / "kept", stick.box, dirs_exist_ok=True)
        assert "nothing new" in town.receive(via=via).finish().err
        assert list(town.inbox.iterdir()) == []
        assert town.clinic.remembers() == before
        shutil.rmtree(town.folder / "kept")
        town.confirmed(via=via)


def test_letters_in_another_order_and_more_than_once(town, stick):
    for package in (town.small, town.tiny, town.big):
        town.send(package, via=stick.via).finish()
    for number, path in enumerate(reversed(stick.letters())):
        for copy in range(3):
            time, digest = path.name.split("-")
            other = f"{int(time) - 10**6 + number * 7 + copy:020d}-{copy}{digest[1:]}"
            shutil.copy(path, path.with_name(other))
        path.unlink()
    said = town.receive(via=stick.via).finish()
    assert said.out.count("\n") == 3
    town.whole(town.small, town.tiny, town.big)
    assert "nothing new" in town.receive(via=stick.via).finish().err


def test_the_operator_changes_blocks_and_letters_of_a_mailbox(town):
    town.serve()
    town.send().finish()
    blocks = [path for path in (town.root / "blocks").rglob("*") if path.is_file()]
    block = max(blocks, key=lambda path: path.stat().st_size)
    flip(block)
    before = town.clinic.remembers(*OPENED)
    assert "changed on the way" in town.receive().finish(7).err
    town.nothing_visible()
    assert town.clinic.remembers(*OPENED) == before
    town.send().finish()  # as the hint says: the mailbox notices and wants that block again
    assert "of it earlier" in town.receive().finish().err
    town.whole()
    (town.inbox / town.small.name).unlink()

    town.send().finish()
    with town.index() as rows:
        ours = (town.box(),)
        ((letter,),) = rows.execute("SELECT data FROM letters WHERE box = ?", ours).fetchall()
        rows.execute("UPDATE letters SET data = ? WHERE box = ?", (letter[:-1] + b"?", *ours))
    before = town.clinic.remembers(*OPENED)
    assert "was changed" in town.receive().finish(4).err
    assert list(town.inbox.iterdir()) == []
    assert town.clinic.remembers(*OPENED) == before
    town.send().finish()
    town.receive().finish()
    town.whole()


def test_the_owner_of_a_stick_changes_and_removes_what_lies_there(town, stick):
    town.send(via=stick.via).finish()
    flip(stick.blocks()[-1])
    stick.blocks()[0].unlink()
    for _ in range(2):
        town.receive(via=stick.via).finish(7)
        town.nothing_visible()
    flip(stick.letters()[0], at=-1)
    assert "was changed" in town.receive(via=stick.via).finish(4).err
    town.nothing_visible()
    unheard = town.lab.run(
        "send", town.small, "--to", "clinic", "--via", stick.via, "--wait", 1, code=7
    )
    assert "no receipt" in unheard.err
    shutil.rmtree(town.store / "boxes")
    assert "nothing new" in town.receive(via=stick.via).finish().err
    town.send(via=stick.via).finish()
    assert "of it earlier" in town.receive(via=stick.via).finish().err
    town.whole()
    town.confirmed(via=stick.via)


def test_a_broker_that_drops_repeats_reorders_and_changes(town):
    """It ends TLS with its own, good key: what crosses it must look after itself. Blocks and what
    is said about them suffer all of it; letters come twice."""
    with RelayBroker(town, port=8884) as broker:
        script = BAD_BROKER.format(*map(str, (broker.certificate, broker.key, broker.ca)))
        bad = town.relay.start(script=script).until("port ")
        port = int(bad.out.split()[1])
        network, to = town.network, ("127.0.0.1", port)
        with Interceptor(network, to=to, port=8883, place="relay"):
            town.listen(broker.via)
            receiver = town.receive("--wait", 60, via=broker.via)
            town.send(town.big, via=broker.via).finish()
            receiver.finish()
    town.whole(town.big)


BAD_BROKER = """
import random, sys, threading, types
from middle import Middle, unreliable
broker = types.SimpleNamespace(
    certificate={!r}, key={!r}, ca={!r}, port=8884, version="5"
)
meddled = unreliable(random.Random(3), drop=0.05, twice=0.1, swap=0.2, change=0.05)

def meddle(message):
    if message.topic.endswith(("/blocks", "/wants")):
        return meddled(message)
    return [message, message]  # a letter

with Middle(broker, meddle) as middle:
    print("port", middle.port, flush=True)
    threading.Event().wait()
"""


def test_a_shipment_of_the_rivals_in_the_box_of_the_lab(town, stick):
    """A stick has no doorman: whoever has it can put a letter, well signed, where another's lie."""
    town.send(via=stick.via).finish()
    town.rival.run("seal", "tiny.bin", "--to", "clinic", "-o", "forged.sealed", "--no-oms")
    town.rival.run("send", "forged.sealed", "--to", "clinic", "--via", stick.via)
    theirs = town.store / "boxes" / town.box("rival")
    shutil.copytree(theirs, stick.box, dirs_exist_ok=True)
    said = town.receive(via=stick.via).finish(4)
    assert "does not claim to be from" in said.err
    town.whole()
    town.confirmed(via=stick.via)


# ── directories and prekeys ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def met(town, stick):
    """lab and clinic have each other's directory, over a stick whose owner is the rival."""
    for _ in range(2):
        town.listen(stick.via)
    stick.board = town.store / "boxes" / town.box("clinic", "lab") / "board"
    return stick


def look(organization, partner, stick):
    """It begins to: so each puts up its directory for the other, and takes over theirs."""
    command = ["receive", "--from", partner, "--via", stick.via, "-o", stick.town.folder]
    return organization.start(*command)


def seal(town, name, *, code=0, **options):
    """The lab seals something for the clinic; what it says about it."""
    command = ["seal", "tiny.bin", "--to", "clinic", "--no-oms", "-o", name]
    return town.lab.run(*command, code=code, **options).err


def opens(town, name):
    town.clinic.run("open", name, "--from", "lab", "-o", f"{name}.opened", "--keep")
    opened = (town.folder / f"{name}.opened").read_bytes()
    assert opened == (town.folder / "tiny.bin").read_bytes()


def test_the_directory_is_swapped(town, met):
    """For the one that was made for somebody else, for the rival's own, and for a changed one."""
    honest = met.board.read_bytes()
    together(look(town.rival, "lab", met), look(town.clinic, "rival", met))
    boxes = town.store / "boxes"
    swaps = [
        (boxes / town.box("clinic", "rival") / "board").read_bytes(),
        (boxes / town.box("rival", "lab") / "board").read_bytes(),
        honest[:-1] + bytes([honest[-1] ^ 1]),
    ]
    before = town.lab.remembers("partner", "directory")
    for swap in swaps:
        met.board.write_bytes(swap)
        said = town.send(town.tiny, via=met.via).finish().err
        assert "directory of clinic: " in said
        assert town.lab.remembers("partner", "directory") == before
    assert "no forward secrecy" not in seal(town, "after.sealed")
    opens(town, "after.sealed")
    met.board.write_bytes(honest)
    assert "directory" not in town.send(via=met.via).finish().err


def test_prekeys_are_used_up(town, met):
    """By us; what the rival spends are its own."""
    look(town.clinic, "rival", met).finish()
    look(town.rival, "clinic", met).finish()
    spend_all(town.rival, "clinic")
    assert "forward secrecy" not in seal(town, "first.sealed")
    spend_all(town.lab, "clinic")
    assert "their one-time prekeys are used up" in seal(town, "last.sealed")
    for name in ("first.sealed", "last.sealed"):
        opens(town, name)


def spend_all(organization, partner):
    """Seal until there is no one-time prekey left, in one process."""
    organization.run(partner, script=SPEND)


SPEND = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from counterseal.exchange.sent import SentBook
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import PartnerBook
from counterseal.trust.prekeys import prekey_id

home = Home(Path(os.environ["COUNTERSEAL_HOME"]))
us = Identity.load(home.only_identity(), home=home, passphrase=b"passphrase")
partner = PartnerBook(home.store).get(sys.argv[1])
book = SentBook(us)
assert partner.prekeys.keys
while (index := book.prekey_for(partner, at=datetime.now(UTC))) is not None:
    book.spend([prekey_id(partner.prekeys.keys[index])])
"""


def test_an_old_directory_is_put_back_and_news_are_held_back(skewed, met):
    town, soon = skewed, DAY / 2 + timedelta(hours=1)  # directories are renewed after half a day
    for news, said in (
        (None, "older than one seen before"),
        ("rotate", "older than the one already pinned"),
    ):
        old = met.board.read_bytes()
        if news:
            town.clinic.run("id", news, skew=soon)
        town.receive(via=met.via, skew=soon).finish()
        assert met.board.read_bytes() != old
        town.send(town.tiny, via=met.via, skew=soon).finish()
        after = town.lab.remembers("partner", "directory")
        met.board.write_bytes(old)
        assert said in town.send(town.tiny, via=met.via, skew=soon).finish().err
        assert town.lab.remembers("partner", "directory") == after

    later = 8 * DAY  # and the rival shows the old one all the time
    silence = 'there is no news of "clinic"'
    assert silence in town.send(via=met.via, skew=later).finish(3).err
    assert silence in seal(town, "late.sealed", code=3, skew=later)
    assert not (town.folder / "late.sealed").exists()
    assert town.lab.remembers("partner", "directory") == after
    assert silence not in town.lab.run(
        "seal", "tiny.bin", "--to", "clinic", "--no-oms", "-o", "in-spite.sealed",
        "--stale-directory", skew=later,
    ).err  # fmt: skip

    town.receive(via=met.via, skew=later).finish()
    town.send(town.tiny, via=met.via, skew=later).finish()
    seal(town, "late.sealed", skew=later)
