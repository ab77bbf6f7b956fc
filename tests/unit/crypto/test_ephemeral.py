import os

import pytest
from cryptography.hazmat.primitives import hpke as engine
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterseal.crypto import ephemeral, hpke
from counterseal.crypto.ephemeral import ANSWER_BYTES, SHARE_BYTES, Ephemeral
from counterseal.errors import FormatError

X_WING = 0x647A
SUITE = engine.Suite(engine.KEM.MLKEM768_X25519, engine.KDF.HKDF_SHA512, engine.AEAD.AES_256_GCM)

# Every point of order 1, 2, 4 and 8 of the curve and of its twist, and their other spellings
# below 2^255 (cr.yp.to/ecdh.html, "validate").
SMALL_ORDER = {
    "zero": "00" * 32,
    "one": "01" + "00" * 31,
    "order eight": "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "order eight, the other": "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "p - 1": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "p, which is zero": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "p + 1, which is one": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}


def test_both_sides_have_the_same_secret_and_every_time_another():
    secrets = set()
    for _ in range(3):
        ours = Ephemeral()
        answer, theirs = ephemeral.answer(ours.share)
        assert len(ours.share) == SHARE_BYTES
        assert len(answer) == ANSWER_BYTES
        assert ours.finish(answer) == theirs
        secrets.add(theirs)
    assert len(secrets) == 3
    assert all(len(secret) == 32 for secret in secrets)


def test_an_x_wing_of_other_hands_answers_our_share():
    """`cryptography`'s HPKE encapsulates to our share; we have to find its key."""
    ours = Ephemeral()
    public = engine.MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(ours.share[:1184]),
        x25519.X25519PublicKey.from_public_bytes(ours.share[1184:]),
    )
    sealed = SUITE.encrypt(b"hello", public, info=b"info")
    secret = ours.finish(sealed[:ANSWER_BYTES])
    key, nonce = hpke.schedule(secret, b"info", kem=X_WING, kdf=3, aead=2)
    assert AESGCM(key).decrypt(nonce, sealed[ANSWER_BYTES:], None) == b"hello"


def test_we_answer_an_x_wing_key_of_other_hands():
    pq, classical = mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
    share = pq.public_key().public_bytes_raw() + classical.public_key().public_bytes_raw()
    answer, secret = ephemeral.answer(share)
    key, nonce = hpke.schedule(secret, b"info", kem=X_WING, kdf=3, aead=2)
    sealed = answer + AESGCM(key).encrypt(nonce, b"hello", None)
    private = engine.MLKEM768X25519PrivateKey(pq, classical)
    assert SUITE.decrypt(sealed, private, info=b"info") == b"hello"


@pytest.mark.parametrize("name", SMALL_ORDER)
def test_a_point_of_small_order_is_refused_on_both_sides(name):
    point = bytes.fromhex(SMALL_ORDER[name])
    ours = Ephemeral()
    answer, _ = ephemeral.answer(ours.share)
    with pytest.raises(FormatError):
        ours.finish(answer[:-32] + point)
    with pytest.raises(FormatError):
        ephemeral.answer(ours.share[:-32] + point)


# Coefficients are packed as 12 bits, little-endian; 3329 is 0xd01 and the same as zero.
MALFORMED = {
    "empty": lambda share: b"",
    "without the post-quantum half": lambda share: share[1184:],
    "without the classical half": lambda share: share[:1184],
    "one byte short": lambda share: share[:-1],
    "one byte long": lambda share: share + b"\0",
    "a coefficient of 3329": lambda share: bytes([0x01, share[1] & 0xF0 | 0x0D]) + share[2:],
    "coefficients of 4095": lambda share: b"\xff\xff\xff" + share[3:],
    "the last coefficient": lambda share: share[:1149] + b"\xff\xff\xff" + share[1152:],
}


@pytest.mark.parametrize("sentence", MALFORMED)
def test_a_malformed_share_is_refused(sentence):
    with pytest.raises(FormatError):
        ephemeral.answer(MALFORMED[sentence](Ephemeral().share))


@pytest.mark.parametrize("length", [0, 32, 1088, ANSWER_BYTES - 1, ANSWER_BYTES + 1])
def test_an_answer_of_another_length_is_refused(length):
    with pytest.raises(FormatError):
        Ephemeral().finish(bytes(length))


def test_a_changed_answer_gives_another_secret_and_no_error():
    for place in (0, 500, 1087, 1088, 1119):
        ours = Ephemeral()
        answer, theirs = ephemeral.answer(ours.share)
        changed = bytearray(answer)
        changed[place] ^= 1
        assert ours.finish(bytes(changed)) != theirs


def test_it_is_used_once_even_if_it_fails():
    ours = Ephemeral()
    answer, _ = ephemeral.answer(ours.share)
    ours.finish(answer)
    with pytest.raises(RuntimeError):
        ours.finish(answer)
    ours = Ephemeral()
    with pytest.raises(FormatError):
        ours.finish(b"")
    with pytest.raises(RuntimeError):
        ours.finish(os.urandom(ANSWER_BYTES))


def test_it_shows_nothing():
    assert repr(Ephemeral()) == "<Ephemeral>"
