import io
import struct
import zipfile

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models import archives
from counterseal.models.archives import open_archive, read_member
from counterseal.models.files import MemoryFiles


def packed(members, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


PLAIN = packed([("a", b"1"), ("b/c", b"22")])


def opened(data):
    return open_archive(MemoryFiles({"x.zip": data}), "x.zip")


def test_a_plain_archive_is_read():
    with opened(PLAIN) as archive:
        assert archive.namelist() == ["a", "b/c"]
        assert read_member(archive, "b/c") == b"22"
        assert read_member(archive, "b/c", limit=1) == b"2"
        with pytest.raises(FormatError, match="no member"):
            read_member(archive, "z")


def test_zeros_pack_well_without_being_a_bomb():
    with opened(packed([("a", bytes(1 << 20))], zipfile.ZIP_DEFLATED)) as archive:
        assert len(read_member(archive, "a")) == 1 << 20


def test_zip64_is_read(monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = packed([("a", b"1"), ("b", b"2")])
    assert b"PK\x06\x06" in data
    with opened(data) as archive:
        assert archive.namelist() == ["a", "b"]


def overlapping():
    data = bytearray(packed([("a", bytes(100)), ("b", bytes(100))]))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 10)
    return bytes(data)


def with_flag(flag):
    data = bytearray(PLAIN)
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= flag
    return bytes(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def twice():
    return packed([("a", b"1"), ("a", b"2")])


REFUSED = {
    "a bomb": lambda: packed([("a", bytes(32 << 20))], zipfile.ZIP_DEFLATED),
    "overlapping members": overlapping,
    "an encrypted member": lambda: with_flag(1),
    "a rare compression": lambda: packed([("a", b"1" * 1000)], zipfile.ZIP_LZMA),
    "a way up": lambda: packed([("../a", b"")]),
    "an absolute name": lambda: packed([("/a", b"")]),
    "a backslash": lambda: packed([("a\\b", b"")]),
    "an escape": lambda: packed([("a\x1b", b"")]),
    "a NUL in a name": lambda: PLAIN.replace(b"b/c", b"b\0c"),
    "a name twice": twice,
    "something after the end": lambda: PLAIN + b"x",
    "a comment": lambda: PLAIN[:-2] + b"\1\0x",
    "a second directory in the comment": lambda: PLAIN[:-2] + struct.pack("<H", len(PLAIN)) + PLAIN,
    "bytes before the directory": lambda: PLAIN[:-22] + b"xx" + PLAIN[-22:],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_refused(make):
    with pytest.raises(UnsafeFormat):
        opened(make())


def test_too_many_members_are_noticed_before_they_are_read(monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    with pytest.raises(UnsafeFormat, match="too many"):
        opened(PLAIN)


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 100, b"PK\x03\x04" + bytes(10)])
def test_what_is_no_zip_is_a_format_error(data):
    with pytest.raises(FormatError):
        opened(data)


def test_a_damaged_member_is_a_format_error():
    with opened(PLAIN.replace(b"22", b"23")) as archive, pytest.raises(FormatError, match="broken"):
        read_member(archive, "b/c")


def test_prefixed_archives_are_refused():
    with pytest.raises(FormatError):
        opened(b"MZ" + PLAIN)
