"""What a sender remembers between attempts."""

import os
from datetime import timedelta

import msgspec
import pytest
from post import outgoing
from workshop import AT, DAY

from counterseal.exchange import letter as letters
from counterseal.exchange import outbox as outboxes
from counterseal.exchange.amend import add_recipient
from counterseal.exchange.letter import LIFETIME
from counterseal.exchange.outbox import Outbox, Posted
from counterseal.exchange.plan import ForKeys
from counterseal.exchange.receipt import Receipt, notice_digest
from counterseal.wire import canonical

SECOND = timedelta(seconds=1)


class Desk:
    """lab with a package for clinic and bank, and a letter about it."""

    def __init__(self, bench):
        self.bench, self.lab, self.clinic = bench, bench.lab, bench.clinic
        self.package = bench.seal({"w.bin": os.urandom(5000)}, to=[bench.clinic, bench.bank])

    @property
    def outbox(self):
        return Outbox(self.lab)

    def keep(self, *, to=None, at=AT):
        to = (to or self.clinic).history
        with outgoing(self.package) as out:
            body = canonical.encode(out.notice)
            letter, data = letters.write("shipment", body, by=self.lab, to=to, at=at)
            self.outbox.keep(out, letter=letter, data=data, to=to, at=at)
        return letter, data, out

    def resume(self, *, to=None, at=AT):
        with outgoing(self.package) as out:
            return self.outbox.resume(out, to=(to or self.clinic).history, at=at)

    def posted(self, letter, **change):
        fields = {
            "letter": letter.id,
            "partner": letter.recipient,
            "file": "m.sealed",
            "package": "0" * 32,
            "notice": notice_digest(letter.body),
            "bytes": 1,
            "at": canonical.timestamp(AT),
            "confirmed": None,
            "state": "sending",
            **change,
        }
        return Posted(**fields)

    def receipt(self, letter, **change):
        fields = {
            "kind": "receipt",
            "format": 1,
            "letter": letter.id,
            "notice": notice_digest(letter.body),
            "package": "0" * 32,
            "at": canonical.timestamp(AT),
            **change,
        }
        return Receipt(**fields)


@pytest.fixture
def desk(bench):
    return Desk(bench)


def test_an_unfinished_letter_is_used_again(desk):
    letter, data, out = desk.keep()
    identifier, again, resumed = desk.resume()
    assert (identifier, again) == (letter.id, data)
    assert resumed.notice == out.notice
    assert resumed.sealed_front == out.sealed_front


def test_each_recipient_has_a_letter_of_its_own(desk):
    first, _, _ = desk.keep()
    second, _, _ = desk.keep(to=desk.bench.bank)
    assert desk.resume()[0] == first.id
    assert desk.resume(to=desk.bench.bank)[0] == second.id
    assert desk.resume(to=desk.bench.rival) is None


def test_a_front_that_changed_is_not_sent_under_the_old_letter(desk):
    desk.keep()
    key = desk.bench.rival.history.newest.card.agreement.key()
    add_recipient(desk.package, ForKeys(desk.bench.rival.key_id, key), by=desk.lab, at=AT)
    assert desk.resume() is None


def test_a_body_that_changed_is_not(desk):
    desk.keep()
    data = bytearray(desk.package.read_bytes())
    data[-1] ^= 1
    desk.package.write_bytes(data)
    assert desk.resume() is None


@pytest.mark.parametrize("who", ["lab", "clinic"])
def test_nor_one_under_a_card_that_was_replaced(desk, who):
    """They may have forgotten the old keys; ours may have been replaced because of a thief."""
    desk.keep()
    getattr(desk.bench, who).rotate(at=AT + DAY)
    assert desk.resume(at=AT + DAY) is None


def test_nor_one_whose_time_is_half_over(desk):
    letter, _, _ = desk.keep()
    middle = letter.expires - LIFETIME / 2
    assert desk.resume(at=middle - SECOND) is not None
    assert desk.resume(at=middle) is None


def test_a_draft_that_cannot_be_read_any_more(desk):
    """After a recovery the store's key is another one."""
    desk.keep()
    desk.lab._ring._store_key = os.urandom(32)
    assert desk.resume() is None
    desk.keep()
    assert desk.resume() is not None


def test_a_draft_of_another_version(desk):
    desk.keep()
    ((key, _),) = desk.lab.store.items("outbox")
    desk.lab.store.put("outbox", key, desk.lab.protect(b"{}", label="outbox"))
    assert desk.resume() is None


def test_the_draft_is_protected(desk):
    """It holds the key of the front, which names the sender."""
    _, _, out = desk.keep()
    ((_, stored),) = desk.lab.store.items("outbox")
    assert out.notice.key not in stored
    assert out.sealed_front[:64] not in stored


def test_a_front_for_hundreds_is_not_kept(desk, monkeypatch):
    monkeypatch.setattr(outboxes, "_MAX_FRONT", 1000)
    desk.keep()
    assert desk.resume() is None


def test_the_largest_draft_can_be_read(desk):
    """32 GiB in 16,384 blocks, and the largest front that is kept."""
    letter, _, out = desk.keep()
    count, block = 16_384, 2 << 20
    size = out.notice.body + count * block
    blocks = bytes(32 * count)
    notice = msgspec.structs.replace(out.notice, size=size, block_bytes=block, blocks=blocks)
    front = bytes(outboxes._MAX_FRONT)
    large = out.with_front(notice, front)
    data = bytes(letters.limits.LETTER_BYTES)
    desk.outbox.keep(large, letter=letter, data=data, to=desk.clinic.history, at=AT)
    identifier, again, resumed = desk.outbox.resume(large, to=desk.clinic.history, at=AT)
    assert (identifier, len(again), resumed.sealed_front) == (letter.id, len(data), front)


def test_drafts_that_nobody_came_back_for_are_forgotten(desk):
    old, _, _ = desk.keep()
    desk.outbox.sending(desk.posted(old))
    desk.keep(to=desk.bench.bank, at=AT + LIFETIME / 2)
    assert len(desk.lab.store.items("outbox")) == 2
    assert len(desk.outbox.list()) == 1
    desk.keep(to=desk.bench.bank, at=AT + LIFETIME + SECOND)
    assert len(desk.lab.store.items("outbox")) == 1
    assert desk.outbox.list() == []


class TestPosted:
    def test_the_way_of_a_shipment(self, desk):
        letter, _, _ = desk.keep()
        desk.outbox.sending(desk.posted(letter))
        assert desk.outbox.get(letter.id).state == "sending"
        desk.outbox.posted(letter.id, at=AT + SECOND)
        assert desk.outbox.get(letter.id).state == "posted"
        assert desk.outbox.get(letter.id).at == AT + SECOND
        confirmed = desk.outbox.confirm(desk.receipt(letter), partner=letter.recipient)
        assert (confirmed.state, confirmed.confirmed) == ("confirmed", AT)
        assert desk.outbox.list() == [confirmed]

    def test_posting_forgets_the_draft(self, desk):
        letter, _, out = desk.keep()
        desk.outbox.sending(desk.posted(letter, package=out.notice.package))
        desk.outbox.posted(letter.id, at=AT)
        assert desk.resume() is None

    def test_a_receipt_that_is_quicker_than_we_are(self, desk):
        """The receiver had it, and answered, before the transport said that it was delivered."""
        letter, _, out = desk.keep()
        desk.outbox.sending(desk.posted(letter, package=out.notice.package))
        assert desk.outbox.confirm(desk.receipt(letter), partner=letter.recipient) is not None
        assert desk.resume() is None
        desk.outbox.posted(letter.id, at=AT + DAY)
        assert desk.outbox.get(letter.id).confirmed == AT
        assert desk.outbox.get(letter.id).state == "confirmed"

    def test_going_on_does_not_undo_a_receipt(self, desk):
        letter, _, _ = desk.keep()
        desk.outbox.sending(desk.posted(letter))
        desk.outbox.confirm(desk.receipt(letter), partner=letter.recipient)
        desk.outbox.sending(desk.posted(letter))
        assert desk.outbox.get(letter.id).state == "confirmed"

    def test_the_first_receipt_counts(self, desk):
        letter, _, _ = desk.keep()
        desk.outbox.sending(desk.posted(letter))
        desk.outbox.confirm(desk.receipt(letter), partner=letter.recipient)
        later = desk.receipt(letter, at=canonical.timestamp(AT + DAY))
        assert desk.outbox.confirm(later, partner=letter.recipient).confirmed == AT

    @pytest.mark.parametrize("wrong", ["partner", "letter", "notice"])
    def test_a_receipt_for_something_else(self, desk, wrong):
        letter, _, _ = desk.keep()
        desk.outbox.sending(desk.posted(letter))
        receipt, partner = desk.receipt(letter), letter.recipient
        if wrong == "partner":
            partner = "f" * 64
        else:
            value = {"letter": "f" * 32, "notice": "f" * 64}[wrong]
            receipt = msgspec.structs.replace(receipt, **{wrong: value})
        assert desk.outbox.confirm(receipt, partner=partner) is None
        assert desk.outbox.get(letter.id).state == "sending"

    def test_a_letter_that_was_never_noted(self, desk):
        with pytest.raises(RuntimeError):
            desk.outbox.posted("0" * 32, at=AT)

    def test_each_identity_sees_its_own(self, desk, bench):
        letter, _, _ = desk.keep()
        desk.outbox.sending(desk.posted(letter))
        bench.bank.store = desk.lab.store
        assert Outbox(bench.bank).list() == []
        assert Outbox(bench.bank).get(letter.id) is None

    def test_oldest_first(self, desk):
        letter, _, _ = desk.keep()
        for day in (2, 0, 1):
            one = msgspec.structs.replace(letter, id=f"{day}" * 32)
            desk.outbox.sending(desk.posted(one, at=canonical.timestamp(AT + day * DAY)))
        assert [one.letter[0] for one in desk.outbox.list()] == ["0", "1", "2"]
