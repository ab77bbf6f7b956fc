import pytest
from notices import Desk
from workshop import AT, CHEAP, DAY, PASSPHRASE, open_descriptors

from counterseal.errors import BadCiphertext, ReplayedMessage
from counterseal.jobs.open import open_sealed
from counterseal.trust.prekeys import prekey_id
from counterseal.trust.store import Store


def test_one_of_the_two(bench):
    path, sender = bench.seal(b"1"), bench.cast.partner(bench.lab)
    for by, passphrase in ((None, None), (bench.clinic, b"p")):
        with pytest.raises(ValueError, match="either"):
            open_sealed(path, sender=sender, by=by, passphrase=passphrase, at=AT)
    with pytest.raises(ValueError, match="keep"):
        open_sealed(path, sender=sender, passphrase=b"p", keep=True, at=AT)


def test_a_card_is_enough(bench):
    with open_sealed(bench.seal(b"1"), by=bench.clinic, sender=bench.lab.card(), at=AT) as package:
        assert package.sender == "lab"


def test_a_failed_opening_leaves_nothing_open(bench):
    path = bench.seal(b"1")
    before = open_descriptors()
    for _ in range(5):
        with pytest.raises(BadCiphertext):
            bench.open(path, by=bench.bank)
    assert open_descriptors() == before


def test_a_kept_key_opens_again_without_the_prekey(bench):
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab, 1)
    path = bench.seal(b"12", to=[partner])
    with bench.open(path, keep=True) as package:
        assert package.forward_secret
    assert bench.clinic.prekeys.ids() == []
    with pytest.raises(ReplayedMessage):
        bench.open(path)
    with bench.open(path, again=True) as package:
        assert package.read(package.names()[0]) == b"12"
        assert not package.forward_secret  # a kept key is not
    with bench.open(path, again=True):
        pass


def test_without_keeping_it_is_gone(bench):
    path = bench.seal(b"12", to=[bench.cast.with_prekeys(bench.clinic, bench.lab, 1)])
    with bench.open(path):
        pass
    with pytest.raises(BadCiphertext, match="prekey"):
        bench.open(path, again=True)


def test_a_passphrase_package_is_remembered_where_one_says(bench):
    path, store = bench.seal(b"1", passphrase=PASSPHRASE, cost=CHEAP), Store()
    sender = bench.cast.partner(bench.lab)

    def open_it(store):
        return open_sealed(path, sender=sender, passphrase=PASSPHRASE, store=store, at=AT)

    with open_it(store):
        pass
    with pytest.raises(ReplayedMessage):
        open_it(store)
    with open_it(None):
        pass
    with pytest.raises(BadCiphertext):
        open_sealed(path, sender=sender, passphrase=b"wrong", at=AT)


def test_what_is_used_up_is_used_up_once(bench):
    """Two openings at the same time: the second to end is the replay."""
    path = bench.seal(b"12")
    first, second = bench.open(path), bench.open(path)
    first.close()
    with pytest.raises(ReplayedMessage):
        second.close()
    second.close()


def test_what_protects_a_package_from_later_theft_is_told_apart(bench):
    desk = Desk(bench.cast)
    lab = desk.take(desk.make(prekeys=1))
    kinds = []
    for day in (0, 1, 2, 15):
        path = bench.seal(b"1", by=bench.clinic, to=[lab], at=AT + day * DAY, overdue=30 * DAY)
        opening = {"by": bench.lab, "sender": bench.clinic, "at": AT + day * DAY}
        with bench.open(path, **opening) as package:
            kinds.append((package.forward_secrecy, package.forward_secret))
    assert kinds == [
        ("one-time", True),
        ("last-resort", False),
        ("last-resort", False),
        ("none", False),
    ]


def test_opening_deletes_a_last_resort_whose_time_is_over(bench):
    desk = Desk(bench.cast)
    lab = desk.take(desk.make(prekeys=1))
    name = prekey_id(lab.prekeys.last_resort.key)
    for day, there in ((20, True), (22, False)):
        at = AT + day * DAY
        path = bench.seal(b"1", by=bench.clinic, to=[bench.cast.partner(bench.lab)], at=at)
        with bench.open(path, by=bench.lab, sender=bench.clinic, at=at):
            pass
        assert (bench.lab.prekeys.kind(name) is not None) == there
