"""Buckets, through obstore's own stores of a folder and of memory."""

import os

import pytest
from obstore.store import LocalStore, MemoryStore
from post import Post
from workshop import listed

from counterseal.errors import Dropped, FormatError
from counterseal.exchange.transports.bucket import BucketObjects, BucketTransport
from counterseal.exchange.transports.objects import ObjectTransport
from counterseal.jobs.receive import Arrived, Confirmed


@pytest.fixture(params=["memory", "folder"])
def store(request, tmp_path):
    if request.param == "memory":
        return MemoryStore()
    (tmp_path / "bucket").mkdir()
    return LocalStore(tmp_path / "bucket")


def test_objects(store):
    objects = BucketObjects(store)
    assert objects.get("a/b/c", limit=9) is None
    assert list(objects.names("a/b")) == []
    objects.delete("a/b/c")
    objects.put("a/b/c", b"123")
    objects.put("a/b/c", b"4567")
    objects.put("a/bb", b"")
    assert objects.get("a/b/c", limit=4) == b"4567"
    assert list(objects.names("a/b")) == ["c"]
    assert list(objects.names("a")) == ["bb"]
    with pytest.raises(FormatError, match="longer"):
        objects.get("a/b/c", limit=3)
    objects.delete("a/b/c")
    assert objects.get("a/b/c", limit=9) is None
    assert objects.parallel > 1


def test_a_package_goes_through_a_bucket(bench, store):
    post = Post(bench, ObjectTransport(BucketObjects(store)))
    package = bench.seal({"w.bin": os.urandom(5 << 20)})
    assert post.send(package).blocks == 7
    (arrived,) = post.receive()
    assert isinstance(arrived, Arrived)
    assert arrived.path.read_bytes() == package.read_bytes()
    (confirmed,) = post.receive(by=bench.lab)
    assert isinstance(confirmed, Confirmed)
    assert post.receive() == []
    left = [one["path"] for page in store.list() for one in page]
    assert left == []


def test_another_listing_than_one_page(store):
    objects = BucketObjects(store)
    for number in range(1500):
        objects.put(f"a/{number:064d}", b"")
    assert len(list(objects.names("a"))) == 1500


def test_a_store_that_does_not_answer(tmp_path):
    (tmp_path / "bucket").mkdir()
    objects = BucketObjects(LocalStore(tmp_path / "bucket"))
    (tmp_path / "bucket" / "a").write_text("a file where a folder should be")
    with pytest.raises(Dropped, match="does not answer") as caught:
        objects.put("a/b", b"1")
    assert "\n" not in caught.value.message
    assert listed(tmp_path / "bucket") == ["a"]


@pytest.mark.parametrize("url", ["s3://", "foo://x", "az://container/x", "nothing"])
def test_an_address_of_no_store(url, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(FormatError, match="cannot use"):
        BucketTransport(url)


def test_an_address(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    BucketTransport("s3://bucket/prefix").close()
