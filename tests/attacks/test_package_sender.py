"""A sender with good keys and bad intentions: rival, whose card bank has pinned.

Its own sealing checks nothing (`workshop.wild`); everything has to be noticed at opening,
before a byte is on disk or a line of code runs.
"""

import io
import os
import pickle
import tracemalloc
import zipfile

import pytest
from workshop import (
    PASSPHRASE,
    Cut,
    attack,
    document,
    entry,
    leaves_of,
    manifest_plain,
    undefended,
    wild,
)

from counterseal.errors import CountersealError, FormatError, UnsafeFormat
from counterseal.exchange import layout
from counterseal.models.manifest import MAX_FILE_BYTES

NFD = "cafe\N{COMBINING ACUTE ACCENT}"
NAMES = {
    "a path out of the folder": ["../w"],
    "a path out in the middle": ["a/../../w"],
    "an absolute path": ["/etc/passwd"],
    "an empty component": ["a//b"],
    "a single dot": ["./w"],
    "an empty name": [""],
    "a backslash": ["a\\..\\w"],
    "a Windows drive": ["C:w"],
    "an alternate data stream": ["w:hidden"],
    "a NUL": ["w\0.txt"],
    "a newline": ["w\nx"],
    "a terminal escape": ["w\x1b[2J"],
    "a bidi override": ["exe\N{RIGHT-TO-LEFT OVERRIDE}txt.bin"],
    "a decomposed accent": [NFD],
    "two names that differ in case": ["W", "w"],
    "two names equal after case folding": ["stra\N{LATIN SMALL LETTER SHARP S}e", "strasse"],
    "the same name twice": ["w", "w"],
    "a file that is also a folder": ["a", "a/b"],
    "a device name": ["con.txt"],
    "a device name in a folder": ["x/LPT1"],
    "a name that ends in a dot": ["w."],
    "a name that ends in a space": ["w "],
    "a component of 256 bytes": ["w" * 256],
    "a name of 1025 bytes": ["/".join(["w" * 40] * 26)],
    "names out of order": ["b", "a"],
}


def sealed(bench, files, **more):
    data = wild(files, by=bench.rival, to=bench.bank, cast=bench.cast, **more)
    return bench.put(data)


def opened(bench, path, **more):
    return bench.open(path, by=bench.bank, sender=bench.rival, **more)


@pytest.mark.parametrize("sentence", NAMES)
def test_a_hostile_name_is_refused(sentence, bench):
    path = sealed(bench, [(name, b"x") for name in NAMES[sentence]])
    with pytest.raises((UnsafeFormat, FormatError)):
        opened(bench, path)


@attack(
    UnsafeFormat,
    Cut(
        "counterseal.models.manifest:Manifest.__post_init__",
        "names.check_names(entry.name for entry in entries)",
    ),
)
def traversal(bench):
    path, target = sealed(bench, [("../escaped", b"x")]), bench.folder / "in" / "out"
    target.parent.mkdir()

    def victim():
        with opened(bench, path) as package:
            package.extract(target)
        # The folder is made under another name beside the target and then renamed.
        return (target.parent / "escaped").exists()

    return victim


@attack(
    FormatError,
    Cut("counterseal.models.manifest:Manifest.__post_init__", '"/" in entries[0].name', "False"),
)
def through_a_link(bench):
    """One file named as in a folder; the victim's folder has a link of that name elsewhere."""
    path = sealed(bench, [("link/w", b"x")], layout="file")
    target, elsewhere = bench.folder / "out", bench.folder / "elsewhere"
    target.mkdir()
    elsewhere.mkdir()
    (target / "link").symlink_to(elsewhere)

    def victim():
        with opened(bench, path) as package:
            package.extract(target)
        return (elsewhere / "w").exists()

    return victim


class Ran:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


SMUGGLED = {
    "named as what it is": "model.pkl",
    "named as a torch file": "pytorch_model.bin",
    "named as text": "README.txt",
    "named as safetensors": "model.safetensors",
    "named as an archive of joblib": "model.joblib",
}
NO_INSPECTION = (
    Cut("counterseal.jobs.package:SealedPackage._inspect", "inspection.inspect(self.files)"),
)


def pickled(bench, name="model.pkl"):
    marker = bench.folder / "ran"
    data = pickle.dumps(Ran(marker))
    return sealed(bench, [(name, data)], layout="file"), marker


@pytest.mark.parametrize("use", ["load", "extract", "write_to", "tensor_names"])
@pytest.mark.parametrize("sentence", SMUGGLED)
def test_a_smuggled_pickle_is_refused(sentence, use, bench):
    path, marker = pickled(bench, SMUGGLED[sentence])
    uses = {
        "load": lambda p: p.load(),
        "extract": lambda p: p.extract(bench.folder / "out"),
        "write_to": lambda p: p.write_to(io.BytesIO()),
        "tensor_names": lambda p: p.tensor_names(),
    }
    with pytest.raises((UnsafeFormat, FormatError)), opened(bench, path) as package:
        uses[use](package)
    assert not marker.exists()
    assert not (bench.folder / "out").exists()


@attack(UnsafeFormat, *NO_INSPECTION)
def smuggled_to_disk(bench):
    path, marker = pickled(bench)

    def victim():
        with opened(bench, path) as package:
            package.extract(bench.folder / "out")
        pickle.loads((bench.folder / "out").read_bytes())
        return marker.exists()

    return victim


def bomb():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", bytes(40 << 20))
    return stream.getvalue()


@attack(UnsafeFormat)
def zip_bomb(bench):
    path = sealed(bench, [("w.npz", bomb())], layout="file")
    return lambda: opened(bench, path).load()


@attack(FormatError)
def huge_safetensors_header(bench):
    path = sealed(bench, [("w.safetensors", (2**62).to_bytes(8, "little") + b"{}")], layout="file")
    return lambda: opened(bench, path).load()


@attack(FormatError)
def two_model_sigs(bench):
    """A file called model.sig beside a statement that would be written under that name."""
    owner = {"identity": "0" * 64, "card": "0" * 64}
    files = [("model.sig", b"{}"), ("w", b"1")]
    path = sealed(bench, files, owner=owner, statement=_foreign_statement(bench))
    return lambda: opened(bench, path).extract(bench.folder / "out")


def _foreign_statement(bench):
    folder = bench.folder / "foreign"
    with bench.open(bench.seal({"w": b"1"}, statement=True)) as package:
        package.extract(folder)
    return (folder / "model.sig").read_text()


def claims(change):
    """A manifest that says something else than what follows it."""

    def make(bench):
        plain = change(b"12345")
        path = sealed(bench, [("w", b"12345")], manifest=plain)
        return lambda: opened(bench, path)

    return attack(FormatError)(make)


def with_length(number):
    text = manifest_plain(document([entry("w", 5)]), leaves_of(b"12345"))
    return number.to_bytes(4, "big") + text[4:]


def text(raw):
    return manifest_plain(raw)


ATTACKS = {
    "a name that leads out of the folder": traversal,
    "a name that leads through a link in the folder": through_a_link,
    "a pickle past a sender that did not look": smuggled_to_disk,
    "a zip bomb": zip_bomb,
    "a tensor header of 4 EiB": huge_safetensors_header,
    "a file and a statement of one name": two_model_sigs,
    "a manifest of 4 GiB": claims(lambda _: with_length(2**32 - 1)),
    "a manifest longer than its message": claims(lambda _: with_length(100_000)),
    "a manifest of length 0": claims(lambda _: with_length(0)),
    "an empty manifest": claims(lambda _: b""),
    "a manifest of three bytes": claims(lambda _: b"\0\0\0"),
    "a manifest that is not JSON": claims(lambda _: text(b"\xff" * 9)),
    "a manifest nested too deep": claims(lambda _: text(b"[" * 50_000)),
    "a manifest with a key twice": claims(lambda _: text(b'{"format":1,"format":1}')),
    "a manifest without files": claims(lambda _: manifest_plain(document([]))),
    "a file of one byte less": claims(
        lambda d: manifest_plain(document([entry("w", 4)]), leaves_of(d))
    ),
    "a file of one byte more": claims(
        lambda d: manifest_plain(document([entry("w", 6)]), leaves_of(d))
    ),
    "a file of 1 PiB": claims(
        lambda d: manifest_plain(document([entry("w", MAX_FILE_BYTES)]), leaves_of(d))
    ),
    "a file of more than 1 PiB": claims(
        lambda d: manifest_plain(document([entry("w", MAX_FILE_BYTES + 1)]), leaves_of(d))
    ),
    "a file of negative size": claims(
        lambda d: manifest_plain(document([entry("w", -1)]), leaves_of(d))
    ),
    "a leaf digest too few": claims(
        lambda d: manifest_plain(document([entry("w", 5)]), leaves_of(d)).rstrip(b"\0")[:-9]
    ),
    "a leaf digest too many": claims(
        lambda d: manifest_plain(document([entry("w", 5)]), leaves_of(d) * 2)
    ),
    "something in the padding": claims(
        lambda d: manifest_plain(document([entry("w", 5)]), leaves_of(d) + b"hidden")
    ),
    "an owner without a statement": claims(
        lambda d: manifest_plain(
            document([entry("w", 5)], owner={"identity": "0" * 64, "card": "0" * 64}), leaves_of(d)
        )
    ),
    "version 0": claims(
        lambda d: manifest_plain(document([entry("w", 5)], version=0), leaves_of(d))
    ),
    "a model name with a slash": claims(
        lambda d: manifest_plain(document([entry("w", 5)], model="../m"), leaves_of(d))
    ),
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_is_refused(sentence, bench):
    ATTACKS[sentence].is_refused(bench)
    assert not (bench.folder / "out").is_file()


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_works_without_the_defence(sentence, bench, monkeypatch):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)


LENGTHS = {
    "a header of 4 GiB": (2**32 - 1, 1),
    "stanzas of 4 GiB": (1, 2**32 - 1),
    "both of 4 GiB": (2**32 - 1, 2**32 - 1),
    "a header just too long": (32 * 1024 + 1, 1),
    "stanzas just too long": (1, (64 << 20) + 1),
    "stanzas longer than the file": (1, 64 << 20),
    "no header": (0, 1),
    "no stanzas": (1, 0),
}


@pytest.mark.parametrize("sentence", LENGTHS)
def test_no_length_field_allocates(sentence, bench):
    header, stanzas = LENGTHS[sentence]
    raw = layout.MAGIC + header.to_bytes(4, "big") + stanzas.to_bytes(4, "big") + bytes(5000)
    path = bench.put(raw)
    tracemalloc.start()
    try:
        with pytest.raises(CountersealError):
            bench.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_sender_does_not_choose_how_much_memory_a_manifest_takes(bench):
    """A sparse file of 1 TiB, all of it "manifest": refused before it is read."""
    data = wild(
        [("w", b"1")],
        by=bench.rival,
        to=bench.bank,
        cast=bench.cast,
        core={"manifest_bytes": 1 << 40},
        header={"size": 1 << 41},
    )
    path = bench.put(data)
    os.truncate(path, 1 << 41)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="manifest"):
            opened(bench, path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_exists_is_never_written_over(bench):
    path = sealed(bench, [("w", b"new")], layout="file")
    target = bench.folder / "out"
    target.write_bytes(b"old")
    link = bench.folder / "link"
    link.symlink_to(target)
    for place in (target, link):
        with pytest.raises(FileExistsError), opened(bench, path) as package:
            package.extract(place)
    with opened(bench, path) as package:
        package.extract(link, replace=True)
    assert target.read_bytes() == b"old"  # the link was replaced, not followed
    assert link.read_bytes() == b"new"


def test_a_folder_that_is_not_empty_stays_as_it_is(bench):
    path = sealed(bench, [("a/w", b"new")])
    target = bench.folder / "out"
    target.mkdir()
    (target / "a").symlink_to(bench.folder)
    with pytest.raises(FileExistsError), opened(bench, path) as package:
        package.extract(target)
    assert not (bench.folder / "w").exists()


def test_a_passphrase_package_of_a_stranger_needs_its_card(bench):
    data = wild([("w", b"1")], by=bench.rival, to=PASSPHRASE, cast=bench.cast)
    with pytest.raises(CountersealError):
        bench.read(bench.put(data), passphrase=PASSPHRASE)  # sender: lab
