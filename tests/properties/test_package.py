"""Whatever is sealed comes back; whatever is changed is refused."""

import atexit
import io
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workshop import CHEAP, PASSPHRASE, Bench, Cast, read_all

from counterseal.crypto.digest import LEAF_BYTES
from counterseal.errors import CountersealError
from counterseal.jobs.open import open_sealed
from counterseal.jobs.seal import seal

CHUNK = 16 * 1024
EDGES = [0, 1, 15, 16, 255, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK]
LARGE = [
    LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, LEAF_BYTES + CHUNK,
    2 * LEAF_BYTES - 1, 2 * LEAF_BYTES, 3 * LEAF_BYTES + 7,
]  # fmt: skip
SIZES = st.one_of(st.sampled_from(EDGES), st.integers(0, 3 * CHUNK))
NAMES = st.text(st.characters(categories=["Ll", "Nd"]), min_size=1, max_size=12)


@cache
def bench():
    folder = tempfile.mkdtemp(prefix="counterseal-properties-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Bench(Cast(), Path(folder))


def filled(size, seed=1):
    """Bytes that differ in every chunk, made fast."""
    block = b"".join((n * 2654435761 + seed).to_bytes(8, "big")[-4:] for n in range(4096))
    data = bytearray((block * (size // len(block) + 1))[:size])
    for at in range(0, size, CHUNK):
        data[at : at + 4] = at.to_bytes(4, "big")[: min(4, size - at)]
    return bytes(data)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, SIZES), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_files_come_back(files, statement, prekey):
    made = bench()
    from counterseal.models.names import check_names

    chosen = {}
    for name, size in files:
        try:
            check_names([*chosen, name])
        except CountersealError:
            continue
        chosen[name] = filled(size, len(name))
    if not chosen:
        return
    to = made.cast.with_prekeys(made.clinic, made.lab, 1) if prekey else made.clinic
    path = made.seal(chosen, to=[to], statement=statement)
    assert made.read(path) == chosen


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("threads", [1, 3])
def test_sizes_around_leaves(size, threads):
    made, data = bench(), filled(size)
    path = made.seal({"w.bin": data, "x.bin": b"end"}, threads=threads)
    assert made.read(path) == {"w.bin": data, "x.bin": b"end"}
    target = made.path()
    with made.open(path, again=True) as package:
        package.extract(target, threads=threads)
        assert package.read("w.bin") == data
    assert (target / "w.bin").read_bytes() == data


@settings(max_examples=25, deadline=None)
@given(st.one_of(st.sampled_from(EDGES), st.sampled_from(LARGE[:4])), st.integers(1, 70_000))
def test_a_stream_comes_back(size, step):
    """Whatever pieces the stream comes in; and to a stream that takes little at a time."""
    made, data = bench(), filled(size)

    class Dribble(io.RawIOBase):
        def __init__(self):
            self.at = 0
            self.taken = bytearray()

        def read(self, wanted):
            part = data[self.at : self.at + min(step, wanted)]
            self.at += len(part)
            return part

        def write(self, given):
            self.taken += bytes(given[:step])
            return min(step, len(given))

    sealed = Dribble()
    seal(
        Dribble(), by=made.lab, to=made.cast.partner(made.clinic), output=sealed, at=made.at,
        model="stream", statement=False,
    )  # fmt: skip
    path, out = made.put(sealed.taken), Dribble()
    with made.open(path) as package:
        package.write_to(out)
    assert out.taken == data


@cache
def large():
    """One package with several leaves, open, and its contents."""
    made = bench()
    contents = {"a": filled(2 * LEAF_BYTES + 12_345), "b": filled(LEAF_BYTES), "c": filled(100)}
    package = made.open(made.seal(contents))
    return package, contents


@settings(max_examples=150, deadline=None)
@given(st.sampled_from("abc"), st.data())
def test_a_read_is_a_slice(name, data):
    package, contents = large()
    whole = contents[name]
    offset = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.one_of(st.integers(0, 300), st.integers(0, len(whole)))) or 0
    length = min(length, len(whole) - offset)
    assert package.read(name, offset, length) == whole[offset : offset + length]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from("abc"), st.integers(-5, 4 << 20), st.integers(-5, 4 << 20))
def test_a_read_outside_is_refused(name, offset, length):
    package, contents = large()
    if offset >= 0 and length >= 0 and offset + length <= len(contents[name]):
        return
    with pytest.raises(CountersealError):
        package.read(name, offset, length)


@cache
def small(kind):
    """A package, its bytes, and how it is opened."""
    made = bench()
    contents = {"a": filled(CHUNK), "b": filled(700), "c": b""}
    if kind == "passphrase":
        path = made.seal(contents, passphrase=PASSPHRASE, cost=CHEAP)
        return path.read_bytes(), {"passphrase": PASSPHRASE}
    to = made.cast.with_prekeys(made.clinic, made.lab, 1) if kind == "prekey" else made.clinic
    return made.seal(contents, to=[to, made.bank]).read_bytes(), {}


def refused(data, more):
    made = bench()
    path = made.folder / "mutant"
    path.write_bytes(data)
    sender = made.cast.partner(made.lab)
    by = {} if more else {"by": made.clinic}
    with pytest.raises(CountersealError):  # noqa: PT012 - any of these may notice
        package = open_sealed(path, sender=sender, at=made.at, **by, **more)
        try:
            read_all(package.files)
        finally:
            package.close(used=False)


KINDS = st.sampled_from(["keys", "prekey", "passphrase"])


@settings(max_examples=150, deadline=None)
@given(KINDS, st.integers(min_value=0), st.integers(0, 7))
def test_a_changed_bit_is_refused(kind, at, bit):
    data, more = small(kind)
    changed = bytearray(data)
    changed[at % len(data)] ^= 1 << bit
    refused(bytes(changed), more)


@settings(max_examples=60, deadline=None)
@given(KINDS, st.integers(min_value=1))
def test_a_shorter_package_is_refused(kind, cut):
    data, more = small(kind)
    refused(data[: -(1 + cut % len(data))] if cut % 7 else data[: cut % len(data)], more)


@settings(max_examples=40, deadline=None)
@given(KINDS, st.binary(min_size=1, max_size=40_000))
def test_a_longer_package_is_refused(kind, more_bytes):
    data, more = small(kind)
    refused(data + more_bytes, more)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=50), min_size=1, max_size=4))
def test_the_digest_names_the_contents(contents):
    """Equal contents have one digest in whatever package; others another."""
    made = bench()
    from counterseal.models.names import check_names

    try:
        check_names(contents)
    except CountersealError:
        return
    contents = {name: b"w" + data for name, data in contents.items()}  # no packed file by chance
    first, second = made.seal(contents), made.seal(contents, by=made.bank)
    name = next(iter(contents))
    third = made.seal(contents | {name: contents[name] + b"!"})
    digests = []
    for path, sender in ((first, made.lab), (second, made.bank), (third, made.lab)):
        with made.open(path, sender=sender) as package:
            digests.append(package.digest)
    assert digests[0] == digests[1] != digests[2]
