"""A folder that others can write to: links, pipes, rights, a stick that is pulled."""

import contextlib
import errno
import os
import socket
import stat

import pytest
from workshop import listed, open_descriptors

from counterseal.errors import CountersealError, Dropped, FormatError
from counterseal.exchange.transports import NoBlocks
from counterseal.exchange.transports import folder as folders
from counterseal.exchange.transports.folder import FolderObjects, FolderTransport

BOX = "a" * 32
PLACE = f"boxes/{BOX}/letters/{0:020d}-{'0' * 32}"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "post"
    folder.mkdir()
    return folder


@pytest.fixture
def objects(root):
    return FolderObjects(root)


def test_objects(objects, root):
    assert objects.get("a/b/c", limit=9) is None
    assert objects.names("a/b") == []
    objects.delete("a/b/c")
    objects.put("a/b/c", b"123")
    objects.put("a/b/d", b"")
    objects.put("a/e", b"e")
    assert objects.get("a/b/c", limit=3) == b"123"
    assert objects.get("a/b/d", limit=0) == b""
    assert sorted(objects.names("a/b")) == ["c", "d"]
    assert objects.names("a") == ["e"]
    objects.put("a/b/c", b"4567")
    assert objects.get("a/b/c", limit=4) == b"4567"
    with pytest.raises(FormatError, match="longer"):
        objects.get("a/b/c", limit=3)
    objects.delete("a/b/c")
    objects.delete("a/b/c")
    assert listed(root / "a" / "b") == ["d"]


def test_no_descriptor_stays_open(objects, root):
    before = open_descriptors()
    test_objects(objects, root)
    (root / "a" / "b" / "folder").mkdir()
    assert objects.get("a/b/folder", limit=1) is None
    with pytest.raises(Dropped):
        objects.put("a/e/f", b"")
    assert open_descriptors() == before


def test_an_object_appears_whole_or_not_at_all(objects, root, monkeypatch):
    objects.put("a/b", b"old")
    real = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(Dropped, match="No space left"):
        objects.put("a/b", b"new")
    monkeypatch.setattr(folders.os, "fsync", real)
    assert objects.get("a/b", limit=9) == b"old"
    assert listed(root / "a") == ["b"]


def test_what_a_killed_writer_left_is_taken_away_after_a_day(objects, root):
    objects.put("a/b", b"1")
    left, fresh = root / "a" / ".0123.part", root / "a" / ".4567.part"
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert objects.names("a") == ["b"]
    assert listed(root / "a") == [".4567.part", "b"]


def test_a_share_that_cannot_sync_a_folder(objects, root, monkeypatch):
    real = os.fsync

    def no_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(folders.os, "fsync", no_folders)
    objects.put("a/b", b"1")
    assert objects.get("a/b", limit=1) == b"1"


@pytest.mark.parametrize("rights", [0o2775, 0o700, 0o1777])
def test_folders_have_the_rights_of_the_root(objects, root, rights):
    """The partner may be another user of this machine, in the same group. A sticky bit would
    keep the receiver from taking away what the sender put there.
    """
    root.chmod(rights)
    objects.put("a/b/c", b"")
    for folder in (root / "a", root / "a" / "b"):
        assert folder.stat().st_mode & 0o7777 == rights & ~0o1000


# ── links and other things that are no files ────────────────────────────────────────────────


def test_no_link_is_followed_to_a_file(objects, root, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    objects.put("a/b", b"1")
    (root / "a" / "link").symlink_to(secret)
    assert objects.get("a/link", limit=100) is None
    assert objects.names("a") == ["b"]
    objects.put("a/link", b"new")
    assert secret.read_bytes() == b"secret"
    assert objects.get("a/link", limit=100) == b"new"
    (root / "a" / "other").symlink_to(secret)
    objects.delete("a/other")
    assert secret.exists()


def through_a_linked_folder(objects, root, tmp_path):
    ours = tmp_path / "ours"
    ours.mkdir()
    (root / "boxes").mkdir()
    (root / "boxes" / BOX).symlink_to(ours)
    objects.put(f"boxes/{BOX}/board", b"letter")
    return ours


def test_no_link_is_followed_to_a_folder(objects, root, tmp_path):
    """`boxes/BOX` as a link would let whoever owns the share write into a folder of ours."""
    with pytest.raises(Dropped):
        through_a_linked_folder(objects, root, tmp_path)
    assert listed(tmp_path / "ours") == []
    for use in (
        lambda: objects.get(f"boxes/{BOX}/board", limit=9),
        lambda: objects.names(f"boxes/{BOX}"),
        lambda: objects.delete(f"boxes/{BOX}/board"),
    ):
        with pytest.raises(Dropped):
            use()


def test_without_the_defence_it_is(objects, root, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_INNER", folders._FOLDER)
    assert listed(through_a_linked_folder(objects, root, tmp_path)) == ["board"]


def test_rights_are_not_given_to_what_a_link_points_to(objects, root, tmp_path, monkeypatch):
    """The link comes between making the folder and opening it."""
    ours = tmp_path / "ours"
    ours.mkdir(mode=0o700)
    root.chmod(0o777)
    real = os.mkdir

    def planted(name, *, dir_fd):
        real(name, dir_fd=dir_fd)
        (root / name).rmdir()
        (root / name).symlink_to(ours)

    monkeypatch.setattr(folders.os, "mkdir", planted)
    with pytest.raises(Dropped):
        objects.put("a/b", b"")
    assert ours.stat().st_mode & 0o777 == 0o700


def test_the_root_itself_may_be_a_link(root, tmp_path):
    """Its owner chose it."""
    (tmp_path / "link").symlink_to(root)
    FolderObjects(tmp_path / "link").put("a", b"1")
    assert listed(root) == ["a"]


def test_what_is_no_file_is_not_there(objects, root):
    objects.put(PLACE, b"\0\0\0\0letter")
    folder = (root / PLACE).parent
    os.mkfifo(folder / f"{1:020d}-{'1' * 32}")
    (folder / f"{2:020d}-{'2' * 32}").mkdir()
    with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as planted:
        planted.bind("3" * 20 + "-" + "3" * 32)
    (folder / f"{4:020d}-{'4' * 32}").symlink_to("/dev/zero")
    for name in listed(folder)[1:]:
        assert objects.get(f"boxes/{BOX}/letters/{name}", limit=9) is None
    (letter,) = FolderTransport(root).waiting([BOX], wait=0.0)
    assert letter.data == b"letter"


def test_a_file_that_grows_while_it_is_read(objects, root, monkeypatch):
    objects.put("a", b"12")
    real = os.read

    def growing(descriptor, count):
        with (root / "a").open("ab") as file:
            file.write(b"345")
        return real(descriptor, count)

    monkeypatch.setattr(folders.os, "read", growing)
    assert objects.get("a", limit=2) == b"12"


def test_a_file_that_shrinks_while_it_is_read(objects, root, monkeypatch):
    objects.put("a", b"12")
    real = os.read

    def shrinking(descriptor, count):
        os.truncate(root / "a", 1)
        return real(descriptor, count)

    monkeypatch.setattr(folders.os, "read", shrinking)
    assert objects.get("a", limit=2) == b"1"  # the digest of the block will tell


# ── the stick ───────────────────────────────────────────────────────────────────────────────


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(CountersealError, match="there is no folder"):
        FolderTransport(tmp_path / "stick")
    assert listed(tmp_path) == []


def test_a_stick_that_is_pulled_is_not_made_up(root):
    """Written to the empty mount point, a package would fill our own disk and reach nobody."""
    transport = FolderTransport(root)
    root.rmdir()
    for use in (
        lambda: transport.deliver(BOX, b"letter", NoBlocks()),
        lambda: transport.publish(BOX, b"letter"),
        lambda: transport.lookup(BOX),
        lambda: list(transport.waiting([BOX], wait=0.0)),
    ):
        with pytest.raises(Dropped, match="No such file"):
            use()
    assert not root.exists()


def test_a_stick_that_is_full_or_read_only(root, monkeypatch):
    transport = FolderTransport(root)
    real = os.open

    def read_only(path, flags, *more, **other):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *more, **other)

    transport.deliver(BOX, b"one", NoBlocks())
    monkeypatch.setattr(folders.os, "open", read_only)
    with pytest.raises(Dropped, match="Read-only"):
        transport.deliver(BOX, b"two", NoBlocks())
    assert len(list(transport.waiting([BOX], wait=0.0))) == 1
