import os
from datetime import datetime

import pytest
from workshop import AT, CHEAP, DAY, PASSPHRASE, Parts

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.jobs.seal import seal


def sealed(bench, source, **more):
    out = bench.path(".sealed")
    more.setdefault("to", bench.cast.partner(bench.clinic))
    return seal(source, by=bench.lab, output=out, at=AT, **more), out


def test_the_receipt_says_what_was_sealed(bench):
    source = bench.model({"a.bin": b"12345", "sub/b.bin": b""})
    partner = bench.cast.with_prekeys(bench.bank, bench.lab)
    (source / ".DS_Store").write_bytes(b"junk")
    receipt, out = sealed(
        bench, source, to=[bench.cast.partner(bench.clinic), partner], expires=DAY, charter="c-1"
    )
    assert receipt.output == str(out)
    assert receipt.package_bytes == out.stat().st_size
    assert (receipt.files, receipt.bytes, receipt.version) == (2, 5, 1)
    assert receipt.recipients == ("clinic", "bank")
    assert receipt.forward_secret == ("bank",)
    assert receipt.statement
    assert receipt.expires == AT + DAY
    assert receipt.skipped == (".DS_Store",)
    header = Parts.of(out.read_bytes()).header
    assert header.core.package == receipt.package
    assert header.core.charter == "c-1"


def test_the_model_has_the_name_of_its_folder(bench):
    folder = bench.folder / "My model (v2)"
    folder.mkdir()
    (folder / "w").write_bytes(b"1")
    assert sealed(bench, folder)[0].model == "My-model--v2-"
    assert sealed(bench, folder / "w")[0].model == "w"


@pytest.mark.parametrize("name", ["my model", "../m", "m\n", ".m", "m" * 129, "modèle"])
def test_a_name_that_no_recipient_would_accept_is_refused(bench, name):
    with pytest.raises(FormatError):
        sealed(bench, bench.model(b"1"), model=name)


@pytest.mark.parametrize("charter", ["two words", "", "line\n", "c" * 129])
def test_a_charter_that_no_recipient_would_accept_is_refused(bench, charter):
    with pytest.raises(FormatError):
        sealed(bench, bench.model(b"1"), charter=charter)
    assert not list(bench.folder.glob("*.sealed"))


def test_a_time_without_a_zone_is_a_mistake(bench):
    with pytest.raises(ValueError, match="zone"):
        sealed(bench, bench.model(b"1"), expires=datetime(2030, 1, 1))  # noqa: DTZ001


def test_unsafe_files_are_refused_before_anything_is_written(bench):
    with pytest.raises(UnsafeFormat):
        sealed(bench, bench.model({"m.pkl": b"\x80\4}."}))
    assert not list(bench.folder.glob("*.sealed"))
    assert not list(bench.folder.glob(".*"))


def test_an_output_that_exists_stays(bench):
    out = bench.folder / "out"
    out.write_bytes(b"old")
    source, to = bench.model(b"1"), bench.cast.partner(bench.clinic)
    with pytest.raises(FileExistsError):
        seal(source, by=bench.lab, to=to, output=out, at=AT)
    assert out.read_bytes() == b"old"
    seal(source, by=bench.lab, to=to, output=out, at=AT, replace=True)
    assert bench.read(out)


def test_a_source_that_is_not_there(bench):
    with pytest.raises(FileNotFoundError):
        sealed(bench, bench.folder / "nothing")
    (bench.folder / "empty").mkdir()
    with pytest.raises(FormatError):
        sealed(bench, bench.folder / "empty")


def test_a_link_is_not_followed(bench):
    source = bench.model({"w": b"1"})
    (source / "link").symlink_to("/etc/hostname")
    with pytest.raises(UnsafeFormat):
        sealed(bench, source)


def test_progress_ends_at_the_end(bench):
    seen = []
    source = bench.model({"w": os.urandom(5 << 20)})
    sealed(bench, source, progress=lambda *now: seen.append(now))
    assert seen[-1] == (5 << 20, 5 << 20)


def test_an_open_package_is_passed_on_without_touching_the_disk(bench):
    bench.cast.introduce(bench.lab, to=bench.clinic)
    path = bench.seal({"a": b"1", "sub/b": os.urandom(2 << 20)}, statement=True)
    out = bench.path(".sealed")
    with bench.open(path) as package:
        receipt = seal(
            package, by=bench.clinic, to=bench.cast.partner(bench.bank), output=out, at=AT
        )
        assert receipt.digest == package.digest
        assert receipt.model == "scan"
    assert bench.read(out, by=bench.bank, sender=bench.clinic).keys() == {"a", "sub/b"}


def test_a_passphrase(bench):
    receipt, out = sealed(bench, bench.model(b"1"), to=(), passphrase=PASSPHRASE, cost=CHEAP)
    assert receipt.recipients == ()
    assert bench.read(out, passphrase=PASSPHRASE)
    for empty in (b"", b"x" * 4097):
        with pytest.raises(FormatError):
            sealed(bench, bench.model(b"1"), to=(), passphrase=empty, cost=CHEAP)


def test_a_stream_as_output(bench):
    out = bench.folder / "out"
    with out.open("wb") as file:
        receipt = seal(
            bench.model(b"1"), by=bench.lab, to=bench.cast.partner(bench.clinic), output=file, at=AT
        )
    assert receipt.output is None
    assert bench.read(out)
