"""Letters by their rules, in order. What attackers do with them is in tests/attacks/test_post.py."""

from datetime import timedelta

import pytest
from workshop import AT, DAY

from counterseal.errors import (
    BadCiphertext,
    BadSignature,
    ExpiredKey,
    FormatError,
    ReplayedMessage,
    RevokedKey,
    UnknownPartner,
)
from counterseal.exchange import letter as letters
from counterseal.exchange.letter import Ended, LetterBook
from counterseal.trust.history import CLOCK_SKEW
from counterseal.trust.store import Store

SECOND = timedelta(seconds=1)


def write(cast, body=b"{}", *, by=None, to=None, at=AT, **more):
    by, to = by or cast.lab, to or cast.clinic
    return letters.write("message", body, by=by, to=to.history, at=at, **more)


def read(cast, data, *, by=None, sender=None, at=AT):
    return letters.read(data, by=by or cast.clinic, sender=(sender or cast.lab).history, at=at)


def test_what_is_written_is_read(cast):
    letter, data = write(cast, b"body")
    assert read(cast, data) == letter
    assert letter.body == b"body"
    assert letter.expires - letter.created == timedelta(days=30)


def test_two_letters_have_two_ids(cast):
    assert write(cast)[0].id != write(cast)[0].id


def test_only_who_it_is_for_reads_it(cast):
    _, data = write(cast)
    with pytest.raises(BadCiphertext):
        read(cast, data, by=cast.bank)
    with pytest.raises(BadSignature, match='not claim to be from "rival"'):
        read(cast, data, sender=cast.rival)


def test_times(cast):
    letter, data = write(cast)
    assert read(cast, data, at=letter.created - CLOCK_SKEW) == letter
    with pytest.raises(ExpiredKey, match="future") as caught:
        read(cast, data, at=letter.created - CLOCK_SKEW - SECOND)
    assert not isinstance(caught.value, Ended)
    assert read(cast, data, at=letter.expires) == letter
    with pytest.raises(Ended, match="has ended"):
        read(cast, data, at=letter.expires + SECOND)


@pytest.mark.parametrize("days", [-1, 0, 367, 100_000])
def test_impossible_lifetimes(cast, days):
    _, data = write(cast, lifetime=timedelta(days=days))
    with pytest.raises(FormatError, match="run forwards"):
        read(cast, data)


def test_nobody_writes_without_a_card_in_force(cast):
    with pytest.raises(ExpiredKey):
        write(cast, at=AT + 400 * DAY)
    cast.clinic.revoke(reason="lost", at=AT)
    with pytest.raises(RevokedKey):
        write(cast)


def test_a_card_that_is_not_here_yet_is_not_a_forgery(cast):
    """The lab rotated, and its letter was quicker than its card."""
    known = cast.lab.history
    cast.lab.rotate(at=AT)
    letter, data = write(cast)
    with pytest.raises(UnknownPartner, match="not here yet"):
        letters.read(data, by=cast.clinic, sender=known, at=AT)
    assert read(cast, data) == letter


def test_a_replaced_card_counts_for_its_grace_time(cast):
    letter, data = write(cast, lifetime=timedelta(days=60))
    cast.lab.rotate(at=AT + DAY)
    assert read(cast, data, at=AT + 15 * DAY) == letter
    with pytest.raises(ExpiredKey, match="replaced"):
        read(cast, data, at=AT + 15 * DAY + SECOND)


def test_an_empty_body_and_the_longest(cast):
    assert read(cast, write(cast, b"")[1]).body == b""
    long = bytes(2 << 20)
    assert read(cast, write(cast, long)[1]).body == long
    with pytest.raises(FormatError, match="too long"):
        write(cast, bytes(3 << 20))


class TestLetterBook:
    def book(self, store, owner="1" * 64):
        return LetterBook(store, owner=owner)

    def test_once(self, cast):
        store, (letter, _) = Store(), write(cast)
        self.book(store).check(letter)
        self.book(store).commit(letter, at=AT)
        for again in (self.book(store).check, lambda one: self.book(store).commit(one, at=AT)):
            with pytest.raises(ReplayedMessage):
                again(letter)

    def test_identities_in_one_store_do_not_see_each_other(self, cast):
        store, (letter, _) = Store(), write(cast)
        self.book(store).commit(letter, at=AT)
        self.book(store, "2" * 64).check(letter)

    def test_one_sender_cannot_use_up_the_ids_of_another(self, cast):
        store, (letter, _) = Store(), write(cast)
        self.book(store).commit(letter, at=AT)
        import msgspec

        self.book(store).check(msgspec.structs.replace(letter, sender="f" * 64))

    def test_what_is_forgotten_has_ended_on_every_clock(self, cast):
        (
            store,
            (old, data),
        ) = Store(), write(cast)
        self.book(store).commit(old, at=AT)
        last = old.expires + 2 * CLOCK_SKEW
        self.book(store).commit(write(cast)[0], at=last)
        with pytest.raises(ReplayedMessage):
            self.book(store).check(old)
        self.book(store).commit(write(cast)[0], at=last + SECOND)
        self.book(store).check(old)
        with pytest.raises(Ended):
            read(cast, data, at=last + SECOND - CLOCK_SKEW)

    def test_others_records_are_not_pruned(self, cast):
        store, (old, _) = Store(), write(cast)
        self.book(store, "2" * 64).commit(old, at=AT)
        self.book(store).commit(write(cast)[0], at=AT + 300 * DAY)
        with pytest.raises(ReplayedMessage):
            self.book(store, "2" * 64).check(old)
