import pytest

from counterseal.errors import UnsafeFormat
from counterseal.models.files import MemoryFiles
from counterseal.models.inspection import inspect


def test_a_folder_of_ordinary_files_gets_media_types():
    files = MemoryFiles(
        {
            "README.md": b"# a model\n",
            "run.py": b"import os\nos.system('nothing of ours executes this')\n",
            "run.sh": b"#!/bin/sh\n",
            "config.json": b"{}",
            "vocab.txt": b"cat\ndog\nRed\n",
            "weights.bin": bytes(100),
            "empty": b"",
            "x.safetensors": b"\x08" + bytes(7) + b"{}      ",
            "LICENSE": b"Copyright",
            "Makefile": b"clean:\n\trm\n",
        }
    )
    assert inspect(files) == {
        "LICENSE": "application/octet-stream",
        "Makefile": "application/octet-stream",
        "README.md": "text/markdown",
        "config.json": "application/json",
        "empty": "application/octet-stream",
        "run.py": "text/x-python",
        "run.sh": "text/x-shellscript",
        "vocab.txt": "text/plain",
        "weights.bin": "application/octet-stream",
        "x.safetensors": "application/x-safetensors",
    }


class Sparse:
    """One file of 100 GB; reading much of it fails the test."""

    def __init__(self, name):
        self.name, self.left = name, 1 << 20

    def names(self):
        return [self.name]

    def size(self, name):
        return 100 << 30

    def read_into(self, name, offset, buffer):
        self.left -= len(buffer)
        assert self.left >= 0, "read too much"
        buffer[:] = bytes(len(buffer))


@pytest.mark.parametrize("name", ["weights.bin", "x.gguf", "data"])
def test_large_files_are_not_read_through(name):
    assert inspect(Sparse(name)) == {name: inspect(Sparse(name))[name]}


@pytest.mark.parametrize(
    "name", ["m.pkl", "m.PICKLE", "m.joblib", "m.dill", "m.pkl.gz", "m.joblib.xz", "a/b.pkl.txt"]
)
def test_names_that_mean_pickle_are_refused_whatever_is_inside(name):
    with pytest.raises(UnsafeFormat, match="pickle") as error:
        inspect(MemoryFiles({name: b"hello"}))
    assert "convert" in (error.value.hint or "")
