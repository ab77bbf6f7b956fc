"""What may be done to letters and shipments on their way, and by whom; as in test_package.

A relay owns the store: it has every byte, can change, drop, repeat, reorder and invent. A rival
is an organization with a card that the clinic pinned; it may also be a recipient of the same
package. A partner is the lab itself, without scruples. The thief has keys that were withdrawn.
"""

import os
from datetime import timedelta

import msgspec
import pytest
from post import Post, blocks_of, cut_front
from workshop import (
    AT,
    DAY,
    Bench,
    Cast,
    Cut,
    Parts,
    attack,
    flip,
    forget,
    listed,
    manifest_of,
    undefended,
)

from counterseal.crypto.digest import leaf_digest
from counterseal.errors import (
    Aborted,
    BadCiphertext,
    BadSignature,
    CountersealError,
    Dropped,
    ExpiredKey,
    FormatError,
    PeerMisbehaved,
    ReplayedMessage,
    RevokedKey,
    UnknownVersion,
)
from counterseal.exchange.letter import LIFETIME, Ended, LetterBook
from counterseal.exchange.outbox import Outbox
from counterseal.exchange.receipt import notice_digest
from counterseal.jobs.receive import Arrived, Confirmed, Refused
from counterseal.wire import canonical

MIB = 1 << 20
LETTER = "counterseal.exchange.letter:"
NO_SENDER = Cut(LETTER + "read", "letter.sender != sender.identity", "False")
NO_RECIPIENT = Cut(LETTER + "read", "letter.recipient != by.history.identity", "False")
NO_SIGNATURE = Cut(LETTER + "read", "signed.verify(envelope, LETTER_TYPE, by=dated.card.signing.key())")  # fmt: skip
NO_END = Cut(LETTER + "read", "at > letter.expires", "False")
NO_FUTURE = Cut(LETTER + "read", "letter.created > at + CLOCK_SKEW", "False")
NO_BOOK = (
    Cut(LETTER + "LetterBook.check", "self._store.get(self._KIND, self._key(letter)) is not None", "False"),
)  # fmt: skip
HISTORY = "counterseal.trust.history:"
NO_REVOCATION = (
    Cut(HISTORY + "History.for_signature", "dated.revoked is not None", "False"),
    Cut(HISTORY + "History.current", "newest.revoked is not None", "False"),
)
NO_GRACE = Cut(HISTORY + "History.for_signature", "at > end or made > last", "False")
NO_BLOCK_DIGEST = Cut(
    "counterseal.exchange.incoming:Incoming.put", "leaf_digest(data).hex() != name", "False"
)
RECEIVE = "counterseal.jobs.receive:"
NO_NAMED_PACKAGE = Cut(
    RECEIVE + "_verify",
    "(header.core.package, header.body) != (notice.package, notice.body)",
    "False",
)
NO_FOR_US = Cut(RECEIVE + "_verify", "not any(hint in hints for hint in ours)", "False")
NO_MANIFEST = Cut(
    RECEIVE + "_verify",
    "not equal(_manifest_digest(descriptor, header), header.core.manifest.encode())",
    "False",
)
NO_PACKAGE_SENDER = Cut(RECEIVE + "_verify", "front.verify(sender.history, at=at)")
NO_PACKAGE_TIME = (
    Cut("counterseal.exchange.header:Core.check_time", "self.expires is not None and at > self.expires", "False"),
)  # fmt: skip
NO_RECEIPT_CHECK = Cut(
    "counterseal.exchange.outbox:Outbox.confirm",
    "(posted.partner, posted.notice) != (partner, receipt.notice)",
    "False",
)


def model(bench, size=3 * MIB, **more):
    return bench.seal({"w.bin": os.urandom(size)}, **more)


def sent(bench, **more):
    """An honest shipment of lab to clinic, in the store."""
    post = Post(bench)
    package = model(bench, **more)
    post.send(package)
    return post, package


# ── another organization, with keys of its own ──────────────────────────────────────────────


@attack(BadSignature, NO_RECIPIENT)
def forwarded(bench):
    """Surreptitious forwarding: lab wrote it to rival; rival seals the envelope anew for clinic.
    The package is for both, so nothing but the letter says whom lab wanted to have it when.
    """
    post = Post(bench)
    package = model(bench, to=[bench.clinic, bench.rival])
    post.send(package, to=bench.rival)
    box = post.box(bench.lab, bench.rival)
    (data,) = post.letters(box=box)
    plain = post.plain(data, by=bench.rival)
    blocks = [post.stored(place) for place in post.places("blocks", box=box)]
    post.drop_in(post.sealed(plain), blocks=blocks)
    return post.arrives


@attack(BadSignature, NO_SIGNATURE)
def in_labs_name(bench):
    """Rival's package is honest; its letter says that lab wrote it, with lab's card."""
    post = Post(bench)
    package = model(bench)
    post.ship(package, signer=bench.rival)
    return post.arrives


@attack(BadSignature, NO_SENDER, NO_SIGNATURE)
def in_labs_box(bench):
    post = Post(bench)
    post.ship(model(bench), sender=bench.rival.history.identity, signer=bench.rival)
    return post.arrives


@attack(BadSignature)
def in_labs_box_honestly(bench):
    """A good letter of rival's, in the box where lab's letters lie."""
    post = Post(bench)
    package = model(bench, by=bench.rival)
    post.ship(package, by=bench.rival)
    return post.arrives


@attack(BadSignature)
def moved_to_another_box(bench):
    post, _ = sent(bench)
    for name, data in list(post.objects.stored.items()):
        moved = name.replace(post.box(), post.box(bench.rival))
        post.objects.stored[moved] = post.objects.stored.pop(name, data)
    return post.arrives


@attack(BadCiphertext)
def to_somebody_else(bench):
    post = Post(bench)
    post.ship(model(bench, to=[bench.bank]), to=bench.bank)
    return post.arrives


@attack(BadSignature)
def signed_as_another_document(bench):
    from counterseal.exchange import letter as letters

    post = Post(bench)
    notice, blocks = blocks_of(model(bench))
    letter, _ = letters.write(
        "shipment", canonical.encode(notice), by=bench.lab, to=bench.clinic.history, at=AT
    )
    envelope = bench.lab.sign(letter, "application/vnd.counterseal.package.v1+json", at=AT)
    post.drop_in(post.sealed(canonical.encode(envelope)), blocks=list(blocks.values()))
    return post.arrives


@attack(BadSignature, NO_PACKAGE_SENDER)
def package_of_another_sender(bench):
    """Rival passes lab's package on as its own shipment."""
    post = Post(bench)
    post.ship(model(bench), by=bench.rival, box=post.box(bench.rival))
    return post.arrives


def receipt_of(bench, **change):
    post = Post(bench)
    shipment = post.send(model(bench))
    posted = Outbox(bench.lab).get(shipment.letter)
    by = change.pop("by", bench.clinic)
    change.setdefault("letter", posted.letter)
    post.receipt(posted, by=by, **change)

    def victim():
        events = post.taken(by=bench.lab)
        return any(isinstance(event, Confirmed) for event in events)

    return victim


@attack(BadSignature)
def receipt_for_nothing(bench):
    return receipt_of(bench, letter="f" * 32)


@attack(BadSignature, NO_RECEIPT_CHECK)
def receipt_of_somebody_else(bench):
    """Rival learned the letter's id and confirms what clinic never had."""
    return receipt_of(bench, by=bench.rival)


@attack(BadSignature, NO_RECEIPT_CHECK)
def receipt_of_other_contents(bench):
    return receipt_of(bench, notice=notice_digest(b"another"))


# ── old letters ─────────────────────────────────────────────────────────────────────────────


@attack(ReplayedMessage, *NO_BOOK)
def processed_before(bench):
    """The relay kept it. `receive` says nothing about it; the book is asked here directly."""
    post, _ = sent(bench)
    (data,) = post.letters()
    post.receive()[0].path.unlink()
    book = LetterBook(bench.clinic.store, owner=bench.clinic.history.identity)
    return lambda: book.check(post.read(data)) is None


@attack(Ended, NO_END)
def processed_before_and_forgotten(bench):
    """After its end the record is pruned; then the relay brings it back, blocks and all."""
    post, _ = sent(bench)
    kept = dict(post.objects.stored)
    (arrived,) = post.receive()
    arrived.path.unlink()
    later = AT + LIFETIME + DAY
    bench.at = later
    post.send(model(bench, size=10), at=later)
    post.receive(at=later)[0].path.unlink()
    assert len(bench.clinic.store.items("letter")) == 1
    forget(bench.clinic.store)
    post.objects.stored.update(kept)
    return lambda: post.arrives(at=later)


@attack(ExpiredKey, NO_FUTURE)
def from_the_future(bench):
    post = Post(bench)
    made = canonical.timestamp(AT + DAY)
    post.ship(model(bench), created=made, expires=made + LIFETIME)
    return post.arrives


@attack(RevokedKey, *NO_REVOCATION)
def under_a_revoked_card(bench):
    post, _ = sent(bench)
    bench.lab.revoke(reason="compromised", at=AT)
    return post.arrives


def by_a_thief(bench, *, stolen_until, made):
    """Whoever has the keys of lab's first card writes after lab replaced it."""
    post = Post(bench)
    old = bench.lab.key_id
    package = model(bench)
    bench.lab.rotate(at=AT + timedelta(hours=1))
    from counterseal.exchange import letter as letters
    from counterseal.trust import signed

    notice, blocks = blocks_of(package)
    letter, _ = letters.write(
        "shipment", canonical.encode(notice), by=bench.lab, to=bench.clinic.history, at=made
    )
    letter = msgspec.structs.replace(letter, card=old)
    envelope = signed.sign(letter, letters.LETTER_TYPE, by=[bench.lab.signer_of(old)])
    post.drop_in(post.sealed(canonical.encode(envelope)), blocks=list(blocks.values()))
    return lambda: post.arrives(at=stolen_until)


@attack(ExpiredKey, NO_GRACE)
def under_a_replaced_card(bench):
    return by_a_thief(bench, stolen_until=AT + DAY, made=AT + DAY)


@attack(ExpiredKey, NO_GRACE)
def under_a_replaced_card_dated_back(bench):
    return by_a_thief(bench, stolen_until=AT + 20 * DAY, made=AT + timedelta(hours=1))


# ── a partner without scruples ──────────────────────────────────────────────────────────────


@attack(FormatError, NO_NAMED_PACKAGE, NO_FOR_US)
def blocks_of_another_package(bench):
    """The notice names package A; what it lists is package B. A receipt for A would be wrong."""
    post = Post(bench)
    named = blocks_of(model(bench))[0].package
    post.ship(model(bench), change={"package": named})
    return post.arrives


@attack(BadCiphertext, NO_MANIFEST)
def front_of_one_body_of_another(bench):
    post = Post(bench)
    one, two = model(bench), model(bench)
    notice, blocks = blocks_of(two)
    notice, front = cut_front(notice, one.read_bytes()[: notice.body])
    notice = msgspec.structs.replace(notice, package=blocks_of(one)[0].package)
    pieces = [*front, *[blocks[name] for name in notice.names()[1:]]]
    post.drop_in(post.write(notice), blocks=pieces)
    return post.arrives


@attack(FormatError, NO_FOR_US)
def package_for_somebody_else(bench):
    post = Post(bench)
    post.ship(model(bench, to=[bench.bank]))
    return post.arrives


@attack(FormatError, NO_FOR_US)
def package_for_a_passphrase(bench):
    post = Post(bench)
    post.ship(model(bench, passphrase=b"correct horse battery staple"))
    return post.arrives


@attack(Ended, *NO_PACKAGE_TIME)
def package_that_ended(bench):
    post = Post(bench)
    post.ship(model(bench, expires=DAY))
    return lambda: post.arrives(at=AT + 2 * DAY)


@attack(BadCiphertext)
def no_package_at_all(bench):
    """Blocks and front are in order; behind the front stands nothing that we would open."""
    post = Post(bench)
    notice, blocks = blocks_of(model(bench))
    notice, front = cut_front(notice, os.urandom(notice.body))
    post.drop_in(post.write(notice), blocks=[*front, *list(blocks.values())[1:]])

    def victim():
        try:
            return post.arrives()
        except FormatError as error:
            raise BadCiphertext(error.message) from error

    return victim


@attack(FormatError)
def letter_of_no_known_type(bench):
    post = Post(bench)
    post.drop_in(post.write(b"{}", type_="message"))
    return post.taken


@attack(FormatError)
def letter_that_is_no_letter(bench):
    post = Post(bench)
    post.drop_in(post.sealed(b"hello"))
    return post.taken


@attack(FormatError)
def notice_that_is_a_receipt(bench):
    post = Post(bench)
    post.drop_in(post.write(b'{"kind":"receipt"}'))
    return post.taken


@attack(FormatError)
def name_that_climbs(bench):
    post = Post(bench)
    post.ship(model(bench), change={"file": "../m.sealed"})
    return post.arrives


@attack(FormatError)
def one_block_of_all_our_memory(bench):
    post = Post(bench)
    post.ship(model(bench), change={"block_bytes": 1 << 40})
    return post.arrives


@attack(FormatError)
def size_beyond_all_disks(bench):
    post = Post(bench)
    post.ship(model(bench), change={"size": 1 << 52})
    return post.arrives


# ── the relay ───────────────────────────────────────────────────────────────────────────────


@attack(Aborted, NO_BLOCK_DIGEST)
def changed_block(bench):
    """Deep in the payload, where only opening would notice."""
    post, package = sent(bench)
    place = post.places("blocks")
    name = blocks_of(package)[0].names()[-2]
    (place,) = [one for one in place if one.endswith(name)]
    post.objects.stored[place] = flip(post.stored(place), 500_000)
    return post.arrives


@attack(Aborted)
def longer_block(bench):
    post, _ = sent(bench)
    place = post.places("blocks")[0]
    post.objects.stored[place] += b"\0"
    return post.arrives


@attack(Aborted)
def shorter_block(bench):
    post, _ = sent(bench)
    place = post.places("blocks")[0]
    post.objects.stored[place] = post.stored(place)[:-1]
    return post.arrives


@attack(Aborted, NO_BLOCK_DIGEST)
def blocks_changed_places(bench):
    """Within one shipment. Both have the same length."""
    post, package = sent(bench)
    one, two = (f"boxes/{post.box()}/blocks/{name}" for name in blocks_of(package)[0].names()[2:4])
    stored = post.objects.stored
    stored[one], stored[two] = stored[two], stored[one]
    return post.arrives


@attack(Aborted, NO_BLOCK_DIGEST)
def block_of_another_shipment(bench):
    post, package = sent(bench)
    _, other = blocks_of(model(bench))
    name = blocks_of(package)[0].names()[2]
    data = next(data for data in other.values() if len(data) == MIB)
    post.objects.stored[f"boxes/{post.box()}/blocks/{name}"] = data
    return post.arrives


@attack(Dropped)
def dropped_block(bench):
    post, _ = sent(bench)
    del post.objects.stored[post.places("blocks")[-1]]
    return post.arrives


@attack(BadCiphertext)
def changed_letter(bench):
    post, _ = sent(bench)
    (place,) = post.places()
    post.objects.stored[place] = flip(post.stored(place), -1000)
    return post.arrives


@attack(FormatError)
def invented_letter(bench):
    post = Post(bench)
    post.drop_in(os.urandom(40_000))
    return post.taken


@attack(UnknownVersion)
def letter_of_a_newer_version(bench):
    post, _ = sent(bench)
    (place,) = post.places()
    (data,) = post.letters()
    post.objects.delete(place)
    post.drop_in(data[:6] + b"\2" + data[7:])
    return post.taken


ATTACKS = {
    "a letter to rival cannot be passed on to the clinic": forwarded,
    "rival cannot write in lab's name": in_labs_name,
    "rival cannot write as itself into lab's box": in_labs_box,
    "an honest letter of rival's in lab's box is not lab's": in_labs_box_honestly,
    "a letter that is moved to another box is refused": moved_to_another_box,
    "a letter to somebody else does not open": to_somebody_else,
    "an envelope signed as another kind of document is refused": signed_as_another_document,
    "a package of another sender cannot be passed on": package_of_another_sender,
    "a receipt for something that was never sent is refused": receipt_for_nothing,
    "a receipt by another partner is refused": receipt_of_somebody_else,
    "a receipt for other contents is refused": receipt_of_other_contents,
    "a letter that was processed is not processed again": processed_before,
    "nor after its record was forgotten": processed_before_and_forgotten,
    "a letter from the future is refused": from_the_future,
    "a letter under a revoked card is refused": under_a_revoked_card,
    "a letter made after the card was replaced is refused": under_a_replaced_card,
    "nor does dating it back help for ever": under_a_replaced_card_dated_back,
    "a notice of package A with the blocks of package B is refused": blocks_of_another_package,
    "the front of A with the body of B is refused": front_of_one_body_of_another,
    "a package for another recipient is refused": package_for_somebody_else,
    "a package for a passphrase is refused": package_for_a_passphrase,
    "a package that ended is refused": package_that_ended,
    "blocks that make no package are refused": no_package_at_all,
    "a letter of an unknown type is refused": letter_of_no_known_type,
    "something else, sealed for us, is refused": letter_that_is_no_letter,
    "a receipt in the place of a notice is refused": notice_that_is_a_receipt,
    "a name that leads out of the folder is refused": name_that_climbs,
    "a block as large as our memory is refused": one_block_of_all_our_memory,
    "a size beyond all disks is refused": size_beyond_all_disks,
    "a changed block is refused": changed_block,
    "a longer block is refused": longer_block,
    "a shorter block is refused": shorter_block,
    "two blocks cannot change places": blocks_changed_places,
    "a block of another shipment does not fit": block_of_another_shipment,
    "a block that is dropped is missed": dropped_block,
    "a changed letter is refused": changed_letter,
    "an invented letter is refused": invented_letter,
    "a letter of a newer version is not guessed at": letter_of_a_newer_version,
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_is_refused(sentence, bench):
    ATTACKS[sentence].is_refused(bench)
    assert not any(not name.startswith(".") for name in listed(bench.folder / "inbox"))


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_works_without_the_defence(sentence, bench, monkeypatch):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)


@pytest.mark.parametrize("hardware", [(), ("lab", "clinic")], ids=["software", "hardware"])
def test_the_honest_shipment_arrives(tmp_path, hardware):
    """The control of everything above; also by hand, with the tools of the attackers."""
    bench = Bench(Cast(hardware=hardware), tmp_path)
    post, package = sent(bench)
    assert post.arrives()
    assert bench.read(post.inbox / package.name) == bench.read(package)
    other = model(bench)
    post.ship(other)
    assert post.arrives()
    assert (post.inbox / other.name).read_bytes() == other.read_bytes()


# ── what a relay can do without being noticed: nothing that matters ─────────────────────────


def test_a_relay_learns_nothing_but_sizes_and_boxes(bench):
    """No name, no identity, no key id, no file name, no byte of header or stanza is stored."""
    post = Post(bench)
    package = bench.seal({"the-weights.bin": os.urandom(100_000)}, model="brain-scan")
    package = package.rename(package.with_name("for-the-clinic.sealed"))
    post.send(package)
    kept = dict(post.objects.stored)
    post.receive()
    kept |= post.objects.stored  # receipts too
    data = package.read_bytes()
    parts = Parts.of(data)
    core = parts.header.core
    notice, _ = blocks_of(package)
    manifest, _ = manifest_of(package, bench.key(package, bench.clinic))
    in_clear = [str(package).encode(), data, canonical.encode(notice), manifest.encode(4096)]
    in_clear.append(parts.envelope.payload)
    secrets = [b"for-the-clinic", b"the-weights", b"brain-scan", b"counterseal", b'"kind":"']
    for identity in (bench.lab, bench.clinic):
        secrets += [f'"{identity.name}"'.encode(), identity.key_id.encode()]
        secrets += [bytes.fromhex(identity.key_id)]
        in_clear += [canonical.encode(identity.history.newest.card), *secrets[-2:]]
    secrets += [core.package.encode(), core.commitment.encode(), bytes.fromhex(core.package)]
    in_clear.append(bytes.fromhex(notice.package))
    end = parts.header.body - len(parts.gap)
    secrets += [data[at : at + 12] for at in range(0, end - 12, 7)]
    secrets = [secret for secret in secrets if any(secret)]
    for name, stored in kept.items():
        found = [secret for secret in secrets if secret in stored or secret in name.encode()]
        assert not found, (name, found)
    assert len(kept) >= 4
    # The control: before it is sealed, each of them is there.
    assert all(any(secret in text for text in in_clear) for secret in secrets)


def test_two_shipments_cannot_be_told_to_have_one_recipient(bench):
    """Boxes of one recipient, or one sender, share nothing."""
    post = Post(bench)
    boxes = [post.box(bench.lab, one) for one in (bench.clinic, bench.bank, bench.rival)]
    boxes += [post.box(one, bench.clinic) for one in (bench.bank, bench.rival)]
    boxes += [post.box(bench.clinic, bench.lab)]
    assert len(set(boxes)) == len(boxes)


def test_receipts_notices_and_requests_have_one_length(bench):
    post, _ = sent(bench, size=10)
    post.receive()
    (receipt,) = post.letters(box=post.box(bench.clinic, bench.lab))
    post.send(model(bench))
    (notice,) = post.letters()
    assert len(receipt) == len(notice)


def test_every_part_of_a_letter_counts(bench):
    """A bit changed anywhere in what is stored: never taken, and never a crash."""
    post, _ = sent(bench, size=10)
    (place,) = post.places()
    honest = dict(post.objects.stored)
    size = len(post.stored(place))
    for at in [*range(0, 100, 3), *range(100, size, 1801)]:
        post.objects.stored = dict(honest)
        post.objects.stored[place] = flip(honest[place], at, at % 8)
        events = post.receive()
        named = at < 4 + 32 * 2
        assert named or [type(event) for event in events] == [Refused], at
        if events and isinstance(events[0], Arrived):
            events[0].path.unlink()  # the list for the store is nobody's promise
            return_to_start(bench)


def return_to_start(bench):
    for key, _ in bench.clinic.store.items("letter"):
        bench.clinic.store.delete("letter", key)


@pytest.mark.parametrize("count", [2, 3])
def test_repeated_and_reordered_letters(bench, count):
    """Each package once, in whatever order the relay shows the letters, and however often."""
    post = Post(bench)
    packages = [model(bench, size=1000 * n) for n in range(1, count + 1)]
    for package in packages:
        post.send(package)
    for number, place in enumerate(reversed(post.places())):
        data = post.stored(place)
        post.objects.stored[f"boxes/{post.box()}/letters/{number:020d}-{'a' * 32}"] = data
        post.objects.stored[f"boxes/{post.box()}/letters/{9 * 10**19 + number:020d}-{'b' * 32}"] = (
            data
        )
    kept = dict(post.objects.stored)
    events = post.receive()
    assert sorted(event.path.name for event in events) == sorted(p.name for p in packages)
    post.objects.stored.update(kept)
    assert post.receive() == []
    assert listed(post.inbox) == sorted(package.name for package in packages)
    confirmed = [event for event in post.receive(by=bench.lab) if isinstance(event, Confirmed)]
    assert {event.package for event in confirmed} == {blocks_of(p)[0].package for p in packages}
    assert all(one.state == "confirmed" for one in Outbox(bench.lab).list())


def test_a_replayed_receipt_confirms_nothing_new(bench):
    post, _ = sent(bench, size=10)
    post.receive()
    kept = dict(post.objects.stored)
    assert len(post.receive(by=bench.lab)) == 1
    second = post.send(model(bench, size=10))
    post.objects.stored.update(kept)
    assert post.receive(by=bench.lab) == []
    assert Outbox(bench.lab).get(second.letter).state == "posted"


def test_a_changed_block_does_not_cost_the_letter(bench):
    """Taken for the letter's fault, a relay with one bit could have every shipment deleted and
    its sender told nothing. It stays, what arrived stays, and sending again repairs it.
    """
    post, package = sent(bench)
    place = f"boxes/{post.box()}/blocks/{blocks_of(package)[0].names()[-1]}"
    post.objects.stored[place] = flip(post.stored(place), 7)
    (refused,) = post.receive()
    assert isinstance(refused.error, PeerMisbehaved)
    assert not refused.removed
    assert len(post.places()) == 1
    post.send(package)
    arrived = [event for event in post.receive() if isinstance(event, Arrived)]
    assert arrived[0].kept > 0
    assert (post.inbox / package.name).read_bytes() == package.read_bytes()


def test_a_flood_of_rubbish_does_not_hide_a_letter(bench):
    post, package = sent(bench, size=10)
    for number in range(30):
        post.drop_in(os.urandom(200), number=number)
        post.drop_in(post.letters()[0][:-1], number=number)
    events = post.receive()
    assert [event.path.name for event in events if isinstance(event, Arrived)] == [package.name]
    assert all(event.removed for event in events if isinstance(event, Refused))
    assert post.receive() == []


@pytest.mark.parametrize("who", ["lab", "rival"])
def test_a_partner_cannot_fill_our_disk_with_a_letter(bench, who):
    """A terabyte is announced; nothing comes. Nothing is reserved and nothing is left."""
    post = Post(bench)
    by = getattr(bench, who)
    notice, _ = blocks_of(model(bench, size=10, by=by))
    size = 4 << 40
    from counterseal.exchange.shipment import block_bytes_for

    block = block_bytes_for(size)
    count = -(-(size - notice.body) // block)
    names = b"".join(leaf_digest(b"%d" % number) for number in range(count))
    notice = msgspec.structs.replace(notice, size=size, block_bytes=block, blocks=names)
    post.drop_in(post.write(notice, by=by), box=post.box(by))
    (refused,) = post.receive()
    assert isinstance(refused.error, CountersealError)
    assert listed(post.inbox) == []


def test_who_owns_the_store_and_all_keys_of_the_recipient_later(bench):
    """The package has forward secrecy from its prekey; its letter, sealed to the card alone,
    tells the thief of that card who sent what when, and nothing of the model.
    """
    clinic = bench.cast.with_prekeys(bench.clinic, bench.lab)
    package = bench.seal({"w.bin": b"weights"}, to=[clinic])
    post = Post(bench)
    post.send(package)
    recorded = dict(post.objects.stored)
    (arrived,) = post.receive()
    bench.read(arrived.path, remember=True)  # the prekey is gone
    forget(bench.clinic.store)
    thief = Post(bench)
    thief.objects.stored.update(recorded)
    return_to_start(bench)
    arrived.path.unlink()
    (taken,) = thief.receive()
    with pytest.raises(BadCiphertext, match="prekey"):
        bench.read(taken.path)
