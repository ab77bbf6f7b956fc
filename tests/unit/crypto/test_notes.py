import pytest

from counterseal.crypto import notes
from counterseal.errors import BadSignature

KINDS = {
    "ed25519": (notes.Ed25519Key, notes.verify_ed25519),
    "mldsa44": (notes.MlDsa44Key, notes.verify_mldsa44),
}
SEED = bytes(range(32))


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_is_good_for_its_message_and_key_only(kind):
    key_type, verify = KINDS[kind]
    key = key_type(SEED)
    signature = key.sign(b"message")
    verify(key.public, signature, b"message")
    for public, made, message in (
        (key.public, signature, b"messagf"),
        (key.public, signature[:-1], b"message"),
        (key.public, b"", b"message"),
        (key.public, signature[:-1] + bytes([signature[-1] ^ 1]), b"message"),
        (key_type(bytes(32)).public, signature, b"message"),
        (key.public[:-1], signature, b"message"),
        (b"", signature, b"message"),
    ):
        with pytest.raises(BadSignature):
            verify(public, made, message)


def test_lengths_are_those_of_the_standards():
    ed25519, mldsa44 = notes.Ed25519Key(SEED), notes.MlDsa44Key(SEED)
    assert len(ed25519.public) == notes.ED25519_PUBLIC_BYTES
    assert len(ed25519.sign(b"")) == notes.ED25519_SIGNATURE_BYTES
    assert len(mldsa44.public) == notes.MLDSA44_PUBLIC_BYTES
    assert len(mldsa44.sign(b"")) == notes.MLDSA44_SIGNATURE_BYTES


def test_rfc_8032_test_1():
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    key = notes.Ed25519Key(bytes.fromhex(seed))
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a")


def test_a_private_key_does_not_show_itself():
    assert repr(notes.Ed25519Key(SEED)) == "<Ed25519Key>"
    assert repr(notes.MlDsa44Key(SEED)) == "<MlDsa44Key>"
