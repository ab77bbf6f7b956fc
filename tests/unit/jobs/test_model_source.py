from __future__ import annotations

import os

import numpy as np
import pytest
from obstore.store import LocalStore, MemoryStore
from sklearn.linear_model import LogisticRegression
from skops.io import dump

from counterseal.errors import CountersealError, Dropped, FormatError, TamperError, UnsafeFormat
from counterseal.jobs import model_source
from counterseal.jobs.model_source import ModelSource, fetch
from counterseal.models.files import read


@pytest.fixture
def model(tmp_path):
    rows = np.random.default_rng(7).normal(size=(40, 3))
    dump(LogisticRegression().fit(rows, rows[:, 0] > 0), tmp_path / "scan.skops")
    return tmp_path / "scan.skops"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scan=a.onnx", ("scan", "1.0.0", "a.onnx")),
        ("scan@1.4.0=a=b.onnx", ("scan", "1.4.0", "a=b.onnx")),
        ("m=oip+https://host/M", ("m", "1.0.0", "oip+https://host/M")),
    ],
)
def test_what_is_served_is_read(text, expected):
    source = ModelSource.parse(text)
    assert (source.name, source.number, source.where) == expected


@pytest.mark.parametrize("text", ["", "scan", "=a", "scan=", "@1.0.0=a"])
def test_what_names_no_model_or_no_place_is_refused(text):
    with pytest.raises(FormatError):
        ModelSource.parse(text)


def test_the_digest_is_that_of_the_files_wherever_they_are(model, monkeypatch):
    digest, backend = ModelSource("scan", "1.0.0", str(model)).load()
    store = MemoryStore()
    store.put(model.name, model.read_bytes())
    monkeypatch.setattr(model_source, "fetch", lambda url: fetch(url, store))
    again, other = ModelSource("scan", "1.0.0", "s3://models/scan").load()
    assert again == digest
    assert other.inputs == backend.inputs


def test_a_bucket_gives_a_folder_or_the_one_object_that_is_named(model, tmp_path):
    store = LocalStore(tmp_path)
    assert list(fetch("s3://models/scan", store).names()) == [model.name]
    empty = MemoryStore()
    with pytest.raises(FormatError, match="there is no model"):
        fetch("s3://models/scan.skops", empty)


def test_an_object_that_was_named_is_fetched_alone():
    class OneObject(MemoryStore):
        def list(self):
            return iter(())

    store = OneObject()
    store.put("scan.skops", b"bytes")
    files = fetch("s3://models/scan.skops", store)
    assert bytes(read(files, "scan.skops")) == b"bytes"


def test_more_than_fits_is_not_fetched(monkeypatch):
    monkeypatch.setattr(model_source, "MOST_BYTES", 10)
    store = MemoryStore()
    store.put("a", bytes(11))
    with pytest.raises(FormatError, match="more than"):
        fetch("s3://models/a", store)


def test_a_name_that_leaves_its_folder_is_refused():
    class Hostile:
        def list(self):
            yield [{"path": "../../etc/cron.d/x", "size": 1}]

        def get(self, path):
            return type("Got", (), {"bytes": lambda _: b"x"})()

    with pytest.raises(CountersealError):
        fetch("s3://models/a", Hostile())


def test_a_bucket_that_cannot_be_reached_is_one_clear_error():
    class Broken:
        def list(self):
            raise OSError("no route")

    with pytest.raises(Dropped, match="cannot fetch s3://models/a: no route"):
        fetch("s3://models/a", Broken())


def test_a_model_that_changes_while_it_is_loaded_is_refused(model, monkeypatch):
    from counterseal.gateway.backends import loading

    load = loading.load

    def swapped(files, **options):
        backend = load(files, **options)
        with model.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(b"x")
        return backend

    monkeypatch.setattr(loading, "load", swapped)
    with pytest.raises((TamperError, FormatError)):
        ModelSource("scan", "1.0.0", str(model)).load()


def test_a_pickle_is_not_served(tmp_path):
    (tmp_path / "scan.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(UnsafeFormat):
        ModelSource("scan", "1.0.0", str(tmp_path / "scan.pkl")).load()
