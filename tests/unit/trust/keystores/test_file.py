"""The key ring in one encrypted file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from counterseal.errors import FormatError, TrustError
from counterseal.trust.keystores import file as keystore_file
from counterseal.trust.keystores import keyring
from counterseal.trust.keystores.file import FileKeystore
from counterseal.trust.keystores.keyring import Generation, KeyRing

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.crypto.passphrase import Cost

CARD = "a" * 64


def test_save_and_load(tmp_path: Path, cheap: Cost, generations: tuple[Generation, ...]) -> None:
    ring = KeyRing.create(CARD, generations[0]).with_generation("b" * 64, generations[2])
    store = FileKeystore(tmp_path / "keystore.json", cost=cheap)
    store.save(ring, b"pass")
    loaded = store.load(b"pass")
    assert keyring.pack(loaded) == keyring.pack(ring)
    assert (tmp_path / "keystore.json").stat().st_mode & 0o777 == 0o600


def test_saving_again_changes_the_passphrase(
    tmp_path: Path, cheap: Cost, generations: tuple[Generation, ...]
) -> None:
    store = FileKeystore(tmp_path / "keystore.json", cost=cheap)
    store.save(KeyRing.create(CARD, generations[0]), b"old")
    store.save(store.load(b"old"), b"new")
    assert store.load(b"new").cards == (CARD,)
    with pytest.raises(TrustError, match="wrong passphrase"):
        store.load(b"old")


def test_no_private_byte_stands_in_the_file(
    tmp_path: Path, cheap: Cost, generations: tuple[Generation, ...]
) -> None:
    ring = KeyRing.create(CARD, generations[0])
    FileKeystore(tmp_path / "keystore.json", cost=cheap).save(ring, b"pass")
    document = (tmp_path / "keystore.json").read_bytes()
    assert CARD.encode() not in document
    assert b"ed25519" not in document


def test_an_empty_passphrase_is_refused_and_writes_nothing(
    tmp_path: Path, cheap: Cost, generations: tuple[Generation, ...]
) -> None:
    with pytest.raises(FormatError):
        FileKeystore(tmp_path / "k", cost=cheap).save(KeyRing.create(CARD, generations[0]), b"")
    assert list(tmp_path.iterdir()) == []


def test_the_default_cost_is_written_into_the_file() -> None:
    data = keystore_file.encrypt(b"secret", b"pass", kind="backup")
    assert b'"lanes":4,"memory_kib":65536,"passes":3' in data
    assert keystore_file.decrypt(data, b"pass", kind="backup") == b"secret"
