"""HPKE: RFC 9180, the draft's post-quantum hybrids, and `cryptography`'s own X-Wing."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from counterseal.crypto import hpke
from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.crypto.signing import P256_ORDER

FOLDER = resources.files("cryptography_vectors").joinpath("HPKE")
PQ: list[dict[str, Any]] = json.loads(FOLDER.joinpath("hpke-pq-test-vectors.json").read_text())
RFC9180: list[dict[str, Any]] = [
    vector
    for vector in json.loads(FOLDER.joinpath("test-vectors.json").read_text())
    if vector["mode"] == 0 and vector["aead_id"] != 0xFFFF  # export only: no key, no nonce
]
XWING, P256 = 0x647A, 0x0050
AEADS = {1: AESGCM, 2: AESGCM, 3: ChaCha20Poly1305}
SUITES = {XWING: AgreementSuite.X25519, P256: AgreementSuite.P256}


def named(vector: dict[str, Any]) -> str:
    return f"{vector['kem_id']:04x}-{vector['kdf_id']}-{vector['aead_id']}"


def b(vector: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(vector[name])


def p256_scalar(seed: bytes) -> bytes:
    """Group.RandomScalar of draft-irtf-cfrg-concrete-hybrid-kems: the first part in range."""
    parts = (seed[start : start + 32] for start in range(0, len(seed), 32))
    return next(part for part in parts if 0 < int.from_bytes(part, "big") < P256_ORDER)


def key_of(seed: bytes, kem: int) -> AgreementKey:
    """expandKey of the same draft: one seed of 32 bytes to the seeds of both halves."""
    full = hashlib.shake_256(seed).digest(64 + (32 if kem == XWING else 128))
    classical = full[64:] if kem == XWING else p256_scalar(full[64:])
    return AgreementKey(SUITES[kem], classical, full[:64])


def decapsulate(key: AgreementKey, enc: bytes, kem: int) -> bytes:
    classical, pq = key.seeds()
    pq_secret = mlkem.MLKEM768PrivateKey.from_seed_bytes(pq).decapsulate(enc[:1088])
    theirs = enc[1088:]
    if kem == P256:
        scalar = ec.derive_private_key(int.from_bytes(classical, "big"), ec.SECP256R1())
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs)
        return hpke.combine(
            pq_secret, scalar.exchange(ec.ECDH(), point), theirs, key.public.classical
        )
    private = x25519.X25519PrivateKey.from_private_bytes(classical)
    secret = private.exchange(x25519.X25519PublicKey.from_public_bytes(theirs))
    return xwing_combine(pq_secret, secret, theirs, key.public.classical)


def xwing_combine(pq_secret: bytes, secret: bytes, ct: bytes, public: bytes) -> bytes:
    return hashlib.sha3_256(pq_secret + secret + ct + public + rb"\.//^" + b"\\").digest()


def test_there_are_vectors() -> None:
    assert sorted(named(v) for v in PQ if v["kem_id"] in SUITES) == [
        "0050-1-1",
        "0050-16-2",
        "647a-1-3",
        "647a-17-3",
    ]
    assert len(RFC9180) >= 20


@pytest.mark.parametrize("vector", [v for v in PQ if v["kem_id"] in SUITES], ids=named)
def test_hybrid_kem(vector: dict[str, Any]) -> None:
    key = key_of(b(vector, "skRm"), vector["kem_id"])
    assert key.public.pq + key.public.classical == b(vector, "pkRm")
    assert decapsulate(key, b(vector, "enc"), vector["kem_id"]) == b(vector, "shared_secret")


# The vectors with KDF 16 and 17 use a one-stage schedule that we do not have.
TWO_STAGE = [v for v in PQ if v["kdf_id"] in {1, 2, 3}] + RFC9180


@pytest.mark.parametrize("vector", TWO_STAGE, ids=named)
def test_schedule(vector: dict[str, Any]) -> None:
    key, nonce = hpke.schedule(
        b(vector, "shared_secret"),
        b(vector, "info"),
        kem=vector["kem_id"],
        kdf=vector["kdf_id"],
        aead=vector["aead_id"],
    )
    assert (key, nonce) == (b(vector, "key"), b(vector, "base_nonce"))
    first = vector["encryptions"][0]
    opened = AEADS[vector["aead_id"]](key).decrypt(nonce, b(first, "ct"), b(first, "aad"))
    assert opened == b(first, "pt")


def test_our_schedule_opens_what_cryptography_sealed() -> None:
    key = AgreementKey.generate(AgreementSuite.X25519)
    sealed = key.public.seal(b"secret", info=b"info")
    shared = decapsulate(key, sealed[:1120], XWING)
    aead, nonce = hpke.schedule(shared, b"info", kem=XWING, kdf=3, aead=2)
    assert AESGCM(aead).decrypt(nonce, sealed[1120:], None) == b"secret"


def test_cryptography_opens_what_our_schedule_sealed() -> None:
    key = AgreementKey.generate(AgreementSuite.X25519)
    pq_secret, pq_ct = mlkem.MLKEM768PublicKey.from_public_bytes(key.public.pq).encapsulate()
    ephemeral = x25519.X25519PrivateKey.generate()
    ct = ephemeral.public_key().public_bytes_raw()
    secret = ephemeral.exchange(x25519.X25519PublicKey.from_public_bytes(key.public.classical))
    shared = xwing_combine(pq_secret, secret, ct, key.public.classical)
    aead, nonce = hpke.schedule(shared, b"info", kem=XWING, kdf=3, aead=2)
    sealed = pq_ct + ct + AESGCM(aead).encrypt(nonce, b"secret", None)
    assert key.open(sealed, info=b"info") == b"secret"


def test_the_p256_key_opens_what_the_vectors_kem_and_the_schedule_give() -> None:
    vector = next(v for v in PQ if named(v) == "0050-1-1")
    key = key_of(b(vector, "skRm"), P256)
    aead, nonce = hpke.schedule(b(vector, "shared_secret"), b"info", kem=P256, kdf=3, aead=2)
    sealed = b(vector, "enc") + AESGCM(aead).encrypt(nonce, b"secret", None)
    assert key.open(sealed, info=b"info") == b"secret"
