"""The key of the machine that never sleeps."""

from __future__ import annotations

import pytest
from workshop import AT, DAY

from counterseal.errors import BadCiphertext, FormatError, TrustError
from counterseal.trust.directory import online
from counterseal.trust.identity import Identity


@pytest.fixture
def lab():
    return Identity.create("lab", at=AT - DAY)


def test_it_stays_the_same_until_it_is_renewed(lab):
    first = online.of(lab)
    assert online.of(lab).public == first.public
    second = online.of(lab, renew=True)
    assert second.public != first.public
    assert online.of(lab).public == second.public
    assert len(lab.store.items("directory-online")) == 1


def test_a_new_card_has_a_new_one(lab):
    first = online.of(lab)
    lab.rotate(at=AT)
    assert online.of(lab).public != first.public
    assert len(lab.store.items("directory-online")) == 1, "the old one is deleted"


def test_it_lies_encrypted(lab):
    key = online.of(lab)
    for _, value in lab.store.items("directory-online"):
        assert key.seeds()[0] not in value
    stranger = Identity.create("other", at=AT - DAY)
    stranger.store = lab.store
    stranger.history = lab.history
    with pytest.raises(BadCiphertext):
        online.of(stranger)


def test_it_goes_to_another_machine_under_a_passphrase(lab):
    data = online.save(lab, b"a passphrase")
    assert online.load(data, b"a passphrase").public == online.of(lab).public
    assert online.of(lab).seeds()[0] not in data
    with pytest.raises(TrustError, match="passphrase"):
        online.load(data, b"another")
    with pytest.raises(FormatError):
        online.load(b"{}", b"a passphrase")


def test_its_bytes_are_shown_nowhere(lab):
    key = online.of(lab)
    document = online._OnlineKey(
        kind="online-key",
        format=1,
        suite=key.public.suite,
        classical=key.seeds()[0],
        pq=key.seeds()[1],
    )
    assert repr(document) == "<_OnlineKey>"
    with pytest.raises(FormatError, match="private key"):
        online._unpack(online._pack(key).replace(b'"classical":"', b'"classical":"AAAA'))
