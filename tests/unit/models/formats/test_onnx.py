import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import MemoryFiles
from counterseal.models.formats.onnx import Onnx
from counterseal.models.formats.seam import LoadOptions
from counterseal.models.objects import to_files

onnx = pytest.importorskip("onnx")
np = pytest.importorskip("numpy")
pytest.importorskip("onnxruntime")
helper = onnx.helper


def model(location=None, *, nested=False):
    """y = x + w, with w inline or in the file `location`."""
    values = np.arange(3, dtype="float32")
    tensor = onnx.numpy_helper.from_array(values, "w")
    if location is not None:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "4"), ("length", "12")):
            tensor.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    weights = [tensor]
    if nested:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
        weights = []
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [3]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], weights)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()


DATA = b"skip" + np.arange(3, dtype="float32").tobytes()


def run(files, name="m.onnx"):
    session = Onnx().load(files, name, LoadOptions())
    return session.run(None, {"x": np.ones(3, "float32")})[0].tolist()


def test_a_model_runs_from_memory():
    assert run(MemoryFiles({"m.onnx": model()})) == [1, 2, 3]


def test_external_data_is_served_from_the_files():
    assert run(MemoryFiles({"m.onnx": model("w.bin"), "w.bin": DATA})) == [1, 2, 3]
    files = MemoryFiles({"a/m.onnx": model("d/w.bin"), "a/d/w.bin": DATA})
    assert run(files, "a/m.onnx") == [1, 2, 3]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../w.bin", "a/../../w.bin", "missing.bin", "*/_ORT_MEM_ADDR_/*", "", "C:w"],
)
def test_data_that_did_not_come_with_the_model_is_refused(location, nested):
    files = MemoryFiles({"m.onnx": model(location, nested=nested), "w.bin": DATA})
    with pytest.raises(UnsafeFormat):
        Onnx().check(files, "m.onnx")
    with pytest.raises(UnsafeFormat):
        Onnx().load(files, "m.onnx", LoadOptions())


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\x0b",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x3a\x05\x0a",
        b"\x09\x00",
        b"\x08",
        b"plain text is no protobuf",
    ],
)
def test_what_is_no_protobuf_is_a_format_error(data):
    with pytest.raises(FormatError):
        Onnx().check(MemoryFiles({"m.onnx": data}), "m.onnx")


def test_endless_nesting_is_refused():
    data = b""
    for _ in range(40):  # graph > node > attribute > graph ...
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            size = len(data)
            data = tag + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + data
    data = b"\x3a" + bytes([len(data) & 0x7F | 0x80, len(data) >> 7]) + data
    with pytest.raises(UnsafeFormat, match="nested"):
        Onnx().check(MemoryFiles({"m.onnx": data}), "m.onnx")


def test_what_the_runtime_refuses_is_a_format_error():
    with pytest.raises(FormatError, match="ONNX Runtime"):
        Onnx().load(MemoryFiles({"m.onnx": b"\x08\x01"}), "m.onnx", LoadOptions())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scikit_learn_model_survives_the_way_through_onnx():
    skl2onnx = pytest.importorskip("skl2onnx")
    datasets = pytest.importorskip("sklearn.datasets")
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = datasets.load_iris(return_X_y=True)
    x = x.astype("float32")
    fitted = linear_model.LogisticRegression(max_iter=1000).fit(x, y)
    files = to_files(skl2onnx.to_onnx(fitted, x[:1], options={"zipmap": False}))
    session = Onnx().load(files, "model.onnx", LoadOptions())
    labels, probabilities = session.run(None, {"X": x})
    assert (labels == fitted.predict(x)).all()
    assert np.allclose(probabilities, fitted.predict_proba(x), atol=1e-5)
