import os

import pytest
from workshop import AT, PASSPHRASE, Parts, opened

from counterseal.crypto.digest import LEAF_BYTES
from counterseal.errors import BadCiphertext, CountersealError, FormatError
from counterseal.exchange import reader
from counterseal.exchange.reader import PackageFiles

BIG = os.urandom(2 * LEAF_BYTES)


def files_of(bench, path):
    key = bench.key(path, bench.clinic)
    descriptor = os.open(path, os.O_RDONLY)
    return PackageFiles(descriptor, reader.read_front(descriptor), key)


def test_files_like_any_other(bench):
    files = files_of(bench, bench.seal({"a": b"12345", "b/c": BIG, "e": b""}))
    assert list(files.names()) == ["a", "b/c", "e"]
    assert [files.size(name) for name in files.names()] == [5, len(BIG), 0]
    buffer = bytearray(3)
    files.read_into("a", 1, memoryview(buffer))
    assert buffer == b"234"
    files.read_into("e", 0, memoryview(bytearray(0)))
    for name, offset, length in (("a", 3, 3), ("a", -1, 2), ("z", 0, 0)):
        with pytest.raises(FormatError):
            files.read_into(name, offset, memoryview(bytearray(length)))


def test_small_reads_do_not_open_a_leaf_again(bench, monkeypatch):
    files, calls = files_of(bench, bench.seal({"w": BIG})), []
    plain = reader.open_leaf
    monkeypatch.setattr(reader, "open_leaf", lambda *a, **k: calls.append(1) or plain(*a, **k))
    for at in range(0, 1000, 100):
        buffer = bytearray(100)
        files.read_into("w", at, memoryview(buffer))
        assert buffer == BIG[at : at + 100]
    assert len(calls) == 1
    files.forget()
    files.read_into("w", 0, memoryview(bytearray(10)))
    assert len(calls) == 2


def test_only_the_leaves_asked_for_are_touched(bench):
    """The last leaf is damaged; the first is read all the same."""
    path = bench.seal({"w": BIG})
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    files = files_of(bench, bench.put(data))
    files.read_into("w", 0, memoryview(bytearray(LEAF_BYTES)))
    with pytest.raises(BadCiphertext):
        files.read_into("w", LEAF_BYTES, memoryview(bytearray(1)))


def test_the_front_can_come_from_elsewhere(bench):
    path = bench.seal({"w": b"1"})
    data = path.read_bytes()
    body = Parts.of(data).header.body
    torn = bench.put(data[:100] + b"\xff" * 3000 + data[3100:])
    with opened(torn) as descriptor:
        with pytest.raises(CountersealError):
            reader.read_front(descriptor)
        reader.read_front(descriptor, data=data[:body]).verify(bench.lab.history, at=AT)


def test_the_wrong_kind_of_key_is_told(bench):
    keys, words = bench.seal(b"1"), bench.seal(b"1", passphrase=PASSPHRASE)
    with opened(keys) as descriptor, pytest.raises(BadCiphertext, match="for keys"):
        reader.unlock_passphrase(reader.read_front(descriptor), PASSPHRASE)
    with opened(words) as descriptor, pytest.raises(BadCiphertext, match="needs a passphrase"):
        reader.unlock(reader.read_front(descriptor), bench.clinic)


def test_an_older_key_of_ours_still_opens(bench):
    path = bench.seal(b"1")
    bench.clinic.rotate(at=AT)
    assert bench.read(path)
    bench.clinic.forget_old_keys()
    with pytest.raises(BadCiphertext):
        bench.read(path)
