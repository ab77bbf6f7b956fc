import io
import os

import pytest
from workshop import open_descriptors

from counterseal.crypto.digest import LEAF_BYTES, leaf_digest, sha256
from counterseal.errors import BadCiphertext, CountersealError, FormatError
from counterseal.exchange import payload
from counterseal.exchange.keys import ContentKey
from counterseal.exchange.payload import FileSealing, open_leaf, pread_exactly, pwrite_all
from counterseal.exchange.workers import Scratch
from counterseal.models.files import FolderFiles, MemoryFiles

DATA = os.urandom(2 * LEAF_BYTES + 77)


@pytest.fixture
def memory():
    descriptor = os.memfd_create("test")
    yield descriptor
    os.close(descriptor)


def sealed(memory, files, name, size, *, with_sha256=True):
    key = ContentKey.generate()
    sealing = FileSealing(key.file_message(0, size), at=100, output=memory, with_sha256=with_sha256)
    scratch = Scratch()
    done = sum(task(scratch) for task in sealing.tasks(files, name))
    assert done == size
    return key, sealing


@pytest.mark.parametrize("size", [0, 1, LEAF_BYTES, len(DATA)])
@pytest.mark.parametrize("on_disk", [False, True])
def test_digests_and_bytes(memory, tmp_path, size, on_disk):
    data = DATA[:size]
    (tmp_path / "w").write_bytes(data)
    files = FolderFiles(tmp_path, {"w": tmp_path / "w"}) if on_disk else MemoryFiles({"w": data})
    key, sealing = sealed(memory, files, "w", size)
    assert sealing.sha256 == sha256(data).hex()
    expected = [data[at : at + LEAF_BYTES] for at in range(0, size, LEAF_BYTES)]
    assert bytes(sealing.leaves) == b"".join(map(leaf_digest, expected))
    message = key.file_message(0, size, prefix=payload.read_prefix(memory, 100))
    scratch = Scratch()
    for leaf, part in enumerate(expected):
        plain = scratch.plain[: len(part)]
        digest = leaf_digest(part)
        open_leaf(memory, message, leaf, plain, scratch.sealed, at=100, digest=digest)
        assert bytes(plain) == part


def test_without_sha256_it_is_not_computed(memory):
    _, sealing = sealed(memory, MemoryFiles({"w": DATA}), "w", len(DATA), with_sha256=False)
    assert sealing.sha256 is None


def test_a_wrong_digest_wipes(memory):
    key, sealing = sealed(memory, MemoryFiles({"w": b"12345"}), "w", 5)
    message = key.file_message(0, 5, prefix=payload.read_prefix(memory, 100))
    plain, scratch = memoryview(bytearray(b"xxxxx")), Scratch()
    with pytest.raises(BadCiphertext):
        open_leaf(memory, message, 0, plain, scratch.sealed, at=100, digest=bytes(32))
    assert bytes(plain) == bytes(5)
    open_leaf(memory, message, 0, plain, scratch.sealed, at=100, digest=bytes(sealing.leaves))
    assert bytes(plain) == b"12345"


def test_a_file_that_is_not_as_listed(memory, tmp_path):
    (tmp_path / "w").write_bytes(b"123")
    files = FolderFiles(tmp_path, {"w": tmp_path / "w"})
    before = open_descriptors()
    with pytest.raises(FormatError, match="changed"):
        sealed(memory, files, "w", 4)
    assert open_descriptors() == before


def test_a_failure_leaves_nothing_open(memory, tmp_path):
    (tmp_path / "w").write_bytes(DATA)
    files = FolderFiles(tmp_path, {"w": tmp_path / "w"})
    before = open_descriptors()
    message = ContentKey.generate().file_message(0, len(DATA))
    sealing = FileSealing(message, at=0, output=memory, with_sha256=False)
    task = next(sealing.tasks(files, "w"))
    task(Scratch())
    assert open_descriptors() == before + 1
    sealing.close()
    sealing.close()
    assert open_descriptors() == before


def test_exact_reads_and_writes(memory):
    pwrite_all(memory, memoryview(b"12345"), 3)
    buffer = memoryview(bytearray(5))
    pread_exactly(memory, buffer, 3)
    assert bytes(buffer) == b"12345"
    with pytest.raises(CountersealError, match="cut"):
        pread_exactly(memory, buffer, 4)


def test_an_unbuffered_stream_takes_little_at_a_time():
    class Slow(io.RawIOBase):
        taken = b""

        def write(self, data):
            self.taken += bytes(data[:3])
            return min(3, len(data))

    stream = Slow()
    payload.write_all(stream, memoryview(b"0123456789"))
    assert stream.taken == b"0123456789"
