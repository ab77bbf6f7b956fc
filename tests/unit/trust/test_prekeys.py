"""Prekey bundles and the private halves that wait for them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from counterseal.crypto.agreement import AgreementKey
from counterseal.errors import BadCiphertext, ExpiredKey, FormatError
from counterseal.trust import prekeys, signed, succession
from counterseal.trust.card import AgreementPublic
from counterseal.trust.keystores.keyring import Generation, KeyRing
from counterseal.trust.prekeystore import PrekeyStore
from counterseal.trust.recovery import NO_RECOVERY
from counterseal.trust.store import Store

if TYPE_CHECKING:
    from counterseal.trust.history import History

Generations = tuple[Generation, ...]


@pytest.fixture(scope="module")
def partner(generations: Generations, now: datetime) -> History:
    return succession.first("clinic", generations[3], recovery=NO_RECOVERY, at=now)[1]


@pytest.fixture(scope="module")
def made(
    first: History, partner: History, now: datetime
) -> tuple[prekeys.PrekeyBundle, tuple[AgreementKey, ...]]:
    return prekeys.generate(first, partner, 3, at=now)


Made = tuple[prekeys.PrekeyBundle, tuple[AgreementKey, ...]]


def test_a_bundle_is_verified_by_its_partner(
    first: History, partner: History, generations: Generations, made: Made, now: datetime
) -> None:
    envelope = signed.sign(made[0], prekeys.PREKEYS_TYPE, by=[generations[0].signing])
    for at in (now, now + prekeys.LIFETIME):
        assert prekeys.verify(envelope, of=first, to=partner.identity, at=at) == made[0]
    with pytest.raises(ExpiredKey):
        prekeys.verify(
            envelope, of=first, to=partner.identity, at=now + prekeys.LIFETIME + timedelta(1)
        )


@pytest.mark.parametrize("count", [0, -1, 2001])
def test_a_bundle_has_1_to_2000_prekeys(
    first: History, partner: History, now: datetime, count: int
) -> None:
    with pytest.raises(ValueError, match="prekeys"):
        prekeys.generate(first, partner, count, at=now)


def test_prekeys_are_of_the_suite_of_the_card(partner: History, now: datetime) -> None:
    keys = Generation.create(hardware=True)
    history = succession.first("token", keys, recovery=NO_RECOVERY, at=now)[1]
    bundle, _ = prekeys.generate(history, partner, 1, at=now)
    assert bundle.keys[0].suite == "p256+mldsa65".replace("mldsa65", "mlkem768")


def test_a_bundle_that_names_a_key_twice_is_refused(
    first: History, partner: History, generations: Generations, made: Made, now: datetime
) -> None:
    doubled = msgspec.structs.replace(made[0], keys=(made[0].keys[0],) * 2)
    envelope = signed.sign(doubled, prekeys.PREKEYS_TYPE, by=[generations[0].signing])
    with pytest.raises(FormatError, match="twice"):
        prekeys.verify(envelope, of=first, to=partner.identity, at=now)


def test_the_store_keeps_opens_and_forgets(
    generations: Generations, made: Made, now: datetime
) -> None:
    bundle, keys = made
    store = PrekeyStore(Store(), KeyRing.create("a" * 64, generations[0]))
    store.add(bundle, keys)
    names = [prekeys.prekey_id(AgreementPublic.of(key.public)) for key in keys]
    assert store.ids() == sorted(names)
    assert store.count(partner=bundle.partner) == 3
    assert store.count(partner="0" * 64) == 0
    assert store.opener(names[0], partner="0" * 64) is None, "made for somebody else"
    opener = store.opener(names[0], partner=bundle.partner)
    assert opener is not None
    assert opener.open(keys[0].public.seal(b"s", info=b""), info=b"") == b"s"
    assert store.delete(names[0])
    assert store.opener(names[0], partner=bundle.partner) is None
    assert store.delete_expired(at=bundle.expires) == 0
    assert store.delete_expired(at=bundle.expires + timedelta(seconds=1)) == 2
    assert store.ids() == []


def test_another_key_ring_reads_nothing(generations: Generations, made: Made) -> None:
    store = Store()
    PrekeyStore(store, KeyRing.create("a" * 64, generations[0])).add(*made)
    stranger = PrekeyStore(store, KeyRing.create("a" * 64, generations[0]))
    with pytest.raises(BadCiphertext):
        stranger.opener(stranger.ids()[0], partner=made[0].partner)
    for _, value in store.items("prekey"):
        assert made[1][0].seeds()[1] not in value


# --- the last resort -------------------------------------------------------------------------


def with_last_resort(bundle: prekeys.PrekeyBundle, key: AgreementKey) -> prekeys.PrekeyBundle:
    last = prekeys.LastResort(
        key=AgreementPublic.of(key.public), expires=bundle.created + prekeys.LAST_RESORT_LIFETIME
    )
    return msgspec.structs.replace(bundle, last_resort=last)


def test_a_bundle_may_have_a_last_resort(
    first: History, partner: History, generations: Generations, made: Made, now: datetime
) -> None:
    assert made[0].last_resort is None, "by hand nobody would replace it"
    bundle = with_last_resort(made[0], AgreementKey.generate())
    envelope = signed.sign(bundle, prekeys.PREKEYS_TYPE, by=[generations[0].signing])
    assert prekeys.verify(envelope, of=first, to=partner.identity, at=now) == bundle


def test_the_last_resort_is_none_of_the_others_and_short_lived(
    first: History, partner: History, generations: Generations, made: Made, now: datetime
) -> None:
    bundle = with_last_resort(made[0], made[1][0])
    envelope = signed.sign(bundle, prekeys.PREKEYS_TYPE, by=[generations[0].signing])
    with pytest.raises(FormatError, match="twice"):
        prekeys.verify(envelope, of=first, to=partner.identity, at=now)
    late = with_last_resort(
        msgspec.structs.replace(made[0], created=now + timedelta(seconds=1)),
        AgreementKey.generate(),
    )
    late = msgspec.structs.replace(late, created=now)
    envelope = signed.sign(late, prekeys.PREKEYS_TYPE, by=[generations[0].signing])
    with pytest.raises(FormatError, match="too long"):
        prekeys.verify(envelope, of=first, to=partner.identity, at=now)


def test_the_store_keeps_a_last_resort_until_its_time(
    generations: Generations, made: Made, now: datetime
) -> None:
    store = PrekeyStore(Store(), KeyRing.create("a" * 64, generations[0]))
    store.add(*made)
    key = AgreementKey.generate()
    name = prekeys.prekey_id(AgreementPublic.of(key.public))
    expires = now + prekeys.LAST_RESORT_LIFETIME
    store.put(key, partner="1" * 64, expires=expires, kind="last-resort")
    assert (store.ids()[-1], store.kind(name)) == (name, "last-resort")
    assert store.kind(store.ids()[0]) == "one-time"
    assert store.expires(name) == expires
    assert store.count(partner="1" * 64) == 0, "one-time prekeys are counted"
    assert not store.delete(name), "it is not spent"
    opener = store.opener(name, partner="1" * 64)
    assert opener is not None
    assert opener.open(key.public.seal(b"s", info=b""), info=b"") == b"s"
    assert store.opener(name, partner="0" * 64) is None
    arrival = expires + prekeys.LAST_RESORT_ARRIVAL
    assert store.delete_outlived(at=arrival, kind="last-resort") == 0
    assert store.delete_outlived(at=arrival + timedelta(seconds=1), kind="last-resort") == 1
    assert store.kind(name) is None
    assert store.expires(name) is None
    assert len(store.ids()) == 3


def test_what_no_sender_may_use_can_be_deleted_at_once(
    generations: Generations, made: Made, now: datetime
) -> None:
    store = PrekeyStore(Store(), KeyRing.create("a" * 64, generations[0]))
    store.add(*made)
    store.put(AgreementKey.generate(), partner="1" * 64, expires=now, kind="last-resort")
    assert store.delete_expired(at=now + timedelta(seconds=1)) == 1
    assert store.delete_outlived(at=now + prekeys.LIFETIME * 2, kind="one-time") == 3
    store.add(*made)
    store.delete_all()
    assert store.ids() == []
