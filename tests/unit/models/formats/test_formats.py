"""What holds for every format."""

import io
import os
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")

import pytest

from counterseal import _extras
from counterseal.errors import FormatError, MissingExtraError
from counterseal.models.files import MemoryFiles, read
from counterseal.models.formats import FORMATS, LoadOptions, format_of
from counterseal.models.objects import to_files

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
linear_model = pytest.importorskip("sklearn.linear_model")
onnx = pytest.importorskip("onnx")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def graph():
    helper = onnx.helper
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", info[:1], info[1:])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def checkpoint():
    stream = io.BytesIO()
    torch.save({"a": torch.ones(2)}, stream)
    return MemoryFiles({"model.pt": stream.getvalue()})


def arrays():
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(2))
    return MemoryFiles({"model.npz": stream.getvalue()})


MODELS = {
    "safetensors": lambda: to_files({"a": np.ones(2)}),
    "torch": checkpoint,
    "onnx": lambda: to_files(graph()),
    "skops": lambda: to_files(linear_model.Ridge().fit([[1.0], [2.0]], [1.0, 2.0])),
    "keras": lambda: to_files(keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])),
    "npy": lambda: to_files(np.ones(2)),
    "npz": arrays,
}


def loader(files):
    (name,) = files.names()
    found = format_of(name, bytes(read(files, name, 0, min(4096, files.size(name)))))
    assert found is not None
    return lambda: found.load(files, name, LoadOptions())


written: list[str] = []


def watch(event, arguments):
    """Remember each file opened for writing, and each temporary folder."""
    if event == "open" and isinstance(arguments[2], int):
        flags = arguments[2]
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and arguments[0] != os.devnull:
            written.append(str(arguments[0]))
    elif event in {"tempfile.mkstemp", "tempfile.mkdtemp", "os.mkdir"}:
        written.append(str(arguments[0]))


sys.addaudithook(watch)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_loading_writes_nothing_to_the_disk(make):
    load = loader(make())
    load()  # the first time, libraries write their own byte code and caches
    written.clear()
    load()
    assert written == []
    tempfile.TemporaryFile().close()
    assert written != [], "the watch sleeps"


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_missing_library_is_one_clear_error(make, monkeypatch):
    load = loader(make())

    def missing(module, package=None):
        raise ModuleNotFoundError(f"no {module}", name=module.partition(".")[0])

    monkeypatch.setattr(_extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError) as error:
        load()
    assert "pip install 'counterseal[" in (error.value.hint or "")


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_file_cut_anywhere_is_a_format_error(make):
    files = make()
    (name,) = files.names()
    whole = bytes(read(files, name))
    for length in range(0, len(whole), max(1, len(whole) // 12)):
        with pytest.raises(FormatError):
            loader(MemoryFiles({name: whole[:length]}))()


def test_names_and_types_are_stated():
    assert all(known.name and "/" in known.media_type for known in FORMATS)
