"""Whoever carries it means no good, on the wire and as a client like the others.

The rival sits in the middle and has valid keys of its own. Each test says what it tries; what is
refused leaves everything as it was, and a second, honest attempt succeeds. Processes, network
namespaces, TLS and mailbox are real: see `tests/support/organizations.py`.
"""

import json
from itertools import pairwise

import pytest
from organizations import MAILBOX, MIB

TRUSTED = ("partner", "directory", "letter", "spent-prekey")  # what must not move on a refusal


# ── the wire ───────────────────────────────────────────────────────────────────────────────────────


def test_a_changed_byte_breaks_a_connection_and_nothing_else(town):
    """The command says so and ends, or was told only that the connection is gone: then it makes
    another. Twice, and the second attempt goes on."""
    town.serve()
    with town.middle() as middle:
        for way, job in (("up", town.send), ("down", town.receive)):
            middle.tell("flip", at=MIB // 2, way=way)
            said = job().finish(0, 7)
            middle.await_("flipped")
            if said.popen.returncode:
                assert "the TLS connection failed" in said.err
                town.nothing_visible()
                job().finish()
    town.whole()
    town.confirmed()


def test_recorded_bytes_said_again_do_nothing(town):
    server = town.serve()
    with town.middle() as middle:
        town.send().finish()
        before = town.mailbox()
        for connection in range(middle.ask("count")["connections"]):
            said = middle.ask("replay", connection=connection)
            assert said["said"] > 1000
        assert town.mailbox() == before
        town.receive().finish()
        town.whole()
        before = town.mailbox()
        for connection in range(middle.ask("count")["connections"]):
            middle.ask("replay", connection=connection)
        assert town.mailbox() == before
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
    mail = town.mailbox()
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
        assert town.mailbox() == mail
        town.nothing_visible()
        middle.tell("carry")
        town.send().finish()
        town.receive().finish()
    town.whole()


def test_a_client_without_post_quantum_gets_nothing_from_a_mailbox(town):
    town.serve()
    answer = town.rival.run(script=CLASSICAL_CLIENT).out
    assert answer == "refused\n"


CLASSICAL_CLIENT = """
import socket
from OpenSSL import SSL
from interceptor import _tls

with socket.create_connection(("10.77.9.9", 8443)) as sock:
    try:
        link = _tls(sock, server=False, classical=True)
        link.sendall(b"GET /v1/session HTTP/1.1\\r\\nhost: relay\\r\\n\\r\\n")
        print("answered:", link.recv(100))
    except SSL.Error as error:
        print("refused")
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
    assert town.mailbox(town.folder / "trap") == ([], [], [])
    trap.kill()
    town.network.give_back()
    town.serve()
    town.send().finish()
    town.receive().finish()
    town.whole()


# ── a client like the others ───────────────────────────────────────────────────────────────────────


def test_a_client_of_the_same_mailbox_reaches_for_what_is_not_its_own(town):
    town.serve()
    town.send().finish()
    before = town.mailbox()
    block = next(name for name, _ in before[2])
    arguments = town.box(), before[0][0][0], block, town.identity_of("clinic")
    tried = town.rival.run(*arguments, script=CLIENT).out.splitlines()
    assert len(tried) == 7
    for line in tried:
        assert "there is no such thing here" in line or "this is not your box" in line, tried
    assert town.mailbox() == before
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
json = {"content-type": "application/json"}
to = {"content-type": "application/octet-stream", "counterseal-recipient": clinic}
for method, target, headers, body in (
    ("GET", f"/v1/boxes/{box}/letters/{letter}", {}, b""),
    ("DELETE", f"/v1/boxes/{box}/letters/{letter}", {}, b""),
    ("POST", f"/v1/boxes/{box}/letters", json, data),
    ("GET", f"/v1/blocks/{block}", {}, b""),
    ("GET", f"/v1/board/{box}", {}, b""),
    ("PUT", f"/v1/board/{box}", {"if-match": "*", **to}, b"directory"),
):
    try:
        answer = via._pool.call(method, target, headers, body, limit=1 << 24)
        print(method, target, answer.status)
    except CountersealError as error:
        print(method, target, error.message)
print("waits", list(via.waiting([box], wait=0)) or "there is no such thing here")
via.close()
"""


# ── meeting ────────────────────────────────────────────────────────────────────────────────────────


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
        words = code.split("-")[1:]  # one alone may be in there: "ten" is in "content-length"
        assert all("-".join(two).encode() not in inside for two in pairwise(words))
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
    town.rival.start("4711", script=INVITER).until("invited")
    code = "4711-hobby-valid-actor"
    via = MAILBOX.replace("relay@", "")
    refused = town.clinic.run("partner", "accept", code, "--via", via, code=3)
    assert "the code is not the one" in refused.err
    assert "lab" not in town.clinic.run("partner", "list").out


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
pairing.invite(invitation, slot, us=us, book=book, wait=60, refused=print)
"""
