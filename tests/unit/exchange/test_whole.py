import fcntl
import os
import stat

import pytest
from workshop import listed

from counterseal.exchange.whole import whole_file, whole_folder

LEFT = ".out.0123456789ab.part"


def names(folder):
    return listed(folder)


def test_a_file_appears_at_the_end(tmp_path):
    out = tmp_path / "out"
    with whole_file(out, mode=0o600) as descriptor:
        os.write(descriptor, b"whole")
        assert not out.exists()
    assert out.read_bytes() == b"whole"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_stays_after_an_error(tmp_path, error):
    for whole in (whole_file, whole_folder):
        with pytest.raises(error), whole(tmp_path / "out"):
            raise error
    assert names(tmp_path) == []


def test_what_exists_stays(tmp_path):
    out = tmp_path / "out"
    out.write_bytes(b"old")
    with pytest.raises(FileExistsError), whole_file(out):
        pytest.fail("it has begun")
    with pytest.raises(ValueError), whole_file(out, replace=True):
        raise ValueError
    assert out.read_bytes() == b"old"
    with whole_file(out, replace=True) as descriptor:
        os.write(descriptor, b"new")
    assert out.read_bytes() == b"new"


def test_what_appears_meanwhile_stays(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(FileExistsError), whole_file(out):
        out.write_bytes(b"theirs")
    assert out.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


def test_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", refuse)
    with whole_file(tmp_path / "out") as descriptor:
        os.write(descriptor, b"x")
    assert names(tmp_path) == ["out"]
    with pytest.raises(FileExistsError), whole_file(tmp_path / "two"):
        (tmp_path / "two").write_bytes(b"theirs")


def test_a_folder_appears_at_the_end(tmp_path):
    out = tmp_path / "out"
    for _ in range(2):
        with whole_folder(out) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "w").write_bytes(b"1")
        assert names(out) == ["sub"]
        (out / "sub" / "w").unlink()
        (out / "sub").rmdir()  # an empty folder may be replaced
    assert names(tmp_path) == ["out"]


def test_a_folder_with_something_in_it_stays(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_bytes(b"1")
    with pytest.raises(FileExistsError), whole_folder(tmp_path / "out"):
        pytest.fail("it has begun")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(FileExistsError), whole_folder(tmp_path / "link"):
        pytest.fail("it has begun")
    with pytest.raises(FileExistsError), whole_file(tmp_path / "out", replace=True):
        pytest.fail("it has begun")


def test_there_must_be_a_place(tmp_path):
    for whole in (whole_file, whole_folder):
        with pytest.raises(FileNotFoundError), whole(tmp_path / "nowhere" / "out"):
            pytest.fail("it has begun")


def test_abandoned_parts_are_swept(tmp_path):
    (tmp_path / LEFT).write_bytes(b"half")
    (tmp_path / ".out.abababababab.part").mkdir()
    (tmp_path / ".out.abababababab.part" / "w").write_bytes(b"half")
    kept = [".out.short.part", ".other.0123456789ab.part", "out.0123456789ab.part", ".out.part"]
    for name in kept:
        (tmp_path / name).write_bytes(b"not ours")
    with whole_file(tmp_path / "out"):
        pass
    assert names(tmp_path) == sorted([*kept, "out"])


def test_a_part_in_use_is_left_alone(tmp_path):
    with (tmp_path / LEFT).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with whole_file(tmp_path / "out"):
            pass
    assert names(tmp_path) == [LEFT, "out"]
