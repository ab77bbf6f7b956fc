"""Recovery keys, each in its own encrypted file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from counterseal.crypto.signing import SigningKey, SigningSuite
from counterseal.errors import FormatError, TrustError
from counterseal.trust import recovery
from counterseal.trust.keystores import file as keystore_file

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.crypto.passphrase import Cost


@pytest.mark.parametrize("suite", list(SigningSuite))
def test_save_and_load(tmp_path: Path, suite: SigningSuite) -> None:
    key = SigningKey.generate(suite)
    path = tmp_path / "recovery-1"
    recovery.save(key, path, b"pass")
    assert recovery.load(path, b"pass").public == key.public
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        recovery.save(key, path, b"pass")
    with pytest.raises(TrustError):
        recovery.load(path, b"wrong")


def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, cheap: Cost) -> None:
    for suite, classical, pq in (
        ("ed25519+mldsa65", "AAAA", "AAAA"),
        ("p256+mldsa65", "A" * 43 + "=", "A" * 43 + "="),  # the scalar zero
    ):
        secret = (
            f'{{"classical":"{classical}","format":1,"kind":"recovery-key",'
            f'"pq":"{pq}","suite":"{suite}"}}'
        ).encode()
        data = keystore_file.encrypt(secret, b"pass", kind="recovery-key", cost=cheap)
        (tmp_path / "key").write_bytes(data)
        with pytest.raises(FormatError, match="not a private key"):
            recovery.load(tmp_path / "key", b"pass")


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_a_threshold_fits_the_number_of_keys(
    recovery_keys: tuple[SigningKey, ...], threshold: int
) -> None:
    with pytest.raises(ValueError, match="threshold"):
        recovery.public_part(recovery_keys, threshold=threshold)


def test_there_are_at_most_16_keys(recovery_keys: tuple[SigningKey, ...]) -> None:
    with pytest.raises(ValueError, match="17 recovery keys"):
        recovery.public_part(recovery_keys[:1] * 17, threshold=1)
