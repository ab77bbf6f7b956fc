"""Envelopes signed by hybrid keys. The attacks stand in tests/attacks/test_trust.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from counterseal.errors import BadSignature
from counterseal.trust import signed

if TYPE_CHECKING:
    from counterseal.crypto.signing import SigningKey


def test_sign_and_verify(recovery_keys: tuple[SigningKey, ...]) -> None:
    one, two, _ = recovery_keys
    envelope = signed.sign_bytes(b"payload", "t", by=[one])
    signed.verify(envelope, "t", by=one.public)
    with pytest.raises(BadSignature):
        signed.verify(envelope, "t", by=two.public)


def test_signers_come_in_the_order_of_the_envelope(recovery_keys: tuple[SigningKey, ...]) -> None:
    one, two, three = recovery_keys
    envelope = signed.sign_bytes(b"payload", "t", by=[three, one])
    known = [key.public for key in recovery_keys]
    assert signed.signers(envelope, "t", known=known) == [three.public, one.public]
    assert two.public not in signed.signers(envelope, "t", known=known)


def test_a_signature_of_somebody_else_beside_the_right_one_is_refused(
    recovery_keys: tuple[SigningKey, ...],
) -> None:
    one, two, _ = recovery_keys
    envelope = signed.sign_bytes(b"payload", "t", by=[one, two])
    with pytest.raises(BadSignature):
        signed.verify(envelope, "t", by=one.public)


def test_an_envelope_without_signatures_is_refused(
    recovery_keys: tuple[SigningKey, ...],
) -> None:
    envelope = signed.sign_bytes(b"payload", "t", by=[])
    assert signed.signers(envelope, "t", known=[recovery_keys[0].public]) == []
    with pytest.raises(BadSignature, match="missing"):
        signed.verify(envelope, "t", by=recovery_keys[0].public)
