"""Prekey bundles and the private halves that wait for them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

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
    import msgspec

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
