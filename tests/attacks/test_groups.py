"""Attacks on a group: by a member that was removed, one that is new, the owner, the network.

lab owns the group with clinic and bank in it; rival has an identity that all have pinned.
"""

import os
from dataclasses import dataclass, field, replace
from datetime import timedelta
from unittest import mock

import msgspec
import pytest
from parley import AT, book_of
from workshop import Cut, attack, undefended

from counterseal.errors import (
    BadCiphertext,
    BadSignature,
    ExpiredKey,
    FormatError,
    ReplayedMessage,
    RevokedKey,
    RolledBack,
    TrustError,
    UnknownPartner,
)
from counterseal.exchange import epoch as epochs
from counterseal.exchange.epoch import EPOCH_TYPE, Member
from counterseal.exchange.groups import Group, Seat
from counterseal.trust.prekeys import PREKEYS_TYPE, prekey_id

GROUPS, EPOCH, CHECK = (
    f"counterseal.exchange.{name}" for name in ("groups", "epoch", "epoch_check")
)
SAME_KEY = Cut(f"{EPOCH}:make", "key = os.urandom(KEY_BYTES)", "key = bytes(KEY_BYTES)")


@dataclass
class Party:
    """A group with its owner, clinic and bank; lets anybody try anything."""

    bench: object
    ours: Group = None
    first: object = None
    groups: dict = field(default_factory=dict)

    def __post_init__(self):
        bench = self.bench
        seats = [Seat(bench.clinic.history), Seat(bench.bank.history)]
        self.ours, self.first = Group.found(bench.lab, seats, at=AT)
        for name in ("clinic", "bank"):
            self.groups[name] = self.join(self.first, name)

    def identity(self, name):
        return getattr(self.bench, name)

    def book(self, known=("lab", "clinic", "bank", "rival")):
        return book_of([self.identity(name) for name in known])

    def share(self, epoch, name):
        return epoch.shares.get(self.identity(name).history.identity)

    def join(self, epoch, name, **more):
        more = {"share": self.share(epoch, name), "owner": self.bench.lab.history, "at": AT, **more}
        more.setdefault("partners", self.book())
        return Group.join(epoch.envelope, us=self.identity(name), **more)

    def advance(self, epoch, name, **more):
        more = {"share": self.share(epoch, name), "owner": self.bench.lab.history, "at": AT, **more}
        more.setdefault("partners", self.book())
        self.groups[name].advance(epoch.envelope, us=self.identity(name), **more)
        return self.groups[name]

    def renew(self, *names):
        return self.ours.renew(
            self.bench.lab, [Seat(self.identity(name).history) for name in names], at=AT
        )

    def signed(self, document, by=None, kind=EPOCH_TYPE):
        """Any document as an epoch, signed by somebody."""
        return (by or self.bench.lab).sign(document, kind, at=AT)

    def next(self, *names, by=None, **changed):
        """The next epoch, with fields of its document changed before it is signed and sealed."""
        by = by or self.bench.lab
        honest = by.sign

        def sign(document, kind, *, at):
            return honest(msgspec.structs.replace(document, **changed), kind, at=at)

        with mock.patch.object(by, "sign", sign):
            made = epochs.make(
                by,
                [Seat(self.identity(name).history) for name in names],
                group=self.ours.id,
                number=self.ours.number + 1,
                previous=self.ours._digest.hex(),
                at=AT,
            )
        return replace(made, document=msgspec.structs.replace(made.document, **changed))


# --- who is not in it


@attack(BadCiphertext, SAME_KEY)
def removed_reads_on(bench):
    """Bank keeps everything that it ever had: its group at epoch 1, every document and share."""
    party = Party(bench)
    second = party.renew("clinic")
    party.advance(second, "clinic")
    sealed = party.ours.seal(b"without bank", at=AT)

    def victim():
        bank = party.groups["bank"]
        bank._document, bank._digest = second.document, party.ours._digest  # what it saw go by
        return bank.open(sealed, at=AT).message == b"without bank"

    return victim


@attack(BadCiphertext)
def removed_takes_a_share_of_another(bench):
    party = Party(bench)
    second = party.renew("clinic")
    share, digest = party.share(second, "clinic"), epochs.epoch_digest(second.envelope)
    return lambda: epochs.open_share(share, second.document, digest, us=bench.bank)


@attack(BadCiphertext, SAME_KEY)
def new_reads_back(bench):
    party = Party(bench)
    sealed = party.ours.seal(b"before rival", at=AT)
    first, digest = party.ours._document, party.ours._digest
    second = party.renew("clinic", "bank", "rival")
    rival = party.join(second, "rival")

    def victim():
        rival._document, rival._digest = first, digest
        return rival.open(sealed, at=AT).message == b"before rival"

    return victim


@attack(BadCiphertext)
def removed_writes_on(bench):
    party = Party(bench)
    second = party.renew("clinic")
    party.advance(second, "clinic")
    sealed = party.groups["bank"].seal(b"still me", at=AT)
    return lambda: party.groups["clinic"].open(sealed, at=AT)


@attack(BadCiphertext)
def a_stranger_writes(bench):
    """Rival founds a group of its own with the same members and the same number."""
    party = Party(bench)
    seats = [Seat(bench.clinic.history), Seat(bench.bank.history)]
    other, _ = Group.found(bench.rival, seats, at=AT)
    sealed = other.seal(b"x", at=AT)
    return lambda: party.groups["clinic"].open(sealed, at=AT)


# --- epochs


ANY_NEXT = Cut(f"{GROUPS}:Group.advance", "self._check_next(document, envelope)")


@attack(RolledBack, ANY_NEXT)
def led_back(bench):
    """The network shows clinic the old epoch again, in which bank still listens.

    Both were made within a second, so their times do not tell them apart.
    """
    party = Party(bench)
    second = party.renew("clinic")
    party.advance(second, "clinic")

    def victim():
        clinic = party.advance(party.first, "clinic")
        sealed = clinic.seal(b"not for bank", at=AT)
        return party.groups["bank"].open(sealed, at=AT).message == b"not for bank"

    return victim


@attack(RolledBack, ANY_NEXT)
def forked(bench):
    """The owner makes two epochs 2: clinic and bank would each see another group."""
    party = Party(bench)
    for_clinic = party.next("clinic", "bank")
    for_bank = party.next("clinic", "bank", "rival")
    party.advance(for_clinic, "clinic")
    return lambda: party.advance(for_bank, "clinic").number == 2


@attack(TrustError, ANY_NEXT)
def a_removal_left_out(bench):
    """Epoch 2 without bank never arrives; epoch 3, with it again, does."""
    party = Party(bench)
    party.renew("clinic")
    third = party.renew("clinic", "bank")
    return lambda: party.advance(third, "clinic").number == 3


@attack(RolledBack, ANY_NEXT)
def of_another_past(bench):
    party = Party(bench)
    made = party.next("clinic", "bank", previous="ab" * 32)
    return lambda: party.advance(made, "clinic").number == 2


@attack(TrustError, ANY_NEXT)
def of_another_group(bench):
    party = Party(bench)
    other, _ = Group.found(bench.lab, [Seat(bench.clinic.history)], at=AT)
    made = other.renew(bench.lab, [Seat(bench.clinic.history)], at=AT)
    return lambda: party.advance(made, "clinic").id == other.id


@attack(
    FormatError,
    Cut(f"{GROUPS}:Group.advance", "document.created < self._document.created", "False"),
)
def made_before_the_last(bench):
    party = Party(bench)
    made = party.next("clinic", "bank", created=AT - timedelta(hours=1))
    return lambda: party.advance(made, "clinic").number == 2


@attack(TrustError, Cut(f"{GROUPS}:Group.advance", "owner.identity != self.owner", "False"))
def made_by_a_member(bench):
    """Bank takes the group over: an epoch that names bank as its owner, and is signed by it."""
    party = Party(bench)
    made = party.next("clinic", "lab", by=bench.bank)
    return lambda: party.advance(made, "clinic", owner=bench.bank.history).number == 2


@attack(
    BadSignature,
    Cut(f"{CHECK}:verified", "signed.verify(envelope, EPOCH_TYPE, by=dated.card.signing.key())"),
)
def signed_by_a_member(bench):
    party = Party(bench)
    made = party.next(
        "clinic", by=bench.bank, owner=bench.lab.history.identity, card=bench.lab.key_id,
        roster=tuple(
            Member(identity=one.history.identity, card=one.key_id)
            for one in sorted((bench.bank, bench.clinic, bench.lab), key=lambda i: i.history.identity)
        ),
    )  # fmt: skip
    return lambda: party.advance(made, "clinic").number == 2


@attack(BadSignature)
def signed_as_something_else(bench):
    party = Party(bench)
    made = party.next("clinic", "bank")
    envelope = party.signed(made.document, kind=PREKEYS_TYPE)
    made = replace(made, envelope=envelope)
    return lambda: party.advance(made, "clinic")


@attack(
    BadSignature,
    Cut(f"{CHECK}:verified", "signed.verify(envelope, EPOCH_TYPE, by=dated.card.signing.key())"),
)
def changed_on_the_way(bench):
    """The network takes bank's seat away; nothing but the signature would tell clinic."""
    party = Party(bench)
    made = party.next("clinic", "bank")
    from counterseal.wire import canonical

    roster = tuple(m for m in made.document.roster if m.identity != bench.clinic.history.identity)
    document = msgspec.structs.replace(made.document, roster=roster)
    made = replace(
        made, envelope=msgspec.structs.replace(made.envelope, payload=canonical.encode(document))
    )

    def victim():
        party.advance(made, "clinic")  # clinic believes it was removed
        return not party.groups["clinic"]._key

    return victim


# --- the roster


@attack(
    UnknownPartner,
    Cut(
        f"{CHECK}:check_roster",
        "if history is None:",
        "if history is None: continue\n        if False:",
    ),
)
def a_ghost(bench):
    """The owner, or a thief of its keys, seats somebody whom clinic has never heard of."""
    party = Party(bench)
    second = party.next("clinic", "bank", "rival")
    known = party.book(("lab", "clinic", "bank"))

    def victim():
        party.advance(second, "clinic", partners=known)
        rival = party.join(second, "rival")
        sealed = party.groups["clinic"].seal(b"among us", at=AT)
        return rival.open(sealed, at=AT).message == b"among us"

    return victim


@attack(RevokedKey, Cut(f"{CHECK}:check_roster", "history.unrevoked(member.card)"))
def a_revoked_seat(bench):
    """The owner has not heard yet that bank's keys were stolen; clinic has."""
    party = Party(bench)
    second = party.next("clinic", "bank")
    bench.bank.revoke(reason="compromised", at=AT)
    return lambda: party.advance(second, "clinic").number == 2


@attack(TrustError)
def a_card_that_clinic_does_not_know(bench):
    party = Party(bench)
    before = party.book()
    bench.bank.rotate(at=AT)
    second = party.next("clinic", "bank")
    return lambda: party.advance(second, "clinic", partners=before)


ORDERED = Cut(
    f"{CHECK}:check_roster", "names != sorted(set(names)) or owner.identity not in names", "False"
)


def roster(change):
    @attack(FormatError, ORDERED)
    def row(bench):
        party = Party(bench)
        everybody = party.next("clinic", "bank").document.roster
        made = party.next("clinic", "bank", roster=tuple(change(list(everybody), bench)))
        return lambda: party.advance(made, "clinic").number == 2

    return row


def without_owner(members, bench):
    return [m for m in members if m.identity != bench.lab.history.identity]


@attack(RevokedKey)
def a_revoked_owner(bench):
    party = Party(bench)
    second = party.renew("clinic", "bank")
    bench.lab.revoke(reason="compromised", at=AT)
    return lambda: party.advance(second, "clinic")


@attack(ExpiredKey, Cut(f"{CHECK}:check_times", "at > document.created + LIFETIME", "False"))
def frozen(bench):
    """Clinic loses its state; the network shows it the epoch of two months ago."""
    party = Party(bench)
    late = AT + timedelta(days=60)
    return lambda: party.join(party.first, "clinic", at=late).number == 1


@attack(TrustError, Cut(f"{CHECK}:check_times", "document.created > at + CLOCK_SKEW", "False"))
def from_the_future(bench):
    """One that never ends."""
    party = Party(bench)
    bench.lab.rotate(at=AT)
    made = party.next("clinic", "bank", created=AT + timedelta(days=200))
    return lambda: party.advance(made, "clinic").number == 2


# --- shares


def sealed_by_rival(party, made, name, key):
    """A share that anybody can make: HPKE does not tell who sealed it."""
    member = party.identity(name)
    dated = member.history.newest
    digest = epochs.epoch_digest(made.envelope)
    to = dated.card.agreement.key()
    return epochs._seal_share(key, digest, dated.key_id, to, Seat(member.history))


@attack(
    BadCiphertext,
    Cut(f"{EPOCH}:open_share", "not equal(expected, bytes.fromhex(document.commitment))", "False"),
)
def another_key(bench):
    """The network hands clinic a share of a key that rival knows."""
    party = Party(bench)
    made, key = party.next("clinic", "bank"), os.urandom(32)
    share = sealed_by_rival(party, made, "clinic", key)
    return lambda: party.advance(made, "clinic", share=share)._key == key


def share_of(choose):
    @attack(BadCiphertext)
    def row(bench):
        party = Party(bench)
        made = party.next("clinic", "bank")
        return lambda: party.advance(made, "clinic", share=choose(party, made))

    return row


def of_an_equal_group(party, made):
    other, _ = Group.found(
        party.bench.lab, [Seat(party.bench.clinic.history), Seat(party.bench.bank.history)], at=AT
    )
    return party.share(
        other.renew(party.bench.lab, [Seat(party.bench.clinic.history)], at=AT), "clinic"
    )


def changed(party, made):
    share = bytearray(party.share(made, "clinic"))
    share[600] ^= 1
    return bytes(share)


# --- messages


def message(error, change, *cuts):
    @attack(error, *cuts)
    def row(bench):
        party = Party(bench)
        sealed = party.ours.seal(b"from lab", at=AT)

        def victim():
            received = [party.groups["clinic"].open(one, at=AT) for one in change(sealed, party)]
            return [one.message for one in received] != [b"from lab"] or (
                received[0].sender != bench.lab.history.identity
            )

        return victim

    return row


def other_seat(sealed, party):
    seat = int.from_bytes(sealed[5:7], "big")
    return [sealed[:5] + ((seat + 1) % 3).to_bytes(2, "big") + sealed[7:]]


HEAD = Cut(
    "counterseal.exchange.group_messages:_message_key",
    "digest, head, bytes.fromhex(identity)",
    "digest",
)


TABLE = {
    "a removed member cannot read on": removed_reads_on,
    "a removed member cannot use the share of another": removed_takes_a_share_of_another,
    "a new member cannot read back": new_reads_back,
    "a removed member cannot write on": removed_writes_on,
    "a message of another group is refused": a_stranger_writes,
    "an old epoch is a rollback": led_back,
    "two epochs with one number are a fork": forked,
    "an epoch cannot be left out": a_removal_left_out,
    "an epoch that follows another past is refused": of_another_past,
    "an epoch of another group is refused": of_another_group,
    "an epoch made before the last is refused": made_before_the_last,
    "a member cannot take the group over": made_by_a_member,
    "a member cannot sign for the owner": signed_by_a_member,
    "an epoch signed as something else is refused": signed_as_something_else,
    "a changed document is refused": changed_on_the_way,
    "a member that nobody knows is refused": a_ghost,
    "a member with a revoked key is refused": a_revoked_seat,
    "a member with an unknown card is refused": a_card_that_clinic_does_not_know,
    "a member listed twice is refused": roster(lambda members, _: [members[0], *members]),
    "a roster out of order is refused": roster(lambda members, _: members[::-1]),
    "a roster without the owner is refused": roster(without_owner),
    "an owner with a revoked key is refused": a_revoked_owner,
    "a frozen epoch is refused": frozen,
    "an epoch from the future is refused": from_the_future,
    "a share of a key that the owner did not sign is refused": another_key,
    "a missing share is refused": share_of(lambda _party, _made: None),
    "the share of another member is refused": share_of(lambda p, made: p.share(made, "bank")),
    "the share of an earlier epoch is refused": share_of(lambda p, _: p.share(p.first, "clinic")),
    "the share of an equal group is refused": share_of(of_an_equal_group),
    "a changed share is refused": share_of(changed),
    "a message is received once": message(
        ReplayedMessage,
        lambda sealed, _: [sealed, sealed],
        Cut("counterseal.exchange.group_messages:read", "seen.admit(seat, run, number)"),
    ),
    "a message cannot be given another sender": message(BadCiphertext, other_seat, HEAD),
    "a message cannot be given another number": message(
        BadCiphertext, lambda sealed, _: [sealed, sealed[:30] + b"\7" + sealed[31:]], HEAD
    ),
}


@pytest.mark.parametrize("sentence", TABLE)
def test_an_attack_is_refused(sentence, bench):
    TABLE[sentence].is_refused(bench)


@pytest.mark.parametrize("sentence", undefended(TABLE))
def test_without_its_check_the_attack_works(sentence, bench, monkeypatch):
    TABLE[sentence].works_undefended(bench, monkeypatch)


def test_a_relay_learns_no_identity_from_messages_and_shares(bench):
    party = Party(bench)
    seen = party.ours.seal(b"x", at=AT) + b"".join(party.first.shares.values())
    for name in ("lab", "clinic", "bank"):
        identity = party.identity(name)
        assert bytes.fromhex(identity.history.identity) not in seen
        assert bytes.fromhex(identity.key_id) not in seen


@pytest.mark.parametrize("with_prekey", [True, False])
def test_later_theft_of_all_long_term_keys(with_prekey, bench):
    """With a prekey that was deleted the epoch stays closed; without one it opens."""
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab, count=1)
    public = partner.prekeys.keys[0]
    prekey = (prekey_id(public), public.key()) if with_prekey else None
    _, epoch = Group.found(bench.lab, [Seat(bench.clinic.history, prekey)], at=AT)
    share = epoch.shares[bench.clinic.history.identity]
    clinic = Group.join(
        epoch.envelope, share, us=bench.clinic, owner=bench.lab.history, partners={}.get, at=AT
    )
    if clinic.spent is not None:
        bench.clinic.prekeys.delete(clinic.spent)
    digest = epochs.epoch_digest(epoch.envelope)

    def thief():  # has clinic's key ring and store, and recorded document and share
        return epochs.open_share(share, epoch.document, digest, us=bench.clinic)

    if with_prekey:
        with pytest.raises(BadCiphertext):
            thief()
    else:
        assert thief()[0] == clinic._key


def test_members_cannot_be_told_from_each_other_within_an_epoch(bench):
    """LIMITATIONS: whoever has the epoch key can write under any seat."""
    party = Party(bench)
    bank = party.groups["bank"]
    bank._writer._seat = party.ours._document.seat(bench.lab.history.identity)
    bank._writer._identity = bench.lab.history.identity
    received = party.groups["clinic"].open(bank.seal(b"as lab", at=AT), at=AT)
    assert received.sender == bench.lab.history.identity
