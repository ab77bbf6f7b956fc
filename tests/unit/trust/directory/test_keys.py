"""Hybrid keys as keys of TUF."""

from __future__ import annotations

import json

import pytest
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Metadata, Root

from counterseal.crypto.derive import bind
from counterseal.crypto.signing import SigningKey, SigningSuite
from counterseal.trust.directory.keys import HybridKey, HybridSigner, key_of

KEYS = {suite: SigningKey.generate(suite) for suite in SigningSuite}


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_python_tuf_signs_and_verifies_with_them(key):
    signer = HybridSigner(key)
    root = Metadata(Root())
    root.signed.add_key(signer.public_key, "root")
    root.sign(signer)
    again = Metadata[Root].from_bytes(root.to_bytes())
    again.signed.verify_delegate("root", again.signed_bytes, again.signatures)
    assert isinstance(again.signed.keys[signer.public_key.keyid], HybridKey)


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_a_key_comes_back_from_what_it_writes(key):
    public = key_of(key.public)
    written = json.loads(json.dumps(public.to_dict()))
    assert Key.from_dict(public.keyid, written) == public


def test_both_halves_must_be_good():
    key = KEYS[SigningSuite.ED25519]
    public, made = key_of(key.public), HybridSigner(key).sign(b"part")
    public.verify_signature(made, b"part")
    raw = bytes.fromhex(made.signature)
    other = SigningKey(SigningSuite.ED25519, key.seeds()[0], SigningKey.generate().seeds()[1])
    half = other.sign(bind("directory", b"part"))
    for wrong in (
        raw[:64] + half.pq,  # the classical half alone is ours
        bytes(64) + raw[64:],
        raw[:64],
        raw + b"0",
        b"",
    ):
        with pytest.raises(UnverifiedSignatureError):
            public.verify_signature(Signature(made.keyid, wrong.hex()), b"part")
    with pytest.raises(UnverifiedSignatureError):
        public.verify_signature(Signature(made.keyid, "no hex"), b"part")
    with pytest.raises(UnverifiedSignatureError):
        public.verify_signature(made, b"another part")


def test_a_signature_made_for_anything_else_is_none():
    key = KEYS[SigningSuite.ED25519]
    halves = key.sign(b"part")
    bare = Signature(key_of(key.public).keyid, (halves.classical + halves.pq).hex())
    with pytest.raises(UnverifiedSignatureError):
        key_of(key.public).verify_signature(bare, b"part")


def test_a_key_has_one_id():
    public = key_of(KEYS[SigningSuite.ED25519].public)
    with pytest.raises(ValueError, match="id"):
        Key.from_dict("0" * 64, public.to_dict())


def test_private_keys_come_from_no_address():
    public = key_of(KEYS[SigningSuite.ED25519].public)
    with pytest.raises(NotImplementedError):
        HybridSigner.from_priv_key_uri("file:key", public)
