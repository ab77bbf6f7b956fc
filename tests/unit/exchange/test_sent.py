import pytest
from notices import Desk
from workshop import AT, DAY

from counterseal.errors import CountersealError, RolledBack, TrustError
from counterseal.exchange.keys import ContentKey
from counterseal.exchange.sent import SentBook
from counterseal.jobs.seal import seal
from counterseal.trust.prekeys import prekey_id


def test_versions_count_up_for_each_model(bench):
    sent = SentBook(bench.lab)
    assert sent.next_version("scan") == 1
    bench.seal(b"1")
    bench.seal(b"2")
    bench.seal(b"3", model="other")
    assert (sent.next_version("scan"), sent.next_version("other")) == (3, 2)
    bench.seal(b"4", version=10)
    assert sent.next_version("scan") == 11
    for version in (10, 3, -1):
        with pytest.raises(RolledBack):
            bench.seal(b"5", version=version)


def test_a_failed_sealing_leaves_no_package(bench):
    bench.seal(b"1", version=5)
    with pytest.raises(RolledBack):
        bench.seal(b"1", version=5)
    assert [p.suffix for p in bench.folder.iterdir()].count(".sealed") == 1
    assert not [p for p in bench.folder.iterdir() if p.name.startswith(".")]


def test_prekeys_are_used_in_order_and_once(bench):
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab, 2)
    sent = SentBook(bench.lab)
    assert sent.prekey_for(bench.cast.partner(bench.clinic), at=AT) is None
    assert sent.prekey_for(partner, at=AT) == 0
    assert sent.prekey_for(partner, at=AT + 91 * DAY) is None
    used = prekey_id(partner.prekeys.keys[0])
    sent.spend([used])
    assert sent.prekey_for(partner, at=AT) == 1
    with pytest.raises(CountersealError, match="same one-time prekey"):
        sent.spend([used])


def test_the_last_resort_is_used_and_never_spent(bench):
    desk = Desk(bench.cast)
    lab, sent = desk.take(desk.make(prekeys=1)), SentBook(bench.clinic)
    last = sent.last_resort_for(lab, at=AT)
    assert last == lab.prekeys.last_resort.key
    assert sent.prekey_for(lab, at=AT) == 0, "one-time prekeys go first"
    receipts = [seal_for(bench, lab, at=AT + day * DAY) for day in (0, 1, 2, 14, 15)]
    assert [r.forward_secret for r in receipts] == [("lab",), (), (), (), ()]
    assert [r.last_resort for r in receipts] == [(), ("lab",), ("lab",), ("lab",), ()]
    spent = [key for key, _ in bench.clinic.store.items("spent-prekey")]
    assert spent == [prekey_id(lab.prekeys.keys[0])]


def seal_for(bench, partner, *, at):
    source = bench.model(b"weights")
    output = bench.path(".sealed")
    return seal(source, by=bench.clinic, to=partner, output=output, at=at, overdue=30 * DAY)


def test_no_last_resort_where_none_was_given(bench):
    sent = SentBook(bench.lab)
    assert sent.last_resort_for(bench.cast.partner(bench.clinic), at=AT) is None
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab, 1)
    assert sent.last_resort_for(partner, at=AT) is None


def test_prekeys_of_a_replaced_card_are_not_used(bench):
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab, 2)
    bench.clinic.rotate(at=AT)
    partner = partner.refreshed(bench.clinic.card())
    assert SentBook(bench.lab).prekey_for(partner, at=AT) is None


def test_content_keys_are_kept_and_forgotten(bench):
    sent, key = SentBook(bench.lab), ContentKey.generate()
    sent.keep(key)
    assert sent.content_key(key.package).secret() == key.secret()
    assert all(key.secret() not in value for _, value in bench.lab.store.items("sent-key"))
    assert sent.forget(key.package)
    assert not sent.forget(key.package)
    with pytest.raises(TrustError):
        sent.content_key(key.package)
