import os
from datetime import timedelta

import pytest
from parley import AT, book_of
from workshop import Cast, flip

from counterseal.errors import (
    BadCiphertext,
    ExpiredKey,
    FormatError,
    QuotaExceeded,
    ReplayedMessage,
    RevokedKey,
    TrustError,
    UnknownVersion,
)
from counterseal.exchange import epoch as epochs
from counterseal.exchange import group_messages
from counterseal.exchange.group_messages import OVERHEAD_BYTES, Seen
from counterseal.exchange.groups import Group, Seat
from counterseal.trust.prekeys import prekey_id
from counterseal.wire import canonical


def seats(*identities):
    return [Seat(identity.history) for identity in identities]


def everybody(cast):
    return book_of([cast.lab, cast.clinic, cast.bank, cast.rival])


def join(cast, epoch, identity, *, at=AT, **more):
    more = {"partners": everybody(cast), "owner": cast.lab.history, **more}
    share = epoch.shares[identity.history.identity]
    return Group.join(epoch.envelope, share, us=identity, at=at, **more)


def advance(cast, group, epoch, identity, *, at=AT, share=..., **more):
    more = {"partners": everybody(cast), "owner": cast.lab.history, **more}
    if share is ...:
        share = epoch.shares.get(identity.history.identity)
    group.advance(epoch.envelope, share, us=identity, at=at, **more)


def founded(cast, *members):
    """(lab's group, the first epoch, each member's group)."""
    ours, epoch = Group.found(cast.lab, seats(*members), at=AT)
    return ours, epoch, [join(cast, epoch, member) for member in members]


@pytest.mark.parametrize("hardware", [(), ("lab",), ("clinic",)])
def test_everybody_reads_everybody(hardware):
    cast = Cast(hardware=hardware)
    ours, _, others = founded(cast, cast.clinic, cast.bank)
    groups = [ours, *others]
    names = [one.history.identity for one in (cast.lab, cast.clinic, cast.bank)]
    assert ours.members == tuple(sorted(names))
    for number, (name, group) in enumerate(zip(names, groups, strict=True)):
        text = b"from %d" % number
        sealed = group.seal(text, at=AT)
        assert len(sealed) == len(text) + OVERHEAD_BYTES
        for reader in groups:
            if reader is not group:
                received = reader.open(sealed, at=AT)
                assert (received.sender, received.message) == (name, text)


def test_a_member_comes_and_another_goes(cast):
    ours, _, (clinic, bank) = founded(cast, cast.clinic, cast.bank)
    second = ours.renew(cast.lab, seats(cast.clinic, cast.rival), at=AT)
    advance(cast, clinic, second, cast.clinic)
    advance(cast, bank, second, cast.bank)
    rival = join(cast, second, cast.rival)
    assert ours.number == clinic.number == bank.number == rival.number == 2
    sealed = ours.seal(b"without bank", at=AT)
    for group in (clinic, rival):
        assert group.open(sealed, at=AT).message == b"without bank"
    for use in (lambda: bank.open(sealed, at=AT), lambda: bank.seal(b"", at=AT)):
        with pytest.raises(TrustError, match="not in this group"):
            use()
    third = ours.renew(cast.lab, seats(cast.clinic, cast.bank), at=AT)
    advance(cast, bank, third, cast.bank)  # it kept up, and may come back
    assert bank.open(ours.seal(b"again", at=AT), at=AT).message == b"again"


def test_an_epoch_is_followed_once_in_order(cast):
    ours, first, (clinic,) = founded(cast, cast.clinic)
    epochs_made = [ours.renew(cast.lab, seats(cast.clinic), at=AT) for _ in range(3)]
    with pytest.raises(TrustError, match="missing"):
        advance(cast, clinic, epochs_made[1], cast.clinic)
    for epoch in epochs_made:
        advance(cast, clinic, epoch, cast.clinic)
    for epoch in (first, *epochs_made):
        with pytest.raises(TrustError):
            advance(cast, clinic, epoch, cast.clinic)
    assert clinic.number == 4


def test_a_refused_epoch_changes_nothing(cast):
    ours, _, (clinic,) = founded(cast, cast.clinic)
    sealed = ours.seal(b"still here", at=AT)
    second = ours.renew(cast.lab, seats(cast.clinic), at=AT)
    with pytest.raises(BadCiphertext):
        advance(cast, clinic, second, cast.clinic, share=None)
    with pytest.raises(FormatError):
        advance(cast, clinic, second, cast.clinic, share=b"\3")
    assert clinic.number == 1
    assert clinic.open(sealed, at=AT).message == b"still here"
    advance(cast, clinic, second, cast.clinic)


def test_only_the_owner_renews(cast):
    _, _, (clinic,) = founded(cast, cast.clinic)
    with pytest.raises(TrustError, match="only the owner"):
        clinic.renew(cast.clinic, [], at=AT)


def test_nobody_is_seated_twice(cast):
    for twice in (seats(cast.clinic, cast.clinic), seats(cast.lab)):
        with pytest.raises(FormatError, match="twice"):
            Group.found(cast.lab, twice, at=AT)


def test_a_revoked_partner_gets_no_seat(cast):
    cast.clinic.revoke(reason="compromised", at=AT)
    with pytest.raises(RevokedKey):
        Group.found(cast.lab, seats(cast.clinic), at=AT)


def test_a_group_that_somebody_else_owns(cast):
    _, epoch, _ = founded(cast, cast.clinic)
    with pytest.raises(TrustError, match="not of"):
        join(cast, epoch, cast.clinic, owner=cast.bank.history)


def test_a_group_of_one(cast):
    ours, epoch = Group.found(cast.lab, [], at=AT)
    assert ours.members == (cast.lab.history.identity,)
    assert len(epoch.shares) == 1


def test_with_prekeys(cast):
    partner = cast.with_prekeys(cast.clinic, cast.lab, count=1)
    public = partner.prekeys.keys[0]
    seat = Seat(partner.history, (prekey_id(public), public.key()))
    _, epoch = Group.found(cast.lab, [seat, Seat(cast.bank.history)], at=AT)
    share = epoch.shares[cast.clinic.history.identity]
    assert len(share) == 1 + 16 + 2 * 1168 + 48
    clinic, bank = join(cast, epoch, cast.clinic), join(cast, epoch, cast.bank)
    assert clinic.spent == prekey_id(public)
    assert bank.spent is None
    assert cast.clinic.prekeys.delete(clinic.spent)
    with pytest.raises(BadCiphertext, match="prekey"):
        join(cast, epoch, cast.clinic)
    assert bank.open(clinic.seal(b"x", at=AT), at=AT).message == b"x"


def test_a_prekey_of_another_suite_is_refused(cast):
    other = Cast(hardware=("clinic",))
    public = other.with_prekeys(other.clinic, other.lab).prekeys.keys[0]
    with pytest.raises(FormatError, match="suite"):
        Group.found(cast.lab, [Seat(cast.clinic.history, ("ab" * 32, public.key()))], at=AT)


def test_a_group_survives_a_restart(cast):
    ours, _, (clinic,) = founded(cast, cast.clinic)
    stored = ours.protect(cast.lab)
    again = Group.restore(stored, us=cast.lab)
    sealed = [ours.seal(b"one", at=AT), again.seal(b"two", at=AT)]
    assert sealed[0][:7] == sealed[1][:7]
    assert sealed[0][7:23] != sealed[1][7:23]  # another run: no key is used twice
    assert [clinic.open(one, at=AT).message for one in sealed] == [b"one", b"two"]
    second = again.renew(cast.lab, seats(cast.clinic), at=AT)
    advance(cast, clinic, second, cast.clinic)
    with pytest.raises(BadCiphertext):
        Group.restore(stored, us=cast.clinic)


def test_a_rotation_of_the_owner_and_of_a_member(cast):
    ours, _, (clinic,) = founded(cast, cast.clinic)
    cast.lab.rotate(at=AT)
    cast.clinic.rotate(at=AT)
    second = ours.renew(cast.lab, seats(cast.clinic), at=AT)
    advance(cast, clinic, second, cast.clinic)
    assert clinic.open(ours.seal(b"x", at=AT), at=AT).message == b"x"


def test_an_epoch_ends_after_thirty_days(cast):
    ours, epoch, (clinic,) = founded(cast, cast.clinic)
    last, late = AT + timedelta(days=30), AT + timedelta(days=30, seconds=1)
    sealed = ours.seal(b"", at=last)
    clinic.open(sealed, at=last)
    for use in (
        lambda: ours.seal(b"", at=late),
        lambda: clinic.open(sealed, at=late),
        lambda: join(cast, epoch, cast.clinic, at=late),
    ):
        with pytest.raises(ExpiredKey):
            use()
    second = ours.renew(cast.lab, seats(cast.clinic), at=late)
    advance(cast, clinic, second, cast.clinic, at=late)
    with pytest.raises(TrustError, match="future"):
        join(cast, second, cast.clinic, at=AT)


class TestMessages:
    def test_in_any_order_each_once(self, cast):
        ours, _, (clinic,) = founded(cast, cast.clinic)
        sealed = [ours.seal(b"%d" % n, at=AT) for n in range(10)]
        for one in reversed(sealed):
            clinic.open(one, at=AT)
        for one in sealed:
            with pytest.raises(ReplayedMessage):
                clinic.open(one, at=AT)

    def test_what_is_far_behind_is_taken_for_a_replay(self):
        seen, run = Seen(), os.urandom(16)
        seen.admit(0, run, 5000)
        seen.admit(0, run, 5000 - group_messages.BEHIND + 1)
        with pytest.raises(ReplayedMessage):
            seen.admit(0, run, 5000 - group_messages.BEHIND)
        with pytest.raises(ReplayedMessage):
            seen.admit(0, run, 5000)
        seen.admit(0, run, 2**63)
        seen.admit(1, run, 5000)
        seen.admit(0, os.urandom(16), 5000)

    def test_a_member_that_never_stops_beginning(self, monkeypatch):
        monkeypatch.setattr(group_messages, "MOST_RUNS", 3)
        seen = Seen()
        for number in range(3):
            seen.admit(0, bytes([number]) * 16, 0)
        with pytest.raises(QuotaExceeded):
            seen.admit(0, b"x" * 16, 0)
        seen.admit(0, bytes(16), 1)

    def test_every_byte_counts(self, cast):
        ours, _, (clinic,) = founded(cast, cast.clinic)
        sealed = ours.seal(b"message", at=AT)
        for place in range(len(sealed)):
            with pytest.raises((BadCiphertext, FormatError, UnknownVersion)):
                clinic.open(flip(sealed, place), at=AT)
        clinic.open(sealed, at=AT)

    def test_sizes(self, cast):
        ours, _, (clinic,) = founded(cast, cast.clinic)
        most = group_messages.GROUP_MESSAGE_BYTES
        assert clinic.open(ours.seal(bytes(most), at=AT), at=AT).message == bytes(most)
        with pytest.raises(ValueError, match="at most"):
            ours.seal(bytes(most + 1), at=AT)
        for size in (0, OVERHEAD_BYTES - 1, most + OVERHEAD_BYTES + 1):
            with pytest.raises(FormatError):
                clinic.open(bytes(size), at=AT)


def test_nothing_secret_in_repr(cast):
    ours, epoch, _ = founded(cast, cast.clinic)
    key = repr(ours._key)[2:-1]
    for shown in (repr(ours), repr(ours._writer), repr(epoch)):
        assert key not in shown
    assert "shares" not in repr(epoch)


def test_what_a_member_costs(cast):
    """SPEC 11 states these: a share each, and a line in the roster."""
    _, one = Group.found(cast.lab, seats(cast.clinic), at=AT)
    _, two = Group.found(cast.lab, seats(cast.clinic, cast.bank), at=AT)
    assert {len(share) for share in two.shares.values()} == {1217}
    line = len(two.envelope.payload) - len(one.envelope.payload)
    assert line == 154  # with its comma
    assert len(canonical.encode(two.envelope)) < epochs.DOCUMENT_BYTES


def test_the_largest_group_fits():
    line, rest = 154, 8192
    assert (epochs.MOST_MEMBERS * line + rest) * 4 / 3 + rest < epochs.DOCUMENT_BYTES
