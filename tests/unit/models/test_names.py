import os
import socket
from pathlib import Path

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.names import MAX_NAMES, check_names, walk

REFUSED = {
    "an empty name": [""],
    "an absolute path": ["/etc/passwd"],
    "a way up": ["../x"],
    "a way up in the middle": ["a/../../x"],
    "a dot component": ["a/./b"],
    "an empty component": ["a//b"],
    "a folder's slash": ["a/"],
    "a backslash": ["a\\b"],
    "a drive letter": ["C:x"],
    "an alternate data stream": ["a:b"],
    "a NUL": ["a\0b"],
    "a terminal escape": ["a\x1b[2Jb"],
    "a newline": ["a\nb"],
    "a trailing dot": ["a./b"],
    "a trailing space": ["a "],
    "a device": ["con"],
    "a device with an extension": ["x/NUL.txt"],
    "a device with a space": ["aux .txt"],
    "a numbered device": ["Com1.bin"],
    "a superscript device": ["lpt¹"],
    "a decomposed accent": ["e\u0301.txt"],
    "a lone surrogate": ["a\udc80"],
    "a bidi override": ["a\u202etxt.exe"],
    "a zero-width space": ["a\u200bb"],
    "a line separator": ["a\u2028b"],
    "a long component": ["a" * 256],
    "a long component in bytes": ["é" * 128],
    "a long name": ["/".join(["a" * 200] * 6)],
    "the same name twice": ["a", "b", "a"],
    "names that differ in case": ["Model.bin", "b", "model.BIN"],
    "names that differ in sharp s": ["straße", "STRASSE"],
    "a file that is a folder": ["a", "a/b"],
    "a file that is a folder but for case": ["a", "a b", "A/b/c"],
}


@pytest.mark.parametrize("names", REFUSED.values(), ids=REFUSED)
def test_refused(names):
    with pytest.raises(UnsafeFormat) as error:
        check_names(names)
    assert error.value.hint
    assert error.value.message.isascii()
    assert error.value.message.isprintable()


def test_ordinary_names_pass():
    check_names(
        ["model.safetensors", "a/b/c.json", "a/b-c", "a b", "modèle.onnx", "模型", ".config"]
    )
    check_names(["console.txt", "com10", "...x", "-rf", "~", "emoji 🙂.md"])


def test_there_is_a_limit_on_the_number_of_names():
    with pytest.raises(UnsafeFormat, match="more than 65536"):
        check_names(str(n) for n in range(MAX_NAMES + 1))


def test_a_folder_is_walked_and_junk_reported(tmp_path: Path):
    for name in (
        "a.bin",
        "sub/b.bin",
        "sub/.DS_Store",
        ".git/HEAD",
        "x/__pycache__/y.pyc",
        "s.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / ".gitignore").touch()
    files, skipped = walk(tmp_path, skip=["s.json"])
    assert files.names() == [".gitignore", "a.bin", "sub/b.bin"]
    assert skipped == (".git", "sub/.DS_Store", "x/__pycache__")


def test_a_single_file_has_its_own_name(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"12")
    files, skipped = walk(tmp_path / "m.onnx")
    assert (files.names(), files.size("m.onnx"), skipped) == (["m.onnx"], 2, ())


def test_links_are_refused_wherever_they_point(tmp_path: Path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/a").touch()
    (tmp_path / "m/link").symlink_to("a")
    with pytest.raises(UnsafeFormat, match="symbolic link") as error:
        walk(tmp_path / "m")
    assert "cp -rL" in (error.value.hint or "")
    (tmp_path / "m/link").unlink()
    (tmp_path / "m/.git").symlink_to("/")
    with pytest.raises(UnsafeFormat, match="symbolic link"):
        walk(tmp_path / "m")
    (tmp_path / "root").symlink_to(tmp_path / "m")
    with pytest.raises(UnsafeFormat, match="symbolic link"):
        walk(tmp_path / "root")


def test_pipes_and_sockets_are_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsafeFormat, match="not a regular file"):
        walk(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(UnsafeFormat, match="not a regular file"):
            walk(tmp_path)


def test_names_the_file_system_could_not_decode_are_refused(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    with pytest.raises(UnsafeFormat):
        walk(tmp_path)


def test_nothing_there_is_said(tmp_path: Path):
    with pytest.raises(FormatError, match="no files"):
        walk(tmp_path)
    with pytest.raises(FormatError, match="no file or folder"):
        walk(tmp_path / "missing")
