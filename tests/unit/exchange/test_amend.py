import os
import threading

import pytest
from notices import Desk
from workshop import AT, DAY, PASSPHRASE, Parts, opened

from counterseal.crypto.digest import sha256
from counterseal.errors import BadSignature, FormatError, RevokedKey, TrustError
from counterseal.exchange import amend, reader
from counterseal.exchange.sent import SentBook
from counterseal.jobs.recipients import add_recipient
from counterseal.trust.identity import Identity
from counterseal.trust.prekeys import prekey_id


def add(bench, path, to=None, **more):
    partner = bench.cast.partner(to or bench.bank)
    return add_recipient(path, by=more.pop("by", bench.lab), to=partner, at=AT, **more)


def test_the_payload_stays_where_it_is(bench):
    path = bench.seal({"w": os.urandom(3 << 20)})
    before = Parts.of(path.read_bytes())
    inode = path.stat().st_ino
    header = add(bench, path)
    after = Parts.of(path.read_bytes())
    assert header.recipients == 2
    assert (after.manifest, after.payload) == (before.manifest, before.payload)
    assert after.header.core == before.header.core
    assert path.stat().st_ino == inode
    assert bench.read(path, by=bench.clinic) == bench.read(path, by=bench.bank)


def test_without_room_it_is_written_again(bench):
    """A small package has none: the body moves, and from then on there is room."""
    path = bench.seal({"w": b"weights"})
    bodies, everybody = [], [bench.clinic]
    for number in range(12):
        everybody.append(Identity.create(f"other{number}", at=AT))
        add(bench, path, everybody[-1])
        bodies.append(Parts.of(path.read_bytes()).header.body)
    assert len(set(bodies)) > 1
    assert bodies == sorted(bodies)
    for identity in everybody:
        assert bench.read(path, by=identity) == {"w": b"weights"}
    assert [p.name for p in bench.folder.iterdir() if p.name.startswith(".")] == []


def test_with_a_prekey(bench):
    path = bench.seal({"w": b"1"})
    partner = bench.cast.with_prekeys(bench.bank, bench.lab, 1)
    add_recipient(path, by=bench.lab, to=partner, at=AT)
    with bench.open(path, by=bench.bank) as package:
        assert package.forward_secret
    assert SentBook(bench.lab).prekey_for(partner, at=AT) is None


def test_with_a_last_resort(bench):
    desk = Desk(bench.cast)
    lab = desk.take(desk.make(prekeys=1))
    SentBook(bench.clinic).spend([prekey_id(lab.prekeys.keys[0])])
    for _ in range(2):
        path = bench.seal({"w": b"1"}, by=bench.clinic, to=[bench.bank])
        add_recipient(path, by=bench.clinic, to=lab, at=AT)
        with bench.open(path, by=bench.lab, sender=bench.clinic) as package:
            assert package.forward_secrecy == "last-resort"


def test_who_may_not(bench):
    path = bench.seal({"w": b"1"})
    with pytest.raises(BadSignature):
        add(bench, path, by=bench.rival)
    with pytest.raises(FormatError, match="already"):
        add(bench, path, bench.clinic)
    forgotten = bench.seal({"w": b"1"}, keep_key=False)
    with pytest.raises(TrustError, match="not kept"):
        add(bench, forgotten)
    with pytest.raises(FormatError, match="passphrase"):
        add(bench, bench.seal(b"1", passphrase=PASSPHRASE))
    bench.bank.revoke(reason="lost", at=AT)
    with pytest.raises(RevokedKey):
        add_recipient(path, by=bench.lab, to=bench.bank.card(), at=AT)
    assert bench.read(path) == {"w": b"1"}


def test_our_own_package_outlives_our_rotation(bench):
    path = bench.seal({"w": b"1"})
    bench.lab.rotate(at=AT + 20 * DAY)
    partner = bench.cast.partner(bench.bank)
    add_recipient(path, by=bench.lab, to=partner, at=AT + 40 * DAY)
    later = AT + 40 * DAY
    assert bench.read(path, by=bench.bank, at=later, pinned_at=later) == {"w": b"1"}


def interrupted(bench, path, *, written):
    """As if killed after the journal was whole and `written` bytes of the new front."""
    copy = bench.put(path.read_bytes())
    add(bench, copy)
    data = copy.read_bytes()
    front = data[: reader.layout.parse_fixed(data).end]
    amend.journal_path(path).write_bytes(amend._MAGIC + sha256(front) + front)
    with path.open("r+b") as file:
        file.write(front[:written])


@pytest.mark.parametrize("written", [0, 1, 20, 24, 500, 4096, 6000, 100_000])
def test_a_killed_one_is_read_and_finished(bench, written):
    path = bench.seal({"w": b"1"})
    interrupted(bench, path, written=written)
    for identity in (bench.clinic, bench.bank):
        assert bench.read(path, by=identity) == {"w": b"1"}
    assert amend.journal_path(path).exists()  # a reader may not be able to write
    add(bench, path, bench.rival)
    assert not amend.journal_path(path).exists()
    for identity in (bench.clinic, bench.bank, bench.rival):
        assert bench.read(path, by=identity) == {"w": b"1"}


def test_a_journal_cut_short_changes_nothing(bench):
    path = bench.seal({"w": b"1"})
    interrupted(bench, path, written=0)
    place = amend.journal_path(path)
    data = place.read_bytes()
    for cut in (0, 5, 40, len(data) // 2, len(data) - 1):
        place.write_bytes(data[:cut])
        with opened(path) as descriptor:
            assert amend.pending_front(path, descriptor) is None
        assert bench.read(path) == {"w": b"1"}


def test_what_a_killed_journal_left_is_swept(bench):
    path = bench.seal({"w": b"1"})
    left = path.with_name(f".{amend.journal_path(path).name}.0123456789ab.part")
    left.write_bytes(b"half")
    add(bench, path)
    assert not left.exists()


def test_two_at_once_lose_nothing(bench):
    """Also when the first one replaces the file while the second one waits for its lock."""
    path = bench.seal({"w": b"1"})
    others = [Identity.create(f"other{number}", at=AT) for number in range(8)]
    cards = [bench.cast.partner(other) for other in others]
    errors = []

    def work(partner):
        try:
            add_recipient(path, by=bench.lab, to=partner, at=AT)
        except Exception as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(card,)) for card in cards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Parts.of(path.read_bytes()).header.recipients == 9
    for identity in others:
        assert bench.read(path, by=identity) == {"w": b"1"}
