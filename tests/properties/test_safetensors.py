import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterseal.errors import FormatError
from counterseal.models.files import MemoryFiles, read
from counterseal.models.formats.safetensors import DTYPES, read_header
from counterseal.models.loading import TensorIndex, load
from counterseal.models.objects import to_files

np = pytest.importorskip("numpy")

dtypes = st.sampled_from([numpy for _, _, numpy in DTYPES.values() if numpy])
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(
    lambda key: key != "__metadata__"
)


@st.composite
def arrays(draw):
    dtype, shape = draw(dtypes), draw(shapes)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if dtype == "bool":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


@given(st.dictionaries(keys, arrays(), min_size=1, max_size=4))
def test_what_is_written_is_read_back_whole_and_one_by_one(tensors):
    files = to_files(tensors)
    loaded, index = load(files), TensorIndex(files)
    assert loaded.keys() == tensors.keys() == {*index.names()}
    for key, array in tensors.items():
        for found in (loaded[key], index.tensor(key)):
            assert found.dtype == array.dtype
            assert found.shape == array.shape
            assert found.tobytes() == array.tobytes()


entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "F32", "X", 1]),
        "shape": st.lists(st.integers(-1, 4) | st.booleans() | st.floats(), max_size=2),
        "data_offsets": st.lists(st.integers(-1, 12), min_size=1, max_size=3),
    }
)


@given(
    st.dictionaries(keys, entries | st.none(), max_size=3),
    st.binary(max_size=12),
    st.binary(max_size=3),
)
def test_an_accepted_header_describes_every_byte_once(header, data, tail):
    text = json.dumps(header).encode() + tail
    files = MemoryFiles({"m.safetensors": len(text).to_bytes(8, "little") + text + data})
    try:
        found = read_header(files, "m.safetensors")
    except FormatError:
        return
    covered = [n for info in found.tensors for n in range(info.offset, info.offset + info.size)]
    assert covered == [*range(found.start, files.size("m.safetensors"))]


@given(st.data())
def test_a_changed_byte_is_an_error_or_another_valid_file(data):
    whole = read(to_files({"a": np.arange(3), "b": np.ones(2, "f4")}), "model.safetensors")
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        loaded = load(MemoryFiles({"model.safetensors": whole}))
    except FormatError:
        return
    assert sum(array.nbytes for array in loaded.values()) == 32
