"""SHA-256, the BLAKE3 leaf, and the constant-time comparison."""

from __future__ import annotations

import hashlib

from counterseal.crypto.digest import equal, leaf_digest, sha256, sha256_stream


def test_sha256_joins_its_parts() -> None:
    assert sha256(b"ab", memoryview(b"c")) == hashlib.sha256(b"abc").digest()
    assert sha256() == hashlib.sha256().digest()


def test_the_stream_gives_the_same() -> None:
    stream = sha256_stream()
    stream.update(b"ab")
    stream.update(b"c")
    assert stream.digest() == sha256(b"abc")


def test_blake3_of_nothing_is_the_published_value() -> None:
    assert leaf_digest(b"").hex() == (
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    )


def test_equal() -> None:
    assert equal(b"same", b"same")
    assert not equal(b"same", b"sane")
    assert not equal(b"same", b"samey")
