"""ML-KEM-768, ML-DSA-65, Argon2id and HKDF: known answers through our own constructors."""

from __future__ import annotations

from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem

from counterseal.crypto import derive, passphrase
from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.crypto.signing import Signature, SigningKey, SigningSuite
from counterseal.errors import BadSignature

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = resources.files("cryptography_vectors")
ED25519_SEED = bytes(range(32))


def records(*path: str) -> Iterator[dict[str, str]]:
    """The `name = value` blocks of a NIST response file."""
    record: dict[str, str] = {}
    with VECTORS.joinpath(*path).open() as file:
        for line in file:
            name, equals, value = line.strip().partition("=")
            if not equals or line.startswith("#"):
                continue
            if name.strip().lower() == "count":
                if len(record) > 1:
                    yield record
                record = {}
            record[name.strip().lower()] = value.strip()
    yield record


@pytest.mark.parametrize(
    "record",
    list(islice(records("asymmetric", "MLKEM", "kat_MLKEM_768.rsp"), 10)),
    ids=lambda r: r["count"],
)
def test_mlkem768(record: dict[str, str]) -> None:
    seed = bytes.fromhex(record["d"] + record["z"])
    key = AgreementKey(AgreementSuite.X25519, ED25519_SEED, seed)
    assert key.public.pq.hex() == record["pk"]
    pq = mlkem.MLKEM768PrivateKey.from_seed_bytes(key.seeds()[1])
    assert pq.decapsulate(bytes.fromhex(record["ct"])).hex() == record["ss"]
    assert pq.decapsulate(bytes.fromhex(record["ct_n"])).hex() == record["ss_n"]


@pytest.mark.parametrize(
    "record",
    list(islice(records("asymmetric", "MLDSA", "kat_MLDSA_65_det_pure.rsp"), 10)),
    ids=lambda r: r["count"],
)
def test_mldsa65(record: dict[str, str]) -> None:
    key = SigningKey(SigningSuite.ED25519, ED25519_SEED, bytes.fromhex(record["xi"]))
    assert key.public.pq.hex() == record["pk"]
    message = bytes.fromhex(record["msg"])
    signature = bytes.fromhex(record["sm"])[: len(key.sign(b"").pq)]
    context = bytes.fromhex(record["ctx"])
    mldsa.MLDSA65PublicKey.from_public_bytes(key.public.pq).verify(signature, message, context)
    if context:  # ours is made without a context: the vector's must not pass as ours
        with pytest.raises(BadSignature):
            key.public.verify(message, Signature(key.sign(message).classical, signature))


def test_ed25519_of_rfc_8032() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = SigningKey(SigningSuite.ED25519, seed, bytes(32))
    assert key.public.classical.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert key.sign(b"").classical.hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
        "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


def test_argon2id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published answer for 128 MiB, 1 pass, 2 lanes, cut to our 32 bytes at the source."""
    record = next(r for r in records("KDF", "argon2id.txt") if r["memcost"] == "131072")
    stretched: list[bytes] = []

    real = passphrase.Argon2id

    def argon2id(
        *, salt: bytes, length: int, iterations: int, lanes: int, memory_cost: int
    ) -> object:
        assert length == 32
        assert (iterations, lanes, memory_cost) == (1, 2, 131072)
        kdf = real(
            salt=salt,
            length=int(record["length"]),  # the length is an input of Argon2
            iterations=iterations,
            lanes=lanes,
            memory_cost=memory_cost,
        )

        class Tap:
            def derive(self, secret: bytes) -> bytes:
                stretched.append(kdf.derive(secret))
                return stretched[-1][:32]

        return Tap()

    monkeypatch.setattr(passphrase, "Argon2id", argon2id)
    monkeypatch.setattr(passphrase.os, "urandom", lambda _: bytes.fromhex(record["salt"]))
    cost = passphrase.Cost(memory_kib=131072, passes=1, lanes=2)
    passphrase.wrap(b"s", bytes.fromhex(record["pass"]), context=b"", cost=cost)
    assert stretched[0].hex() == record["output"]


def test_hkdf_sha512_against_a_second_implementation() -> None:
    """RFC 5869 has no SHA-512 vector: HMAC by the standard library, step by step."""
    import hmac

    def expand(key: bytes, info: bytes, length: int) -> bytes:
        block = out = b""
        while len(out) < length:
            counter = bytes([len(out) // 64 + 1])
            block = hmac.digest(key, block + info + counter, "sha512")
            out += block
        return out[:length]

    info = derive.bind("label", b"part")
    assert info == b"counterseal/1 label\0\0\0\0\4part"
    key = bytes(range(32))
    assert derive.derive(key, "label", b"part", length=150) == expand(key, info, 150)
    extracted = hmac.digest(b"salt", key, "sha512")
    assert derive.derive_from_shares(key, "label", b"part", salt=b"salt") == expand(
        extracted, info, 32
    )
