"""The private keys of one identity."""

from __future__ import annotations

import json

import pytest

from counterseal.crypto import statement
from counterseal.errors import BadCiphertext, FormatError
from counterseal.trust.keystores import keyring
from counterseal.trust.keystores.keyring import Generation, KeyRing

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def ring(generations: tuple[Generation, ...]) -> KeyRing:
    return KeyRing.create(ONE, generations[0]).with_generation(TWO, generations[2])


def test_each_card_has_its_own_keys(ring: KeyRing, generations: tuple[Generation, ...]) -> None:
    assert ring.cards == (ONE, TWO)
    for card, keys in ((ONE, generations[0]), (TWO, generations[2])):
        assert ring.signer(card).public == keys.signing.public
        assert ring.opener(card).public == keys.agreement.public
        assert ring.statement_public(card) == keys.statement.public
        statement.verify(keys.statement.public, b"m", ring.sign_statement(card, b"m"))


def test_what_is_forgotten_signs_and_opens_nothing(ring: KeyRing) -> None:
    without = ring.without([ONE])
    assert without.cards == (TWO,)
    for use in (without.signer, without.opener, without.statement_public):
        with pytest.raises(BadCiphertext):
            use(ONE)


def test_protect_survives_rotation_and_is_bound_to_its_label(ring: KeyRing) -> None:
    protected = ring.protect(b"secret", label="x")
    assert ring.without([ONE]).unprotect(protected, label="x") == b"secret"
    with pytest.raises(BadCiphertext):
        ring.unprotect(protected, label="y")


def test_pack_and_unpack(ring: KeyRing) -> None:
    again = keyring.unpack(keyring.pack(ring))
    assert again.cards == ring.cards
    assert again.unprotect(ring.protect(b"s", label="x"), label="x") == b"s"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signing_classical", "AAAA"),
        ("signing_pq", "AAAA"),
        ("agreement_classical", ""),
        ("agreement_pq", "AAAA"),
        ("statement", "A" * 43 + "="),  # the scalar zero
        ("statement", "/" * 42 + "8="),  # above the order of the curve
        ("signing_suite", "rsa"),
        ("card", "A" * 64),
    ],
)
def test_a_ring_with_a_key_that_is_none_is_a_format_error(
    ring: KeyRing, field: str, value: str
) -> None:
    document = json.loads(keyring.pack(ring))
    document["generations"][0][field] = value
    packed = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(FormatError):
        keyring.unpack(packed)


def test_a_store_key_of_another_length_is_a_format_error(ring: KeyRing) -> None:
    document = json.loads(keyring.pack(ring)) | {"store_key": "AAAA"}
    packed = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(FormatError):
        keyring.unpack(packed)
