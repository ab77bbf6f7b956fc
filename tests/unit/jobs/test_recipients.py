from workshop import AT

from counterseal.exchange.sent import SentBook
from counterseal.jobs.recipients import add_recipient
from counterseal.jobs.seal import recipient_of


def test_the_header_says_how_many(bench):
    path = bench.seal({"w": b"1"})
    header = add_recipient(str(path), by=bench.lab, to=bench.bank.card(), at=AT)
    assert header.recipients == 2
    assert bench.read(path, by=bench.bank) == {"w": b"1"}


def test_a_prekey_is_taken_if_there_is_one(bench):
    sent = SentBook(bench.lab)
    assert recipient_of(bench.clinic.card(), sent, at=AT).prekey is None
    assert recipient_of(bench.cast.partner(bench.clinic), sent, at=AT).prekey is None
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab)
    found = recipient_of(partner, sent, at=AT)
    assert found.prekey is not None
    assert found.card == bench.clinic.key_id
