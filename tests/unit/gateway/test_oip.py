import json
import struct

import pytest

from counterseal.errors import FormatError
from counterseal.gateway import oip, oip_client
from counterseal.gateway.tensors import Limits, Spec

np = pytest.importorskip("numpy")


def one(**changes):
    """The `inputs` entry of an honest request, with changes."""
    entry = {"name": "X", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}
    entry |= changes
    return {key: value for key, value in entry.items() if value is not ...}


def body(*inputs, **more):
    return json.dumps({"inputs": list(inputs or [one()])} | more).encode()


def binary(data, tail=b"", header=0, **changes):
    """Body and header length of a request with one binary input."""
    changes = {"data": ..., "parameters": {"binary_data_size": len(data)}} | changes
    head = body(one(**changes))
    return head + data + tail, len(head) + header


FLOATS = np.arange(1, 7, dtype="<f4")


def array_of(request):
    return request.inputs[0].array


def test_a_request_is_read():
    request = oip.decode(body(id="7", parameters={"purpose": "triage"}))
    tensor = request.inputs[0]
    assert (tensor.name, tensor.datatype, tensor.shape) == ("X", "FP32", (2, 3))
    assert tensor.array.dtype == np.float32
    assert (tensor.array == FLOATS.reshape(2, 3)).all()
    assert (request.id, request.purpose, request.rows) == ("7", "triage", 2)
    assert request.outputs == ()


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_data_may_be_flat_or_nested_as_the_shape(data):
    assert (array_of(oip.decode(body(one(data=data)))) == FLOATS.reshape(2, 3)).all()


def test_texts_may_be_nested_too():
    entry = one(datatype="BYTES", shape=[2, 1, 2], data=[[["a", "b"]], [["c,[", ""]]])
    array = array_of(oip.decode(body(entry)))
    assert array.tolist() == [[[b"a", b"b"]], [[b"c,[", b""]]]


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("UINT8", [0, 255]),
        ("INT8", [-128, 127]),
        ("UINT16", [0, 2**16 - 1]),
        ("INT16", [-(2**15), 2**15 - 1]),
        ("UINT32", [0, 2**32 - 1]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("FP16", [0.5, -2]),
        ("FP32", [0.5, 1e38]),
        ("FP64", [0.1, 1e300]),
        ("BYTES", ["grüße, [du]", ""]),
    ],
)
def test_every_datatype_is_read_and_written(datatype, values):
    request = oip.decode(body(one(datatype=datatype, shape=[2], data=values)))
    array = array_of(request)
    expected = [v.encode() for v in values] if datatype == "BYTES" else values
    assert array.tolist() == pytest.approx(expected) if "FP" in datatype else expected
    for wanted in (oip.Wanted("X", binary=False), oip.Wanted("X", binary=True)):
        data, length = oip.encode(
            {"X": array}, request=request, wanted=[wanted], model="m", version="1"
        )
        answer = json.loads(data[:length])
        assert answer["outputs"][0]["datatype"] == datatype
        again = {"inputs": answer["outputs"]}
        head = json.dumps(again).encode()
        tail = data[length:] if length else b""
        back = oip.decode(head + tail, header_length=len(head) if length else None)
        assert array_of(back).dtype == array.dtype
        assert array_of(back).tolist() == array.tolist()


REFUSED = {
    "a list that is longer than its shape": (one(data=[1] * 7), "`inputs.0..data` has 7 values; 6 are"),
    "a list that is shorter": (one(data=[1] * 5), "has 5 values; 6"),
    "nesting that is not the shape": (one(data=[[1, 2], [3, 4], [5, 6]]), r"is nested as \[3, 2\]"),
    "lists of different lengths": (one(data=[[1, 2, 3, 4], [5, 6]]), "different lengths"),
    "nesting of another depth": (one(data=[[[1, 2, 3], [4, 5, 6]]]), "neither flat nor nested"),
    "mixed depths": (one(data=[[1, 2, 3], 4, 5, 6]), r"inputs\[0\].data\[1\]`: Expected `array`, got `int`"),
    "a string for a number": (one(data=[1, 2, "3", 4, 5, 6]), r"`inputs\[0\].data\[2\]`: Expected `float`, got `str`"),
    "a boolean for a number": (one(data=[1, 2, True, 4, 5, 6]), "got `bool`"),
    "null for a number": (one(data=[1, 2, None, 4, 5, 6]), "got `null`"),
    "an empty list for one value": (one(shape=[1], data=[]), r"nested as \[0\]; \[1\] is"),
    "a fraction for an integer": (one(datatype="INT64", data=[1, 2, 3.5, 4, 5, 6]), "Expected `int`, got `float`"),
    "a whole fraction for an integer": (one(datatype="INT64", data=[1, 2, 3.0, 4, 5, 6]), "got `float`"),
    "a number for a boolean": (one(datatype="BOOL", data=[1, 0, 1, 0, 1, 0]), "Expected `bool`, got `int`"),
    "a number for a text": (one(datatype="BYTES", data=[1, 2, 3, 4, 5, 6]), "Expected `str`"),
    "an integer beyond its type": (one(datatype="INT8", data=[1, 2, 128, 4, 5, 6]), "<= 127"),
    "a negative one for unsigned": (one(datatype="UINT64", data=[1, 2, -1, 4, 5, 6]), ">= 0"),
    "an integer beyond 64 bits": (one(datatype="INT64", data=[1, 2, 2**63, 4, 5, 6]), "too large for INT64"),
    "a huge integer as float": (one(data=[1, 2, 10**400, 4, 5, 6]), "out of range"),
    "NaN": (one(data=[1, 2, float("nan"), 4, 5, 6]), "malformed"),
    "infinity": (one(data=[1, 2, float("inf"), 4, 5, 6]), "malformed"),
    "an unknown datatype": (one(datatype="BF16"), "`inputs.0..datatype` is 'BF16'"),
    "an empty dimension": (one(shape=[0, 3], data=[]), "at least 1"),
    "a negative dimension": (one(shape=[-1, 3]), ">= 0"),
    "no dimension": (one(shape=[], data=[1]), "0 dimensions"),
    "too many dimensions": (one(shape=[1] * 9, data=[1]), "9 dimensions"),
    "more elements than the limit": (one(shape=[1 << 20, 1 << 20]), "more than"),
    "a shape of fractions": (one(shape=[2.0, 3.0]), "Expected `int`"),
    "no data": (one(data=...), "neither or both"),
    "data and binary data": (one(parameters={"binary_data_size": 24}), "neither or both"),
    "binary data that is not there": (one(data=..., parameters={"binary_data_size": 24}), "24 binary bytes; 0 are"),
    "an unknown field": (one(color="red"), "unknown field `color`"),
    "an unknown parameter": (one(parameters={"content_type": "np"}), "unknown field `content_type`"),
    "texts of which too few are there": (one(datatype="BYTES", data=["a"] * 5), "has 5 values; 6"),
    "texts of which too many are there": (one(datatype="BYTES", data=["a"] * 7), "as many values"),
    "texts nested otherwise": (one(datatype="BYTES", data=[["a", "b"]] * 3), "as many values"),
    "texts nested with too many": (one(datatype="BYTES", shape=[2, 1], data=[["a", "b"], []]), "as many values"),
    "texts in no list at all": (one(datatype="BYTES", shape=[2, 2], data=[[], [","], []]), "as many values"),
    "half a letter": (one(datatype="BYTES", shape=[1], data=["\ud800"]), "surrogate|truncated"),
    "a name that is empty": (one(name=""), "length >= 1"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_an_input_that_is_not_what_it_says_is_refused(what):
    entry, says = REFUSED[what]
    with pytest.raises(FormatError, match=says):
        oip.decode(body(entry))


def test_a_number_too_large_for_its_float_becomes_infinite_and_is_refused_with_the_model_known():
    from counterseal.gateway.tensors import arrays_for

    request = oip.decode(body(one(data=[1, 2, 3, 4, 1e39, 6])))
    with pytest.raises(FormatError, match=r"`inputs\[0\].data\[4\]` is inf"):
        arrays_for(request.inputs, [Spec("X", "FP32", (-1, 3))])


@pytest.mark.parametrize(
    ("request_body", "says"),
    [
        (b"", "malformed|truncated"),
        (b"[]", "Expected `object`"),
        (b'{"inputs": []}', "0 entries"),
        (b"{}", "missing required field `inputs`"),
        (b"\xff\xfe", "malformed|UTF-8|utf-8"),
        (body(*[one(name=str(n)) for n in range(33)]), "33 entries, not 1 to 32"),
        (body(one(), one()), "a name twice"),
        (body(outputs=[{"name": "a"}, {"name": "a"}]), "a name twice"),
        (body(outputs=[{"name": str(n)} for n in range(33)]), "more than 32"),
        (body(parameters={"sequence_id": 3}), "unknown field `sequence_id`"),
        (body(parameters={"purpose": ""}), "length >= 1"),
        (body(outputs=[{"name": "p", "parameters": {"classification": 3}}]), "`classification`"),
        (body(model="other"), "unknown field `model`"),
        (b'{"inputs": ' + b"[" * 100_000, "."),
        (b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1],"data":' + b"[" * 9000 + b"1" + b"]" * 9000 + b"}]}", "recursion|neither flat"),
    ],
)  # fmt: skip
def test_a_request_that_is_not_one_is_refused(request_body, says):
    with pytest.raises(FormatError, match=says):
        oip.decode(request_body)


def test_a_longer_body_than_allowed_is_not_even_parsed():
    with pytest.raises(FormatError, match="longer than 9 bytes"):
        oip.decode(b"{" * 10, limits=Limits(body_bytes=9))


# Binary


def test_binary_data_is_read_where_the_header_ends():
    data, length = binary(FLOATS.tobytes())
    array = array_of(oip.decode(data, header_length=length))
    assert (array == FLOATS.reshape(2, 3)).all()
    assert array.flags.aligned


def test_binary_texts_may_be_any_bytes():
    data = b"".join(struct.pack("<I", len(text)) + text for text in (b"\xff\0", b""))
    data, length = binary(data, datatype="BYTES", shape=[2])
    assert array_of(oip.decode(data, header_length=length)).tolist() == [b"\xff\0", b""]


BINARY = {
    "too short": (binary(FLOATS.tobytes()[:-1]), "23 binary bytes; 24 are in its shape"),
    "too long": (binary(FLOATS.tobytes() + b"\0"), "25 binary bytes; 24"),
    "more than there is": (binary(b"", parameters={"binary_data_size": 24}), "24 binary bytes; 0"),
    "something behind": (binary(FLOATS.tobytes(), b"x"), "1 bytes after the inputs"),
    "a header length that is too long": (binary(b"", header=1), "does not fit the body"),
    "a header length of nothing": ((body(), 0), "does not fit the body"),
    "a negative header length": ((body(), -1), "does not fit the body"),
    "a negative size": (binary(b"", parameters={"binary_data_size": -1}), ">= 0"),
    "a BOOL that is neither": (binary(b"\0\1\2\0\1\0", datatype="BOOL"), "no BOOL"),
    "too few lengths": (binary(b"\0" * 7, datatype="BYTES", shape=[2]), "too few"),
    "a text that is cut off": (binary(b"\2\0\0\0a\0\0\0", datatype="BYTES", shape=[2]), "ends within"),
    "a text of 4 GiB": (binary(b"\xff\xff\xff\xffabcd", datatype="BYTES", shape=[1]), "ends within"),
    "texts with something behind": (binary(b"\0" * 9, datatype="BYTES", shape=[2]), "after its last"),
}  # fmt: skip


@pytest.mark.parametrize("what", BINARY)
def test_binary_data_that_does_not_fit_is_refused(what):
    (data, length), says = BINARY[what]
    with pytest.raises(FormatError, match=says):
        oip.decode(data, header_length=length)


def test_a_text_beyond_the_limit_is_refused():
    small = Limits(text_bytes=3)
    with pytest.raises(FormatError, match="more than 3 bytes"):
        oip.decode(body(one(datatype="BYTES", shape=[1], data=["abcd"])), limits=small)


# Answers

SPECS = (Spec("label", "INT64", (-1,)), Spec("scores", "FP32", (-1, 2)))
OUTPUTS = {
    "label": np.array([1, 0]),
    "scores": np.array([[0.1, 0.9], [0.7, 0.3]], "f4"),
}


def answer_to(request_body):
    request = oip.decode(request_body)
    return oip.encode(
        OUTPUTS, request=request, wanted=request.wanted(SPECS), model="m", version="1.2.0"
    )


def test_an_answer_has_all_outputs_unless_some_are_named():
    data, length = answer_to(body(id="7"))
    assert length is None
    assert json.loads(data) == {
        "id": "7",
        "model_name": "m",
        "model_version": "1.2.0",
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]},
            {"name": "scores", "datatype": "FP32", "shape": [2, 2], "data": [0.1, 0.9, 0.7, 0.3]},
        ],
    }
    data, _ = answer_to(body(outputs=[{"name": "label"}]))
    assert [output["name"] for output in json.loads(data)["outputs"]] == ["label"]


def test_an_output_that_the_model_has_not_is_refused_before_it_runs():
    request = oip.decode(body(outputs=[{"name": "weights"}]))
    with pytest.raises(
        FormatError, match=r'`outputs\[0\].name` is \'weights\'; .* "label", "scores"'
    ):
        request.wanted(SPECS)


@pytest.mark.parametrize(
    ("more", "behind"),
    [
        ({"parameters": {"binary_data_output": True}}, ["label", "scores"]),
        ({"outputs": [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "label"}]}, ["scores"]),
        ({"outputs": [{"name": "scores", "parameters": {"binary_data": False}}, {"name": "label"}],
          "parameters": {"binary_data_output": True}}, ["label"]),
    ],
)  # fmt: skip
def test_outputs_are_binary_where_the_client_asked(more, behind):
    data, length = answer_to(body(**more))
    tail = data[length:]
    for output in json.loads(data[:length])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        assert (size is not None) == (output["name"] in behind) == ("data" not in output)
        if size:
            expected = OUTPUTS[output["name"]]
            assert tail[:size] == expected.tobytes()
            tail = tail[size:]
    assert tail == b""


def test_single_precision_is_written_short_but_never_changed():
    values = np.array([0.973, 1 / 3, 1e-20, 16777216, 3.4e38], "f4")
    request = oip.decode(body())
    for array, shown in ((values, None), (values[:1], b"[0.973]")):
        data, _ = oip.encode(
            {"y": array}, request=request, wanted=[oip.Wanted("y", binary=False)], model="m", version="1"
        )  # fmt: skip
        assert (np.array(json.loads(data)["outputs"][0]["data"], "f4") == array).all()
        assert shown is None or shown in data


@pytest.mark.parametrize(
    "array", [np.array([np.nan]), np.array([np.inf], "f4"), np.array([b"\xff"], object)]
)
def test_what_json_cannot_say_is_refused(array):
    with pytest.raises(FormatError, match="output"):
        oip.encode(
            {"y": array}, request=oip.decode(body()), wanted=[oip.Wanted("y", binary=False)], model="m", version="1"
        )  # fmt: skip


def test_a_model_describes_itself():
    told = json.loads(
        oip.model_metadata(
            name="m", versions=["1.2.0"], platform="onnx", inputs=[Spec("X", "FP32", (-1, 3))], outputs=SPECS
        )
    )  # fmt: skip
    assert told["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}]
    assert [output["name"] for output in told["outputs"]] == ["label", "scores"]
    server = json.loads(oip.server_metadata(name="counterseal", version="0.1.0"))
    assert server["extensions"] == ["binary_tensor_data"]
    assert json.loads(oip.model_ready(name="m", ready=True)) == {"name": "m", "ready": True}
    assert json.loads(oip.server_live(live=True)) == {"live": True}
    assert json.loads(oip.server_ready(ready=False)) == {"ready": False}


ENTRY = {"name": "p", "datatype": "FP32", "shape": [1], "data": [0.5]}
P = (Spec("p", "FP32", (-1,)),)


def test_a_server_s_answer_is_read_with_whatever_else_it_says():
    answer = json.dumps({"model_name": "m", "extra": 1, "outputs": [ENTRY | {"extra": 2}]}).encode()
    assert oip_client.decode_answer(answer, P)["p"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("outputs", "tail", "length", "says"),
    [
        ([ENTRY], b"x", None, "malformed"),
        ([ENTRY], b"x", 0, "belong to no output"),
        ([ENTRY], b"", 1, "does not fit"),
        ([], b"", None, '"p" is missing'),
        ([ENTRY | {"data": [1e39]}], b"", None, "is inf"),
        ([ENTRY] * 65, b"", None, "length <= 64"),
    ],
)
def test_a_server_s_answer_that_is_wrong_is_refused(outputs, tail, length, says):
    head = json.dumps({"outputs": outputs}).encode()
    with pytest.raises(FormatError, match=says):
        oip_client.decode_answer(
            head + tail, P, header_length=None if length is None else len(head) + length
        )
    with pytest.raises(FormatError, match="longer than 5"):
        oip_client.decode_answer(head, P, limits=Limits(body_bytes=5))


def test_metadata_with_two_tensors_of_one_name_is_refused():
    spec = {"name": "x", "datatype": "FP32", "shape": [-1]}
    with pytest.raises(FormatError, match="one name"):
        oip_client.decode_metadata(json.dumps({"inputs": [spec, spec], "outputs": [spec]}).encode())


@pytest.mark.parametrize("as_binary", [True, False])
def test_tritonclient_and_we_understand_each_other(as_binary):
    client = pytest.importorskip("tritonclient.http")
    sent = client.InferInput("X", [2, 3], "FP32")
    sent.set_data_from_numpy(FLOATS.reshape(2, 3), binary_data=as_binary)
    words = client.InferInput("words", [2], "BYTES")
    words.set_data_from_numpy(np.array([b"a", "ü".encode()], object), binary_data=as_binary)
    asked = [
        client.InferRequestedOutput(name, binary_data=as_binary) for name in ("scores", "words")
    ]
    made = client.InferenceServerClient.generate_request_body([sent, words], outputs=asked)
    request = oip.decode(made[0], header_length=made[1])
    assert (array_of(request) == FLOATS.reshape(2, 3)).all()
    outputs = OUTPUTS | {"words": request.inputs[1].array}
    specs = (*SPECS, Spec("words", "BYTES", (-1,)))
    data, length = oip.encode(
        outputs, request=request, wanted=request.wanted(specs), model="m", version="1"
    )
    answer = client.InferenceServerClient.parse_response_body(data, header_length=length)
    assert (answer.as_numpy("scores") == OUTPUTS["scores"]).all()
    said = [one if isinstance(one, bytes) else one.encode() for one in answer.as_numpy("words")]
    assert said == [b"a", "ü".encode()]
