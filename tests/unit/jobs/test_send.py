"""Sending: what is refused before the journey, and going on after it broke off."""

import os
import shutil
from dataclasses import replace

import pytest
from post import Post, Spy, blocks_of
from workshop import AT, DAY, PASSPHRASE, Bench, Cast

from counterseal.crypto.agreement import AgreementKey
from counterseal.errors import (
    BadCiphertext,
    BadSignature,
    Dropped,
    ExpiredKey,
    FormatError,
    TamperError,
    TrustError,
)
from counterseal.exchange.outbox import Outbox
from counterseal.exchange.transports.memory import MemoryTransport
from counterseal.jobs.receive import Arrived, Confirmed
from counterseal.jobs.recipients import add_recipient
from counterseal.trust import prekeys
from counterseal.trust.card import AgreementPublic
from counterseal.trust.prekeys import LAST_RESORT_LIFETIME, LastResort

MIB = 1 << 20


@pytest.fixture
def post(bench):
    return Post(bench)


@pytest.fixture
def package(bench):
    return bench.seal({"w.bin": os.urandom(4 * MIB)})


def failing_after(post, kind, count):
    """A store that goes away before the nth operation of a kind on blocks."""
    left = [count]

    def before(what, name):
        if what == kind and "/blocks" in name:
            left[0] -= 1
            if left[0] < 0:
                raise Dropped("the way is lost")

    return Spy(post.objects, before).transport()


def test_there(post, package):
    seen, listed = [], []
    sent = post.send(
        package,
        progress=lambda *both: seen.append(both),
        listing=lambda *both: listed.append(both),
    )
    assert (sent.file, sent.to, sent.blocks, sent.continued) == (package.name, "clinic", 6, False)
    assert seen[-1] == (sent.bytes, sent.bytes)
    assert listed[-1][0] == listed[-1][1]
    assert Outbox(post.bench.lab).get(sent.letter).state == "posted"
    (arrived,) = post.receive()
    assert arrived == Arrived(
        "lab", post.inbox / package.name, sent.package, sent.bytes, 0, receipt_sent=True
    )
    (confirmed,) = post.receive(by=post.bench.lab)
    assert confirmed == Confirmed("clinic", package.name, sent.package, AT)


def test_keys_that_tokens_can_hold(tmp_path):
    bench = Bench(Cast(hardware=("clinic", "lab")), tmp_path)
    post = Post(bench)
    post.send(bench.seal({"w.bin": b"1"}))
    (arrived,) = post.receive()
    assert bench.read(arrived.path) == {"w.bin": b"1"}
    assert len(post.receive(by=bench.lab)) == 1


# ── letters with forward secrecy ────────────────────────────────────────────────────────────


def with_last_resort(post, *, at=AT):
    """clinic with a last-resort prekey for lab, as its directory brings it."""
    clinic, lab = post.bench.clinic, post.bench.lab
    key, one = AgreementKey.generate(), AgreementKey.generate()
    last = LastResort(key=AgreementPublic.of(key.public), expires=at + LAST_RESORT_LIFETIME)
    bundle = prekeys.compose(
        clinic.history,
        lab.history,
        [AgreementPublic.of(one.public)],
        at=at,
        expires=at + prekeys.LIFETIME,
        last_resort=last,
    )
    identity = lab.history.identity
    clinic.prekeys.put(key, partner=identity, expires=last.expires, kind="last-resort")
    real = post.partner

    def partner(one):
        return replace(real(one), prekeys=bundle) if one is clinic else real(one)

    post.partner = partner


def test_who_has_all_long_term_keys_cannot_read_a_recorded_shipment(post, bench, package):
    with_last_resort(post)
    post.send(package)
    recorded = dict(post.objects.stored)
    (arrived,) = post.receive()
    arrived.path.unlink()
    later = AT + LAST_RESORT_LIFETIME + 8 * DAY
    bench.clinic.prekeys.delete_outlived(at=later, kind="last-resort")
    bench.clinic.store.delete("letter", bench.clinic.store.items("letter")[0][0])
    post.objects.stored.update(recorded)
    (refused,) = post.receive(at=AT)  # the thief's clock says what the thief likes
    assert isinstance(refused.error, BadCiphertext)
    assert "prekey" in refused.error.message


def test_a_letter_ends_with_the_prekey_that_opens_it(post, package):
    """Else it would be there to be fetched, and could not be opened."""
    with_last_resort(post)
    made = AT + 13 * DAY
    post.send(package, at=made)
    (data,) = post.letters()
    assert post.read(data, at=made).expires == AT + 21 * DAY
    assert isinstance(post.receive(at=AT + 21 * DAY)[0], Arrived)


def test_a_draft_is_not_used_beyond_half_of_that(post, package):
    with_last_resort(post)
    made = AT + 13 * DAY
    with pytest.raises(Dropped):
        post.send(package, via=failing_after(post, "put", 3), at=made)
    assert post.send(package, via=post.via, at=made + 3 * DAY).continued
    with pytest.raises(Dropped):
        post.send(package, via=failing_after(post, "put", 0), at=made)
    assert not post.send(package, at=made + 5 * DAY).continued


# ── refused before the journey ──────────────────────────────────────────────────────────────


def test_a_package_that_is_not_for_them(post, bench, package):
    with pytest.raises(TrustError, match='not sealed for "bank"') as caught:
        post.send(package, to=bench.bank)
    assert "--add-to" in caught.value.hint
    assert post.objects.stored == {}


def test_a_package_for_a_card_that_was_revoked(post, bench, package):
    """They could not open it: nothing is read with keys that a thief may have."""
    old = bench.clinic.key_id
    bench.clinic.rotate(at=AT)
    post.send(package)
    bench.clinic.revoke(reason="compromised", which=old, at=AT)
    with pytest.raises(TrustError, match="not sealed for"):
        post.send(package)


def test_a_package_for_a_passphrase(post, bench):
    package = bench.seal({"w.bin": b"1"}, passphrase=PASSPHRASE)
    with pytest.raises(TrustError, match="not sealed for"):
        post.send(package)


def test_somebody_elses_package(post, bench):
    package = bench.seal({"w.bin": b"1"}, by=bench.rival)
    with pytest.raises(BadSignature, match="not sealed by"):
        post.send(package)


def test_a_package_that_ended(post, bench):
    package = bench.seal({"w.bin": b"1"}, expires=DAY)
    with pytest.raises(ExpiredKey, match="this package ended") as caught:
        post.send(package, at=AT + 2 * DAY)
    assert caught.value.hint == "seal the model again"


def test_a_package_under_a_key_that_was_replaced_too_long_ago(post, bench, package):
    """Receivers would refuse it, after the whole journey."""
    bench.lab.rotate(at=AT + DAY)
    post.send(package, at=AT + 10 * DAY)
    with pytest.raises(ExpiredKey, match="replaced") as caught:
        post.send(package, at=AT + 20 * DAY)
    assert caught.value.hint == "seal the model again"


def test_something_else(post, tmp_path):
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(20_000))
    with pytest.raises(FormatError):
        post.send(noise)
    with pytest.raises(FileNotFoundError):
        post.send(tmp_path / "nothing")
    assert post.objects.stored == {}


@pytest.mark.parametrize("at", [60, 5000, -1])
def test_a_package_that_was_changed(post, package, at):
    data = bytearray(package.read_bytes())
    data[at] ^= 1
    package.write_bytes(data)
    if at == -1:  # what only a recipient can see travels, and is noticed there
        post.send(package)
        return
    with pytest.raises((TamperError, FormatError)):
        post.send(package)
    assert post.objects.stored == {}


# ── going on ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [0, 1, 4])
def test_it_goes_on_where_it_stopped(post, package, count):
    with pytest.raises(Dropped):
        post.send(package, via=failing_after(post, "put", count))
    (draft,) = Outbox(post.bench.lab).list()
    assert draft.state == "sending"
    assert post.receive() == []
    spy = Spy(post.objects)
    sent = post.send(package, via=spy.transport())
    assert sent.continued
    assert sent.letter == draft.letter
    assert spy.moved("put") <= sent.bytes - count * MIB + MIB
    (arrived,) = post.receive()
    assert arrived.path.read_bytes() == package.read_bytes()
    assert len(Outbox(post.bench.lab).list()) == 1


def test_after_it_was_delivered_the_next_one_is_new(post, package):
    first, second = post.send(package), post.send(package)
    assert first.letter != second.letter
    assert not second.continued
    spy = Spy(post.objects)
    third = post.send(package, via=spy.transport())
    notice, _ = blocks_of(package)
    assert spy.moved("put") == third.bytes - (notice.size - notice.body)  # the front alone


def test_a_recipient_added_in_between(post, bench, package):
    """The front is another one: the old letter lists blocks that do not exist any more."""
    with pytest.raises(Dropped):
        post.send(package, via=failing_after(post, "put", 3))
    add_recipient(package, by=bench.lab, to=bench.bank.card(), at=AT)
    spy = Spy(post.objects)
    sent = post.send(package, via=spy.transport())
    assert not sent.continued
    assert spy.moved("put") < sent.bytes - MIB  # of the body, what is there stays
    (arrived,) = post.receive()
    assert arrived.path.read_bytes() == package.read_bytes()
    assert bench.read(arrived.path) == bench.read(package)


def test_to_two_recipients(post, bench):
    package = bench.seal({"w.bin": os.urandom(MIB)}, to=[bench.clinic, bench.bank])
    with pytest.raises(Dropped):
        post.send(package, via=failing_after(post, "put", 1))
    to_bank = post.send(package, to=bench.bank)
    to_clinic = post.send(package)
    assert (to_bank.continued, to_clinic.continued) == (False, True)
    for name in ("bank", "clinic"):
        inbox = post.inbox / name
        inbox.mkdir()
        who = getattr(bench, name)
        (arrived,) = post.receive(by=who, folder=inbox)
        assert bench.read(arrived.path, by=who) == bench.read(package, by=who)
    assert len(post.receive(by=bench.lab)) == 2


def test_for_hundreds_of_recipients(post, bench, monkeypatch):
    """The front is larger than a block, and too large to keep for a second attempt."""
    from counterseal.exchange import layout

    real = layout.body_offset
    monkeypatch.setattr(layout, "body_offset", lambda *both: real(*both) + 3 * MIB)
    package = bench.seal({"w.bin": os.urandom(2 * MIB)})
    with pytest.raises(Dropped):
        post.send(package, via=failing_after(post, "put", 5))
    sent = post.send(package)
    assert not sent.continued
    assert sent.blocks == 7
    (arrived,) = post.receive()
    assert arrived.path.read_bytes() == package.read_bytes()


def test_a_file_that_changes_on_the_way(post, package):
    def change(kind, name):
        if kind == "put" and "/blocks" in name:
            with package.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(bytes([package.read_bytes()[-1] ^ 1]))

    with pytest.raises(TamperError, match="changed while"):
        post.send(package, via=Spy(post.objects, change).transport())
    assert post.receive() == []
    assert post.places() == []


def test_another_file_of_that_name_is_another_shipment(post, bench, package):
    with pytest.raises(Dropped):
        post.send(package, via=failing_after(post, "put", 3))
    other = bench.seal({"w.bin": os.urandom(MIB)})
    shutil.copy(other, package)
    sent = post.send(package)
    assert not sent.continued
    (arrived,) = post.receive()
    assert arrived.path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("who", ["lab", "clinic"])
def test_cards_replaced_in_between(post, bench, package, who):
    with pytest.raises(Dropped):
        post.send(package, via=failing_after(post, "put", 3))
    getattr(bench, who).rotate(at=AT + DAY)
    sent = post.send(package, at=AT + DAY)
    assert not sent.continued
    (arrived,) = post.receive(at=AT + DAY)
    assert arrived.path.read_bytes() == package.read_bytes()


def test_the_receiver_was_quicker_than_our_note(post, package, monkeypatch):
    """Its receipt is in our box before `deliver` returns, and somebody of ours reads it."""
    real = MemoryTransport.deliver
    events = []

    def deliver(self, box, letter, blocks, **more):
        real(self, box, letter, blocks, **more)
        monkeypatch.setattr(MemoryTransport, "deliver", real)
        events.extend([*post.receive(), *post.receive(by=post.bench.lab)])

    monkeypatch.setattr(MemoryTransport, "deliver", deliver)
    sent = post.send(package)
    assert [type(event) for event in events] == [Arrived, Confirmed]
    assert Outbox(post.bench.lab).get(sent.letter).state == "confirmed"


def test_a_crash_between_delivery_and_our_note(post, package, monkeypatch):
    """The next attempt sends the same letter again; the receiver answers and takes one package."""
    monkeypatch.setattr(Outbox, "posted", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        post.send(package)
    monkeypatch.undo()
    assert len(post.receive()) == 1
    again = post.send(package)
    assert again.continued
    assert post.receive() == []
    assert len(post.receive(by=post.bench.lab)) == 2
    assert [one.state for one in Outbox(post.bench.lab).list()] == ["confirmed"]
    assert [path.name for path in post.inbox.iterdir()] == [package.name]
