import io
import warnings

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import MemoryFiles
from counterseal.models.formats.numpy import Npy, Npz
from counterseal.models.formats.seam import LoadOptions

np = pytest.importorskip("numpy")


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return MemoryFiles({"a.npy": stream.getvalue()})


ARRAYS = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "Fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "scalar": np.array(3),
    "empty": np.empty((0, 4), "f4"),
    "text": np.array(["a", "bc"]),
    "big-endian": np.arange(3, dtype=">i4"),
    "times": np.array(["2026-01-01"], "M8[D]"),
    "record": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    "bits": np.array([True]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_come_back_equal(array):
    loaded = Npy().load(npy(array), "a.npy", LoadOptions())
    assert loaded.dtype == array.dtype
    assert loaded.shape == array.shape
    assert (loaded == array).all()


def test_an_archive_is_a_dict():
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.zeros(5), y=np.arange(3))
    loaded = Npz().load(MemoryFiles({"a.npz": stream.getvalue()}), "a.npz", LoadOptions())
    assert {key: value.tolist() for key, value in loaded.items()} == {"x": [0] * 5, "y": [0, 1, 2]}


def header(text, data=b"", version=b"\1\0"):
    raw = text.encode("latin-1")
    return MemoryFiles(
        {"a.npy": b"\x93NUMPY" + version + len(raw).to_bytes(2, "little") + raw + data}
    )


OBJECTS = {
    "an object array": npy(np.array([{}], object), allow_pickle=True),
    "objects in a record": npy(np.array([(1, {})], [("a", "i4"), ("b", "O")]), allow_pickle=True),
    "objects by another name": header("{'descr': '|O8', 'fortran_order': False, 'shape': ()}"),
    "an unknown type": header("{'descr': 'os.system', 'fortran_order': False, 'shape': ()}"),
}
BROKEN = {
    "no magic": MemoryFiles({"a.npy": b"1234567890"}),
    "a version of the future": header("{}", version=b"\4\0"),
    "a header past the end": MemoryFiles({"a.npy": b"\x93NUMPY\1\0\xff\xff"}),
    "code as a header": header("__import__('os').system('id')"),
    "no table": header("1"),
    "an endless header": header("(" * 5000),
    "a missing field": header("{'descr': '<f8', 'shape': ()}"),
    "a negative size": header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
    "missing data": header("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", b"1"),
    "extra data": header("{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}", b"123"),
    "a huge shape": header("{'descr': '<f8', 'fortran_order': False, 'shape': (1<<60,)}"),
    "an impossible width": header(
        "{'descr': '<f7', 'fortran_order': False, 'shape': ()}", b"1234567"
    ),
}


@pytest.mark.parametrize("files", OBJECTS.values(), ids=OBJECTS)
def test_objects_are_unsafe(files):
    with pytest.raises(UnsafeFormat) as error:
        Npy().check(files, "a.npy")
    assert error.value.hint


@pytest.mark.parametrize("files", BROKEN.values(), ids=BROKEN)
def test_broken_files_are_format_errors(files):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FormatError):
            Npy().load(files, "a.npy", LoadOptions())


def test_objects_in_an_archive_are_unsafe():
    stream = io.BytesIO()
    np.savez(stream, x=np.array([{}], object), allow_pickle=True)
    with pytest.raises(UnsafeFormat, match=r"x\.npy"):
        Npz().check(MemoryFiles({"a.npz": stream.getvalue()}), "a.npz")
