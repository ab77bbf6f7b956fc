"""Small files: bounded reads, whole writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from counterseal.errors import CountersealError, FormatError, TrustError
from counterseal.trust.atomic import read_bounded, read_secret, write_whole
from counterseal.wire import limits


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "card"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert read_bounded(path, 3, what="card") == b"two"
    assert os.listdir(tmp_path) == ["card"]  # noqa: PTH208 - every name, hidden ones too


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card").write_bytes(b"four")
    with pytest.raises(FormatError, match="longer than 3 bytes"):
        read_bounded(tmp_path / "card", 3, what="card")


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(FormatError):
        read_bounded(Path("/dev/zero"), 1000, what="card")


def test_secret_files_are_private_from_the_first_byte(tmp_path: Path) -> None:
    write_whole(tmp_path / "key", b"k", mode=0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_an_existing_file_stays_when_it_may_not_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_whole(path, b"new", replace=False)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "card"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["card"]


def test_a_secret_is_read_from_a_file_of_ones_own(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"two words\r\n")
    path.chmod(0o600)
    assert read_secret(path, what="password file") == b"two words"
    path.chmod(0o640)
    with pytest.raises(TrustError, match="can be read by others"):
        read_secret(path, what="password file")
    path.chmod(0o600)
    path.write_bytes(b"\n")
    with pytest.raises(CountersealError, match=r"the password file .* is empty"):
        read_secret(path, what="password file")
    path.write_bytes(bytes(limits.PASSPHRASE_FILE_BYTES + 1))
    with pytest.raises(FormatError, match="longer than"):
        read_secret(path, what="password file")
