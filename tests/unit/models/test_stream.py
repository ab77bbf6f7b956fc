import os

import pytest

from counterseal.models.files import MemoryFiles
from counterseal.models.stream import FileStream, open_stream

FILES = MemoryFiles({"a": bytes(range(100))})


def test_it_reads_and_seeks_like_a_file():
    stream = FileStream(FILES, "a")
    assert stream.readable()
    assert stream.seekable()
    assert stream.read(3) == b"\0\1\2"
    assert stream.seek(-2, os.SEEK_END) == 98
    assert stream.read() == b"\x62\x63"
    assert stream.seek(-50, os.SEEK_CUR) == stream.tell() == 50
    stream.seek(1000)
    assert stream.read() == b""


def test_it_is_buffered():
    with open_stream(FILES, "a") as stream:
        assert stream.read(10) == bytes(range(10))
        assert stream.peek(1)[:1] == b"\x0a"


def test_a_negative_position_is_an_error():
    with pytest.raises(ValueError, match="negative"):
        FileStream(FILES, "a").seek(-1)
