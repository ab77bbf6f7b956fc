"""P-256 signatures that OpenSSF model-signing verifies."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from counterseal.crypto import statement
from counterseal.crypto.statement import StatementKey
from counterseal.errors import BadSignature, FormatError


def test_sign_and_verify() -> None:
    key = StatementKey.generate()
    statement.verify(key.public, b"m", key.sign(b"m"))
    assert StatementKey(key.scalar()).public == key.public


def test_the_pem_is_what_others_read() -> None:
    key = StatementKey.generate()
    public = load_pem_public_key(statement.public_pem(key.public))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(key.sign(b"m"), b"m", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("signature", [b"", b"\x30", bytes(64), bytes(72)])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(BadSignature):
        statement.verify(StatementKey.generate().public, b"m", signature)


def test_another_message_or_key_is_refused() -> None:
    key = StatementKey.generate()
    with pytest.raises(BadSignature):
        statement.verify(key.public, b"n", key.sign(b"m"))
    with pytest.raises(BadSignature):
        statement.verify(StatementKey.generate().public, b"m", key.sign(b"m"))


@pytest.mark.parametrize("public", [b"", b"\x04", bytes(65), b"\x04" + bytes(64)])
def test_a_key_that_is_none_is_refused(public: bytes) -> None:
    with pytest.raises(BadSignature):
        statement.verify(public, b"m", b"")
    with pytest.raises(FormatError):
        statement.public_pem(public)
