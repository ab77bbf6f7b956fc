"""Old packages, old keys, old cards: attacks by whoever recorded something or stole a key.

The clock stands at `AT` unless a row moves it.
"""

import pytest
from workshop import AT, DAY, Cut, attack, undefended

from counterseal.errors import (
    BadCiphertext,
    BadSignature,
    ExpiredKey,
    ReplayedMessage,
    RevokedKey,
    RolledBack,
)
from counterseal.exchange.sent import SentBook
from counterseal.trust.partner import Partner
from counterseal.trust.store import Store

OLD, NEW = {"w.bin": b"old"}, {"w.bin": b"new"}
NO_REPLAY = Cut(
    "counterseal.exchange.replay:_check_replay", "opened is not None and not again", "False"
)
NO_ROLLBACK = Cut(
    "counterseal.exchange.replay:decide",
    "mark is not None and arrival.version < mark.version",
    "False",
)
NO_CONTRADICTION = Cut(
    "counterseal.exchange.replay:decide",
    "mark is not None and arrival.version == mark.version and arrival.content != mark.content",
    "False",
)
NO_TIME = Cut(
    "counterseal.exchange.header:Core.check_time",
    "self.expires is not None and at > self.expires",
    "False",
)
HISTORY = "counterseal.trust.history:"
NO_REVOCATION = (
    Cut(HISTORY + "History.for_signature", "dated.revoked is not None", "False"),
    Cut(HISTORY + "History.current", "newest.revoked is not None", "False"),
)
NO_GRACE = Cut(HISTORY + "History.for_signature", "at > end or made > last", "False")
NO_CARD_EXPIRY = Cut(HISTORY + "History.current", "newest.card.expired(at=at)", "False")
KEEP_PREKEYS = Cut(
    "counterseal.trust.prekeystore:PrekeyStore.delete",
    'self._delete("one-time", identifier)',
    "True",
)


@attack(ReplayedMessage, NO_REPLAY)
def replay(bench):
    path = bench.seal(OLD)
    bench.read(path, remember=True)
    return lambda: bench.read(path, remember=True) == OLD


@attack(RolledBack, NO_ROLLBACK)
def rollback(bench):
    old, new = bench.seal(OLD), bench.seal(NEW)
    bench.read(new, remember=True)
    return lambda: bench.read(old, remember=True) == OLD


@attack(RolledBack, NO_CONTRADICTION)
def same_version(bench):
    """lab's second machine, or its thief, gives out version 1 once more."""
    first = bench.seal(OLD)
    bench.lab.store = Store()
    second = bench.seal(NEW)
    bench.read(first, remember=True)
    return lambda: bench.read(second, remember=True) == NEW


@attack(ExpiredKey, NO_TIME)
def expired(bench):
    path = bench.seal(OLD, expires=DAY)
    return lambda: bench.read(path, at=AT + 2 * DAY) == OLD


@attack(RevokedKey, *NO_REVOCATION)
def revoked(bench):
    """Whoever stole lab's key seals with it; lab has revoked it, clinic has heard of it."""
    path = bench.seal(OLD)
    bench.lab.revoke(reason="compromised", at=AT + DAY)
    sender = pinned_before(bench)
    return lambda: bench.read(path, sender=sender, at=AT + DAY) == OLD


def pinned_before(bench):
    """lab as clinic knows it now: pinned at the beginning, refreshed since."""
    from counterseal.trust.history import History

    return Partner("lab", History.verify(bench.lab.card()), AT)


def replaced(bench):
    path = bench.seal(OLD)
    bench.lab.rotate(at=AT + DAY)
    return path, pinned_before(bench)


@attack(ExpiredKey, NO_GRACE)
def superseded(bench):
    """The thief of a replaced key dates its package back to when the key was in force."""
    path, sender = replaced(bench)
    return lambda: bench.read(path, sender=sender, at=AT + 16 * DAY) == OLD


@attack(ExpiredKey, NO_GRACE)
def sealed_with_a_replaced_key(bench):
    from workshop import wild

    old_ring, old_history = bench.lab._ring, bench.lab.history
    bench.lab.rotate(at=AT + DAY)
    sender = pinned_before(bench)
    bench.lab._ring, bench.lab.history = old_ring, old_history
    data = wild(
        [("w.bin", b"old")], by=bench.lab, to=bench.clinic, cast=bench.cast, at=AT + 2 * DAY
    )
    path = bench.put(data)
    return lambda: bench.read(path, sender=sender, at=AT + 2 * DAY) == OLD


@attack(ExpiredKey, NO_CARD_EXPIRY)
def freeze(bench):
    """Somebody holds back lab's new cards and revocations: only until the old card ends."""
    path, sender = bench.seal(OLD), bench.cast.partner(bench.lab)
    return lambda: bench.read(path, sender=sender, at=AT + 366 * DAY) == OLD


@attack(BadSignature)
def unknown_rotation(bench):
    """lab rotated and seals; clinic has not been told. No key is taken on trust."""
    sender = bench.cast.partner(bench.lab)
    bench.lab.rotate(at=AT)
    path = bench.seal(OLD)
    return lambda: bench.read(path, sender=sender)


@attack(BadCiphertext, KEEP_PREKEYS)
def prekey_replay(bench):
    """All that clinic remembered of packages is gone; that the prekey is spent is not."""
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab)
    path = bench.seal(OLD, to=[partner])
    bench.read(path)
    return lambda: bench.read(path) == OLD


@attack(BadCiphertext)
def stolen_identity_keys(bench):
    """Forward secrecy: after opening, clinic's long-term keys alone open nothing recorded."""
    path = bench.seal(OLD, to=[bench.cast.with_prekeys(bench.clinic, bench.lab)])
    bench.read(path)
    thief = stolen(bench.clinic)
    return lambda: bench.read(path, by=thief)


def stolen(identity):
    from counterseal.trust.identity import Identity

    return Identity(identity.history, identity._ring, store=identity.store)


@attack(BadCiphertext)
def stolen_prekey(bench):
    """A stolen prekey without the identity key opens nothing either."""
    path = bench.seal(OLD, to=[bench.cast.with_prekeys(bench.clinic, bench.lab)])
    thief = stolen(bench.clinic)
    thief._ring = thief._ring.with_generation(
        thief.key_id, bench.rival._ring._generation(bench.rival.key_id)
    )
    return lambda: bench.read(path, by=thief)


@attack(
    BadCiphertext,
    Cut("counterseal.trust.prekeystore:PrekeyStore.opener", "stored.partner != partner", "False"),
)
def prekey_of_another_partner(bench):
    """rival uses up the prekeys that clinic made for lab: lab's own package could not open."""
    from workshop import wild

    from counterseal.exchange import front, stanza
    from counterseal.exchange.plan import ForKeys
    from counterseal.trust.prekeys import prekey_id

    public = bench.cast.with_prekeys(bench.clinic, bench.lab).prekeys.keys[0]
    card = bench.clinic.history.newest
    recipient = ForKeys(card.key_id, card.card.agreement.key(), (prekey_id(public), public.key()))

    def raw(content, core):
        return stanza.encode(front.make_stanzas(content, core, [recipient])), 1

    data = wild([("w.bin", b"old")], by=bench.rival, to=None, cast=bench.cast, stanzas=raw)
    path = bench.put(data)
    return lambda: bench.read(path, sender=bench.rival) == OLD


@attack(BadCiphertext)
def revoked_recipient_key(bench):
    """Our own revoked key opens nothing any more: whoever stole it may have made the package."""
    path = bench.seal(OLD)
    bench.clinic.revoke(reason="compromised", at=AT)
    return lambda: bench.read(path)


@attack(RevokedKey)
def sealing_to_a_revoked_key(bench):
    bench.clinic.revoke(reason="lost", at=AT)
    return lambda: bench.seal(OLD, to=[bench.clinic.card()])


@attack(ExpiredKey)
def sealing_to_an_old_card(bench):
    card = bench.clinic.card()
    return lambda: bench.seal(OLD, to=[card], at=AT + 364 * DAY + DAY)


@attack(ExpiredKey)
def sealing_with_an_ended_card(bench):
    return lambda: bench.seal(OLD, to=[bench.clinic.card()], at=AT + 366 * DAY)


ATTACKS = {
    "a replayed package is refused": replay,
    "an older version is refused": rollback,
    "the same version with other contents is refused": same_version,
    "an ended package is refused": expired,
    "a package signed with a revoked key is refused": revoked,
    "a replaced key counts only for its grace time": superseded,
    "a replaced key does not sign anything new": sealed_with_a_replaced_key,
    "news held back are noticed when the card ends": freeze,
    "a rotation we were not told of is not guessed": unknown_rotation,
    "a package replayed after its prekey was used does not open": prekey_replay,
    "long-term keys stolen later do not open what used a prekey": stolen_identity_keys,
    "a prekey stolen alone opens nothing": stolen_prekey,
    "a prekey made for one partner is not spent by another": prekey_of_another_partner,
    "our revoked key opens nothing": revoked_recipient_key,
    "nobody seals to a revoked key": sealing_to_a_revoked_key,
    "nobody seals to a card that has ended": sealing_to_an_old_card,
    "nobody seals with a card that has ended": sealing_with_an_ended_card,
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_is_refused(sentence, bench):
    ATTACKS[sentence].is_refused(bench)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_works_without_the_defence(sentence, bench, monkeypatch):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)


def test_without_a_prekey_stolen_keys_do_open(bench):
    """The control of forward secrecy: the thief is able, only the prekey is in the way."""
    path = bench.seal(OLD)
    bench.read(path)
    assert bench.read(path, by=stolen(bench.clinic)) == OLD


def test_what_is_allowed(bench):
    """Within the grace time; the newest version again; after an error nothing is used up."""
    path, sender = replaced(bench)
    assert bench.read(path, sender=sender, at=AT + 14 * DAY) == OLD
    bench.read(path, remember=True, sender=sender)
    assert bench.read(path, remember=True, sender=sender, again=True) == OLD


def test_a_failed_opening_uses_nothing_up(bench):
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab)
    path = bench.seal(OLD, to=[partner])
    with pytest.raises(KeyError), bench.open(path):
        raise KeyError
    assert bench.read(path, remember=True) == OLD
    assert bench.clinic.prekeys.count(partner=bench.lab.history.identity) == 1


def test_a_rival_cannot_make_a_package_look_replayed(bench):
    """The package id is public; rival seals one of its own under it and has it opened first."""
    from workshop import Parts, wild

    from counterseal.exchange.keys import ContentKey

    path = bench.seal(OLD)
    content = ContentKey.generate()
    content.package = Parts.of(path.read_bytes()).header.core.package
    data = wild([("w", b"1")], by=bench.rival, to=bench.clinic, cast=bench.cast, content=content)
    bench.read(bench.put(data), sender=bench.rival, remember=True)
    assert bench.read(path, remember=True) == OLD


def test_a_prekey_is_spent_once(bench):
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab, 2)
    sent = SentBook(bench.lab)
    spent = [sent.prekey_for(partner, at=AT)]
    for _ in range(2):
        bench.seal(OLD, to=[partner])
        spent.append(sent.prekey_for(partner, at=AT))
    assert spent == [0, 1, None]
