import pytest

from counterseal.errors import FormatError
from counterseal.exchange.transports.memory import MemoryObjects, MemoryTransport


def test_objects():
    objects = MemoryObjects()
    assert objects.get("a/b", limit=1) is None
    assert list(objects.names("a")) == []
    data = bytearray(b"12")
    objects.put("a/b", data)
    data[0] = 0  # what is stored does not change with the caller's buffer
    objects.put("a/c", b"")
    objects.put("ab/d", b"")
    assert objects.get("a/b", limit=2) == b"12"
    assert sorted(objects.names("a")) == ["b", "c"]
    with pytest.raises(FormatError):
        objects.get("a/b", limit=1)
    objects.delete("a/b")
    objects.delete("a/b")
    assert objects.get("a/b", limit=2) is None


def test_two_transports_are_two_places():
    one, two = MemoryTransport(), MemoryTransport()
    one.publish("a" * 32, b"letter")
    assert two.lookup("a" * 32) is None
