import io
import os

import pytest
from workshop import open_descriptors

from counterseal.errors import FormatError

FILES = {"a.bin": b"12345", "sub/b.bin": os.urandom((1 << 20) + 1), "sub/empty": b""}


def test_what_is_known_of_it(bench):
    path = bench.seal(FILES, statement=True, charter="c", version=3)
    with bench.open(path) as package:
        assert package.sender == "lab"
        assert package.owner.name == "lab"
        assert package.owner.verified
        assert package.manifest.version == 3
        assert package.header.core.charter == "c"
        assert list(package.names()) == list(FILES)
        assert not package.forward_secret


def test_parts_of_a_file(bench):
    with bench.open(bench.seal(FILES)) as package:
        data = FILES["sub/b.bin"]
        assert package.read("sub/b.bin") == data
        assert package.read("sub/b.bin", 1000) == data[1000:]
        assert package.read("sub/b.bin", (1 << 20) - 3, 4) == data[-5 + 1 :]
        assert package.read("sub/empty") == b""
        for arguments in (("a.bin", 6), ("a.bin", 0, 6), ("a.bin", -1), ("c",)):
            with pytest.raises(FormatError):
                package.read(*arguments)


@pytest.mark.parametrize("statement", [False, True])
def test_a_folder(bench, statement):
    target, seen = bench.folder / "out", []
    with bench.open(bench.seal(FILES, statement=statement)) as package:
        assert package.extract(target, progress=lambda *now: seen.append(now)) == target
    found = {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }
    assert (found.pop("model.sig", None) is not None) == statement
    assert found == FILES
    total = sum(map(len, FILES.values()))
    assert seen[-1] == (total, total)


def test_one_file(bench):
    path = bench.seal(b"weights", statement=True)
    with bench.open(path) as package:
        name = package.names()[0]
        assert package.extract(bench.folder / "w") == bench.folder / "w"
        (bench.folder / "place").mkdir()
        assert package.extract(bench.folder / "place") == bench.folder / "place" / name
        for place in (bench.folder / "w", bench.folder / "place"):
            with pytest.raises(FileExistsError):
                package.extract(place)
        (bench.folder / "place" / name).unlink()
        beside = bench.folder / "place" / f"{name}.sig"
        beside.write_text("another statement")
        with pytest.raises(FileExistsError):
            package.extract(bench.folder / "place")
        assert not (bench.folder / "place" / name).exists()
        package.extract(bench.folder / "place", replace=True)
    assert (bench.folder / "w").read_bytes() == b"weights"
    assert (bench.folder / "w.sig").exists()


def test_to_a_stream(bench):
    data, out = os.urandom((3 << 20) + 5), io.BytesIO()
    with bench.open(bench.seal(b"w" + data)) as package:
        package.write_to(out)
    assert out.getvalue() == b"w" + data
    with bench.open(bench.seal(FILES)) as package, pytest.raises(FormatError):
        package.write_to(io.BytesIO())


def test_a_closed_package_is_closed(bench):
    package = bench.open(bench.seal(FILES))
    package.close()
    package.close()
    for use in (
        lambda: package.read("a.bin"),
        lambda: package.extract(bench.folder / "x"),
        lambda: package.write_to(io.BytesIO()),
        package.tensor_names,
        package.load,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_tensors_one_at_a_time(bench):
    header = b'{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    data = len(header).to_bytes(8, "little") + header + b"\1\2\3\4"
    with bench.open(bench.seal({"m.safetensors": data})) as package:
        assert list(package.tensor_names()) == ["t"]


def test_no_descriptor_is_left(bench):
    path = bench.seal(FILES)
    before = open_descriptors()
    with bench.open(path) as package:
        package.extract(bench.folder / "out", threads=3)
    assert open_descriptors() == before
