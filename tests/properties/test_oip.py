import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterseal.errors import FormatError
from counterseal.gateway import oip
from counterseal.gateway.tensors import DATATYPES, ITEM_BYTES, Limits

np = pytest.importorskip("numpy")
SMALL = Limits(body_bytes=1 << 14, elements=1 << 10, text_bytes=64)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@st.composite
def tensors(draw):
    """A name, a datatype, an array of it."""
    datatype = draw(st.sampled_from(sorted(DATATYPES)))
    shape = draw(shapes)
    size = int(np.prod(shape))
    if datatype == "BYTES":
        texts = draw(st.lists(st.text(max_size=5), min_size=size, max_size=size))
        array = np.empty(size, object)
        array[:] = [text.encode() for text in texts]
    else:
        data = draw(
            st.binary(min_size=size * ITEM_BYTES[datatype], max_size=size * ITEM_BYTES[datatype])
        )
        array = np.frombuffer(data, DATATYPES[datatype])
        if datatype == "BOOL":
            array = np.frombuffer(data, "u1") % 2 == 1
        if array.dtype.kind == "f":
            array = np.where(np.isfinite(array), array, 0).astype(array.dtype)
    return array.reshape(shape)


@given(st.lists(tensors(), min_size=1, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3))
def test_what_is_written_is_read_again(arrays, binary):
    outputs = {str(number): array for number, array in enumerate(arrays)}
    wanted = [oip.Wanted(name, as_binary) for name, as_binary in zip(outputs, binary, strict=False)]
    ask = oip.decode(b'{"inputs":[{"name":"x","datatype":"BOOL","shape":[1],"data":[true]}]}')
    data, length = oip.encode(outputs, request=ask, wanted=wanted, model="m", version="1")
    entries = json.loads(data[:length])["outputs"]
    head = json.dumps({"inputs": entries}).encode()
    tail = data[length:] if length else b""
    again = oip.decode(head + tail, header_length=len(head) if length else None)
    for tensor, array in zip(again.inputs, arrays, strict=True):
        assert tensor.shape == array.shape
        assert tensor.array.tolist() == array.tolist()


@given(st.binary(max_size=200), st.none() | st.integers(-1, 210))
def test_any_bytes_are_read_or_refused(body, header_length):
    try:
        request = oip.decode(body, header_length=header_length, limits=SMALL)
    except FormatError:
        return
    assert request.rows >= 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(sorted(DATATYPES)), shapes, json_values)
def test_whatever_is_in_data_gives_an_array_of_the_shape_or_is_refused(datatype, shape, data):
    entry = {"name": "x", "datatype": datatype, "shape": shape, "data": data}
    try:
        request = oip.decode(json.dumps({"inputs": [entry]}).encode(), limits=SMALL)
    except FormatError:
        return
    array = request.inputs[0].array
    assert array.shape == tuple(shape)
    assert array.dtype == np.dtype(DATATYPES[datatype])
