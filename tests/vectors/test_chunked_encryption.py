"""C2SP chunked encryption: Wycheproof's vectors (data/README.md) and those of pyca/cryptography.

Our driver is told the size, where the standard's streams find it out: the test takes it from
the length of the ciphertext, as `exchange` takes it from the signed manifest.

pyca's vectors are of the same construction with SHA-256 in place of SHA-512, so they run with
the hash exchanged (`cryptography.cobblestone` itself, which is SHA-512, cannot read them).
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from counterseal.crypto import chunked
from counterseal.crypto.chunked import (
    PREFIX_BYTES,
    SEALED_LEAF_BYTES,
    ChunkedMessage,
    leaf_count,
    sealed_bytes,
)
from counterseal.errors import BadCiphertext

FILE = Path(__file__).parent / "data" / "c2sp_chunked_encryption_aes_256_gcm_test.json"
SHA256 = "0f8e35568d59649fb55fb0e5602dc678dc8910d6822beef4945aee0b5994ef05"
WYCHEPROOF: list[dict[str, Any]] = json.loads(FILE.read_bytes())["testGroups"][0]["tests"]
PYCA: list[dict[str, Any]] = [
    vector
    for vector in json.loads(
        resources.files("cryptography_vectors")
        .joinpath("chunked-encryption", "vectors.json")
        .read_text()
    )["vectors"]
    if vector["aead"] == "AEAD_AES_256_GCM"
]


@pytest.fixture(autouse=True)
def the_hash_of_the_vector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "pyca" in request.node.name:
        monkeypatch.setattr(chunked, "hashes", SimpleNamespace(SHA512=hashes.SHA256))


def size_of(sealed: bytes) -> int:
    """The only size whose message has this length; a length that no size has was cut."""
    chunks, last = divmod(len(sealed) - PREFIX_BYTES, 16 * 1024 + 16)
    size = chunks * 16 * 1024 + last - 16
    if len(sealed) < PREFIX_BYTES or last < 16:
        raise BadCiphertext("no message has this length")
    assert sealed_bytes(size) == len(sealed)
    return size


def open_all(key: bytes, context: bytes, sealed: bytes, size: int) -> bytes:
    message = ChunkedMessage.opened(key, context=context, size=size, prefix=sealed[:PREFIX_BYTES])
    plain = bytearray(size)
    for leaf in range(leaf_count(size)):
        start, length, sealed_start, sealed_length = message.leaf_range(leaf)
        message.open_leaf(
            leaf,
            memoryview(sealed)[sealed_start : sealed_start + sealed_length],
            memoryview(plain)[start : start + length],
        )
    return bytes(plain)


def seal_all(key: bytes, context: bytes, plain: bytes, salt: bytes) -> bytes:
    message = ChunkedMessage(key, context=context, size=len(plain), salt=salt)
    sealed = bytearray(sealed_bytes(len(plain)))
    sealed[:PREFIX_BYTES] = message.prefix
    for leaf in range(leaf_count(len(plain))):
        start, length, sealed_start, sealed_length = message.leaf_range(leaf)
        message.seal_leaf(
            leaf,
            memoryview(plain)[start : start + length],
            memoryview(sealed)[sealed_start : sealed_start + sealed_length],
        )
    return bytes(sealed)


def test_the_data_are_the_published_ones() -> None:
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == SHA256
    assert len(WYCHEPROOF) == 35
    assert len(PYCA) == 34


def case(vector: dict[str, Any]) -> tuple[bytes, bytes, bytes, str | None]:
    """(key, context, ciphertext, digest of the plaintext if valid) of either collection."""
    if "tcId" in vector:
        valid = vector["result"] == "valid"
        return (
            bytes.fromhex(vector["key"]),
            bytes.fromhex(vector["ctx"]),
            zlib.decompress(bytes.fromhex(vector["ct"])),
            vector["msgSha512"] if valid else None,
        )
    sealed = base64.b64decode(vector["ciphertext"] or "")
    return (
        bytes.fromhex(vector["key"]),
        vector["context"].encode(),
        zlib.decompress(sealed) if vector.get("compressed") else sealed,
        vector["payload_sha256"] if vector["expect"] == "success" else None,
    )


ALL = [pytest.param(vector, id=f"wycheproof {vector['comment']}") for vector in WYCHEPROOF] + [
    pytest.param(vector, id=f"pyca {vector['name']}") for vector in PYCA
]


@pytest.mark.parametrize("vector", ALL)
def test_vector(vector: dict[str, Any]) -> None:
    key, context, sealed, digest = case(vector)
    if len(key) != 32:
        assert digest is None
        with pytest.raises(ValueError, match="32 bytes"):
            ChunkedMessage.opened(key, context=context, size=0, prefix=sealed[:PREFIX_BYTES])
        return
    if digest is None:
        with pytest.raises(BadCiphertext):
            open_all(key, context, sealed, size_of(sealed))
        return
    plain = open_all(key, context, sealed, size_of(sealed))
    algorithm = hashlib.sha512 if len(digest) == 128 else hashlib.sha256
    assert algorithm(plain).hexdigest() == digest
    assert seal_all(key, context, plain, sealed[:24]) == sealed


def holds_a_whole_message(vector: dict[str, Any]) -> bool:
    """A whole message with something after it: that something is for `exchange` to refuse."""
    return vector.get("tcId") == 35 or vector.get("name") == "aes256gcm_extension_after_final"


@pytest.mark.parametrize("vector", ALL)
def test_a_vector_is_refused_under_every_other_size(vector: dict[str, Any]) -> None:
    key, context, sealed, digest = case(vector)
    if len(key) != 32 or len(sealed) > SEALED_LEAF_BYTES or holds_a_whole_message(vector):
        return
    right = {size_of(sealed)} if digest else set()
    for size in {0, 1, 16383, 16384, 16385, 32768, max(0, len(sealed) - 72)} - right:
        with pytest.raises(BadCiphertext):
            open_all(key, context, sealed, size)
