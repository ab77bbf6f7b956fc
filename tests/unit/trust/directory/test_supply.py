"""The prekeys on offer: refilled, replaced in time, deleted in time."""

from __future__ import annotations

import pytest
from notices import Desk
from workshop import AT, DAY

from counterseal.exchange.sent import SentBook
from counterseal.trust.prekeys import prekey_id


@pytest.fixture
def desk(cast):
    return Desk(cast)


def offer(desk, at=AT, **more):
    return desk.take(desk.make(at=at, **more), at=at).prekeys


def spend(desk, keys):
    """The lab opened a package of each."""
    for key in keys:
        assert desk.lab.prekeys.delete(prekey_id(key))


def test_it_stays_until_half_is_used_up(desk):
    first = offer(desk, prekeys=10)
    spend(desk, first.keys[:4])
    assert offer(desk, AT + DAY, prekeys=10) == first
    spend(desk, first.keys[4:5])
    second = offer(desk, AT + 2 * DAY, prekeys=10)
    assert len(second.keys) == 10
    assert second.keys[:5] == first.keys[5:], "unspent ones are offered again"
    assert second.last_resort == first.last_resort


def test_what_the_sender_spent_is_never_used_again(desk):
    """Packages on their way: the lab still holds the prekeys and offers them once more."""
    first = offer(desk, prekeys=4)
    sent = SentBook(desk.clinic)
    for _ in range(2):
        place = sent.prekey_for(desk.book.get("lab"), at=AT)
        sent.spend([prekey_id(first.keys[place])])
    offer(desk, AT + 8 * DAY, prekeys=4)
    lab = desk.book.get("lab")
    assert sent.prekey_for(lab, at=AT + 8 * DAY) == 2


def test_the_last_resort_is_replaced_every_week(desk):
    seen = [offer(desk, AT + day * DAY).last_resort for day in (0, 6, 7, 13, 14)]
    assert [one.expires for one in seen] == [AT + days * DAY for days in (14, 14, 21, 21, 28)]
    assert len({one.key for one in seen}) == 3


def test_and_deleted_three_weeks_after_it_was_made(desk):
    last = offer(desk).last_resort
    name = prekey_id(last.key)
    for days, there in ((7, True), (21, True), (22, False)):
        offer(desk, AT + days * DAY)
        assert (desk.lab.prekeys.kind(name) == "last-resort") == there


def test_old_one_time_prekeys_are_offered_no_more(desk):
    first = offer(desk, prekeys=2)
    day30 = offer(desk, AT + 30 * DAY, prekeys=2)
    assert day30.keys == first.keys
    assert day30.expires == first.expires == AT + 90 * DAY, "their private halves live no longer"
    day37 = offer(desk, AT + 37 * DAY, prekeys=2)
    assert not set(day37.keys) & set(first.keys)
    offer(desk, AT + 121 * DAY, prekeys=2)
    assert desk.lab.prekeys.kind(prekey_id(first.keys[0])) is None


def test_a_new_card_has_new_prekeys(desk):
    first = offer(desk)
    desk.lab.rotate(at=AT)
    second = offer(desk)
    assert not set(first.keys) & set(second.keys)
    assert first.last_resort.key != second.last_resort.key


def test_prekeys_that_are_lost_are_replaced(desk):
    first = offer(desk)
    desk.lab.prekeys.delete_all()
    second = offer(desk)
    assert not set(first.keys) & set(second.keys)
    assert first.last_resort != second.last_resort
    assert offer(desk, AT + DAY) == second


def test_none_are_offered_if_none_are_wanted(desk):
    assert offer(desk, prekeys=0) is None
    assert desk.lab.prekeys.ids() == []
