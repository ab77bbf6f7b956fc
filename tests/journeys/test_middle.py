"""Whoever carries it means no good: nothing is lost, nothing becomes half visible, nobody is fooled.

The rival sits in the middle and has valid keys of its own. It owns the wire, then the store (a
malicious operator), then it is a client like the others. Each row says what it tries; what is
refused leaves the state as it was, and a second, honest attempt succeeds. Processes, namespaces,
TLS, mailbox and broker are real: see `tests/support/organizations.py`.
"""

import contextlib
import json
import shutil
import sqlite3
from datetime import timedelta

import pytest
from interceptor import Interceptor
from organizations import MAILBOX, MIB, RelayBroker, together

DAY = timedelta(days=1)
TRUSTED = ("partner", "directory", "letter", "spent-prekey")  # what must not move on a refusal
OPENED = ("letter", "seen", "opened")


# ── the wire ────────────────────────────────────────────────────────────────────────────────


def test_a_changed_byte_breaks_a_connection_and_nothing_else(town):
    """The command says so and ends, or was told only that the connection is gone: then it makes
    another. Twice, and the second attempt goes on."""
    town.serve()
    with town.middle() as middle:
        for way, job in (("up", town.send), ("down", town.receive)):
            middle.tell("flip", at=MIB // 2, way=way)
            said = job().finish(0, 7)
            middle.await_("flipped")
            if said.popen.returncode or way == "down":
                assert "the TLS connection failed" in said.err
                town.nothing_visible()
                job().finish()
    town.whole()
    town.confirmed()


def test_recorded_bytes_said_again_do_nothing(town):
    server = town.serve()
    with town.middle() as middle:
        town.send().finish()
        before = mailbox(town)
        for connection in range(middle.ask("count")["connections"]):
            said = middle.ask("replay", connection=connection)
            assert said["said"] > 1000
        assert mailbox(town) == before
        town.receive().finish()
        town.whole()
        before = mailbox(town)
        for connection in range(middle.ask("count")["connections"]):
            middle.ask("replay", connection=connection)
        assert mailbox(town) == before
    server.kill()


@pytest.mark.parametrize(
    ("order", "details", "code", "said"),
    [
        ("strip", {}, 7, "the TLS connection failed"),
        ("impersonate", {"groups": "classical"}, 7, "not post-quantum"),
        ("impersonate", {}, 3, "this connection does not end where it should"),
    ],
    ids=["the post-quantum offer is overwritten", "TLS without it", "TLS is opened"],
)
def test_who_sits_inside_tls_is_found_out(town, order, details, code, said):
    """And learns neither who we are nor to whom we write."""
    town.serve()
    mail = mailbox(town)
    with town.middle() as middle:
        middle.tell(order, **details)
        before = town.lab.remembers(*TRUSTED), town.clinic.remembers(*TRUSTED)
        both = [town.send(), town.receive()]
        for process in both:
            assert said in process.finish(code).err
        heard = bytes.fromhex(middle.ask("plain")["plain"]).decode("latin-1")
        for name in ("lab", "clinic"):
            assert town.identity_of(name) not in heard
        assert ("GET /v1/session" in heard) == (said.startswith("this connection"))
        assert (town.lab.remembers(*TRUSTED), town.clinic.remembers(*TRUSTED)) == before
        assert mailbox(town) == mail
        town.nothing_visible()
        middle.tell("carry")
        town.send().finish()
        town.receive().finish()
    town.whole()


def test_a_client_without_post_quantum_gets_nothing_from_a_mailbox(town):
    town.serve()
    answer = town.rival.run(script=CLASSICAL_CLIENT).out
    assert answer == "refused: Dropped\n"


CLASSICAL_CLIENT = """
from cryptography.hazmat.primitives.asymmetric import ec
from counterseal.errors import CountersealError
from counterseal.exchange.transports.https import tls

real = tls._context.__wrapped__
def context(*, server):
    made = real(server=server)
    made.set_tmp_ecdh(ec.SECP256R1())
    return made
tls._context, tls._check_group = context, lambda _: None
try:
    link = tls.Link.connect("10.77.9.9", 8443, timeout=20)
    link.send(b"GET /v1/session HTTP/1.1\\r\\nhost: relay\\r\\n\\r\\n")
    print("answered:", link.read_into(memoryview(bytearray(100))))
except CountersealError as error:
    print("refused:", type(error).__name__)
"""


def test_a_mailbox_of_the_rivals_at_the_same_address(town):
    """With valid keys, which are even pinned here: but not as the relay's."""
    town.network.take_over()
    trap = town.serve(town.rival, root=town.folder / "trap")
    before = town.lab.remembers(*TRUSTED), town.clinic.remembers(*TRUSTED)
    both = [town.send(), town.receive()]
    for process in both:
        assert "this is another mailbox" in process.finish(3).err
    assert (town.lab.remembers(*TRUSTED), town.clinic.remembers(*TRUSTED)) == before
    assert mailbox(town, town.folder / "trap") == mailbox_is_empty()
    trap.kill()
    town.network.give_back()
    town.serve()
    town.send().finish()
    town.receive().finish()
    town.whole()


# ── the operator of the store ───────────────────────────────────────────────────────────────


def mailbox(town, root=None):
    """Everything that a mailbox keeps for others."""
    root = root or town.root
    with contextlib.closing(index(root)) as rows:
        letters = rows.execute("SELECT id, data FROM letters ORDER BY number").fetchall()
        board = rows.execute("SELECT box, data FROM board ORDER BY box").fetchall()
    files = [path for place in ("blocks", "uploads") for path in (root / place).rglob("*")]
    return letters, board, sorted((path.name, path.stat().st_size) for path in files if path.is_file())


def mailbox_is_empty():
    return [], [], []


def index(root):
    return sqlite3.connect(root / "mailbox.sqlite", timeout=30, isolation_level=None)


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
        with contextlib.closing(index(town.root)) as rows:
            letters = rows.execute("SELECT * FROM letters").fetchall()
            names = rows.execute("SELECT * FROM names").fetchall()
        town.receive(via=via).finish()
        town.whole()
        (town.inbox / town.small.name).unlink()  # the clinic keeps it elsewhere
        before = town.clinic.remembers()
        if via == MAILBOX:
            shutil.copytree(town.folder / "kept", place / "blocks", dirs_exist_ok=True)
            with contextlib.closing(index(town.root)) as rows:
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
    assert "changed on the way" in town.receive().finish().err
    town.nothing_visible()
    assert town.clinic.remembers(*OPENED) == before
    flip(block)
    assert "of it earlier" in town.receive().finish().err
    town.whole()
    (town.inbox / town.small.name).unlink()

    town.send().finish()
    with contextlib.closing(index(town.root)) as rows:
        ours = (town.box(),)
        ((letter,),) = rows.execute("SELECT data FROM letters WHERE box = ?", ours).fetchall()
        rows.execute("UPDATE letters SET data = ? WHERE box = ?", (letter[:-1] + b"?", *ours))
    before = town.clinic.remembers(*TRUSTED)
    assert "was changed" in town.receive().finish().err
    assert list(town.inbox.iterdir()) == []
    assert town.clinic.remembers(*TRUSTED) == before
    town.send().finish()
    town.receive().finish()
    town.whole()


def test_the_owner_of_a_stick_changes_and_removes_what_lies_there(town, stick):
    town.send(via=stick.via).finish()
    flip(stick.blocks()[-1])
    stick.blocks()[0].unlink()
    for _ in range(2):
        town.receive(via=stick.via).finish()
        town.nothing_visible()
    flip(stick.letters()[0], at=-1)
    assert "was changed" in town.receive(via=stick.via).finish().err
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
    certificate={!r}, key={!r}, ca={!r}, port=8884
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


# ── a client like the others ────────────────────────────────────────────────────────────────


def test_a_client_of_the_same_mailbox_reaches_for_what_is_not_its_own(town):
    town.serve()
    town.send().finish()
    before = mailbox(town)
    block = next(name for name, _ in before[2])
    arguments = town.box(), before[0][0][0], block, town.identity_of("clinic")
    tried = town.rival.run(*arguments, script=CLIENT).out.splitlines()
    assert len(tried) == 7
    assert all(line.endswith("refused") for line in tried), tried
    assert mailbox(town) == before
    assert "nothing new" in town.rival.run("receive", "--via", MAILBOX, "-o", town.store).err
    town.receive().finish()
    town.whole()


CLIENT = """
import os, sys
from pathlib import Path
from counterseal.errors import CountersealError
from counterseal.exchange.transports.https import HttpsTransport
from counterseal.exchange.transports.https.protocol import Posting
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import PartnerBook
from counterseal.wire import canonical

box, letter, block, clinic = sys.argv[1:]
home = Home(Path(os.environ["COUNTERSEAL_HOME"]))
us = Identity.load("rival", home=home, passphrase=b"passphrase")
relay = PartnerBook(home.store).get("relay").history
via = HttpsTransport("10.77.9.9", 8443, by=us, server=relay)
posting = Posting(kind="posting", recipient=clinic, letter=b"from the lab", blocks=b"")
data = canonical.encode(posting)
json, to = {"content-type": "application/json"}, {"counterseal-recipient": clinic}
for method, target, headers, body in (
    ("GET", f"/v1/boxes/{box}/letters/{letter}", {}, b""),
    ("DELETE", f"/v1/boxes/{box}/letters/{letter}", {}, b""),
    ("POST", f"/v1/boxes/{box}/letters", json, data),
    ("GET", f"/v1/blocks/{block}", {}, b""),
    ("GET", f"/v1/board/{box}", {}, b""),
    ("PUT", f"/v1/board/{box}", {"content-type": "application/octet-stream", **to}, b"directory"),
):
    try:
        answer = via._pool.call(method, target, headers, body)
        print(method, target, answer.status)
    except CountersealError as error:
        print(method, target, type(error).__name__, "refused")
print("waits", list(via.waiting([box], wait=0)) or "refused")
via.close()
"""


def test_a_shipment_of_the_rivals_in_the_box_of_the_lab(town, stick):
    """A stick has no doorman: whoever has it can put a letter, well signed, where another's lie."""
    town.send(via=stick.via).finish()
    town.rival.run("seal", "tiny.bin", "--to", "clinic", "-o", "forged.sealed", "--no-oms")
    town.rival.run("send", "forged.sealed", "--to", "clinic", "--via", stick.via)
    theirs = town.store / "boxes" / town.box("rival")
    shutil.copytree(theirs, stick.box, dirs_exist_ok=True)
    said = town.receive("--from", "lab", via=stick.via).finish()
    assert "does not claim to be from" in said.err
    town.whole()
    town.confirmed(via=stick.via)


# ── meeting ─────────────────────────────────────────────────────────────────────────────────


def test_a_pairing_with_the_rival_in_the_middle(town):
    """It guesses at the inviter, plays the inviter with a code of its own, and reads along."""
    town.serve()
    for one, other in ((town.lab, "clinic"), (town.clinic, "lab")):
        one.run("partner", "remove", other, "--yes")
    with town.middle() as middle:
        inviting = town.lab.start("partner", "invite", "--via", MAILBOX, "--wait", 90)
        code = inviting.until("read this").out.strip()
        slot = code.split("-")[0]
        guess = f"{slot}-zoo-zoo-zoo"
        guessed = town.rival.run("partner", "accept", guess, "--via", MAILBOX, code=3)
        assert "not the one that the other side has" in guessed.err

        middle.tell("impersonate")
        via = MAILBOX.replace("relay@", "")
        met = town.clinic.run("partner", "accept", code, "--via", via)
        assert "lab is pinned" in met.err
        inside = bytes.fromhex(middle.ask("plain")["plain"])
        assert all(word.encode() not in inside for word in code.split("-")[1:])
        inviting.finish()
    for one, other in ((town.lab, "clinic"), (town.clinic, "lab")):
        facts = one.run("partner", "show", other, "--json").out
        assert json.loads(facts)["key_id"] == town.identity_of(other)
    town.lab.run("seal", "tiny.bin", "--to", "clinic", "-o", "t.sealed", "--no-oms")


def test_the_rival_plays_the_inviter(town):
    """At the address where the clinic looks for the lab, with the lab's number: it lacks words."""
    town.network.take_over()
    town.serve(town.rival, root=town.folder / "trap")
    town.clinic.run("partner", "remove", "lab", "--yes")
    invited = town.rival.start("4711", script=INVITER).until("invited")
    code = "4711-hobby-valid-actor"
    via = MAILBOX.replace("relay@", "")
    refused = town.clinic.run("partner", "accept", code, "--via", via, code=3)
    assert "the code is not the one" in refused.err
    assert "lab" not in town.clinic.run("partner", "list").out
    assert "refused" in invited.until("refused").out


INVITER = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from counterseal.exchange.rendezvous import MailboxSlot
from counterseal.exchange.transports.https import HttpsTransport
from counterseal.jobs import pairing
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.pairing import Invitation
from counterseal.trust.partner import PartnerBook

home = Home(Path(os.environ["COUNTERSEAL_HOME"]))
us = Identity.load("rival", home=home, passphrase=b"passphrase")
book = PartnerBook(home.store)
book.remove("clinic")
invitation = Invitation.create(at=datetime.now(UTC), slot=int(sys.argv[1]))
pairing._save(us, invitation)
via = HttpsTransport("127.0.0.1", 8443, by=us, server=us.history)
slot = MailboxSlot(via, invitation.slot, us="inviter")
print("invited", flush=True)
pairing.invite(
    invitation, slot, us=us, book=book, wait=60, refused=lambda _: print("refused", flush=True)
)
"""


# ── directories and prekeys ─────────────────────────────────────────────────────────────────


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
    town = skewed
    old = met.board.read_bytes()
    town.clinic.run("id", "rotate")
    town.receive(via=met.via).finish()
    town.send(town.tiny, via=met.via).finish()
    after = town.lab.remembers("partner", "directory")

    met.board.write_bytes(old)
    said = town.send(town.tiny, via=met.via).finish().err
    assert "directory of clinic: " in said
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
