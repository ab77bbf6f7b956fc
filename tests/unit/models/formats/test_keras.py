import copy
import io
import json
import os
import zipfile

os.environ.setdefault("KERAS_BACKEND", "torch")

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import MemoryFiles, read
from counterseal.models.formats.keras import Keras
from counterseal.models.formats.seam import LoadOptions
from counterseal.models.objects import to_files

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
np = pytest.importorskip("numpy")

# Keras 3.15 under numpy 2 says this once for each weight it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def small():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3, activation="relu", kernel_regularizer="l2")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.ops.softmax(x * 2.0))
    model.compile("adam", "mse", metrics=["mae"])
    return model


@pytest.fixture(scope="module")
def files():
    return to_files(small())


def altered(files, change=None, weights=None, extra=()):
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(read(files, "model.keras"))) as old,
        zipfile.ZipFile(stream, "w") as new,
    ):
        config = json.loads(old.read("config.json"))
        if change is not None:
            config = change(config)
        text = config if isinstance(config, bytes) else json.dumps(config)
        new.writestr("config.json", text)
        new.writestr("metadata.json", old.read("metadata.json"))
        new.writestr("model.weights.h5", weights or old.read("model.weights.h5"))
        for name in extra:
            new.writestr(name, b"x")
    return MemoryFiles({"model.keras": stream.getvalue()})


def load(files):
    return Keras().load(files, "model.keras", LoadOptions())


def test_a_model_comes_back_with_its_weights(files):
    model = small()
    files = to_files(model)
    loaded = load(files)
    assert all(map(np.array_equal, loaded.get_weights(), model.get_weights()))
    x = np.random.default_rng(0).random((2, 8, 8, 1), dtype="float32")
    assert np.array_equal(
        keras.ops.convert_to_numpy(loaded(x, training=False)),
        keras.ops.convert_to_numpy(model(x, training=False)),
    )


def layer(**entry):
    def change(config):
        config = copy.deepcopy(config)
        config["config"]["layers"][1].update(entry)
        return config

    return change


def inner(**entry):
    def change(config):
        config = copy.deepcopy(config)
        config["config"]["layers"][1]["config"].update(entry)
        return config

    return change


UNSAFE = {
    "a Lambda layer": layer(class_name="Lambda"),
    "a bare lambda": inner(activation={"class_name": "__lambda__", "config": {"value": ["4wEA"]}}),
    "a wrapper that unpickles": layer(class_name="TorchModuleWrapper"),
    "a SavedModel layer": layer(class_name="TFSMLayer"),
    "a module that is not Keras": layer(module="os", class_name="system"),
    "a module that only begins like Keras": layer(module="keras_evil.layers"),
    "a utility of Keras": layer(module="keras.utils", class_name="get_file"),
    "a function of Keras that is no activation": inner(
        activation={"module": "keras.saving", "class_name": "function", "config": "load_model"}
    ),
    "a core class that is not on the list": layer(module="keras.src.ops.core", class_name="Map"),
    "no module": layer(module=None),
    "a legacy entry without module": lambda config: {"class_name": "Model", "config": {}},
    "a registered name": layer(registered_name="evil>Conv2D"),
    "a class name that is no text": layer(class_name=["Lambda"]),
    "a dotted class name": layer(module="keras.layers", class_name="os.system"),
    "a type spec": inner(x={"class_name": "__typespec__", "config": [], "module": "builtins"}),
    "a vocabulary that is a file": inner(vocabulary="/etc/passwd"),
    "a Lambda deep in the compile options": lambda config: {
        **config,
        "compile_config": {"loss": {"class_name": "Lambda", "module": "keras.layers"}},
    },
}


@pytest.mark.parametrize("change", UNSAFE.values(), ids=UNSAFE)
def test_code_in_the_configuration_is_refused(files, change):
    with pytest.raises(UnsafeFormat) as error:
        Keras().check(altered(files, change), "model.keras")
    assert error.value.hint or "local file" in error.value.message


def test_assets_are_refused_because_keras_would_unpack_them(files):
    with pytest.raises(UnsafeFormat, match="three files"):
        Keras().check(altered(files, extra=["assets/vocabulary.txt"]), "model.keras")


@pytest.mark.parametrize("text", [b"", b"[" * 100_000, b"\xff"])
def test_a_broken_configuration_is_a_format_error(files, text):
    with pytest.raises(FormatError):
        Keras().check(altered(files, lambda _: text), "model.keras")


def weights(make):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        make(file)
    return stream.getvalue()


def external(file):
    file["x"] = h5py.ExternalLink("/etc/passwd", "/")


def virtual(file):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2,))
    file.create_virtual_dataset("x", layout)


UNSAFE_WEIGHTS = {
    "a link to another file": external,
    "a soft link": lambda file: file.__setitem__("x", h5py.SoftLink("/y")),
    "a dataset of another file": virtual,
    "raw data of another file": lambda file: file.create_dataset(
        "x", (2,), "f4", external=[("/etc/hostname", 0, 8)]
    ),
    "a bomb": lambda file: file.create_dataset("x", (1 << 40,), "f4", chunks=(1 << 10,)),
}


@pytest.mark.parametrize("make", UNSAFE_WEIGHTS.values(), ids=UNSAFE_WEIGHTS)
def test_weights_that_point_elsewhere_are_refused(files, make):
    with pytest.raises(UnsafeFormat, match="weights"):
        load(altered(files, weights=weights(make)))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_groups_that_contain_themselves_end():
    def circle(file):
        file.create_group("x")["y"] = file["/"]

    files = altered(to_files(small()), weights=weights(circle))
    with pytest.raises(FormatError):
        load(files)


def test_weights_that_are_no_hdf5_are_a_format_error(files):
    with pytest.raises(FormatError, match="weights"):
        load(altered(files, weights=b"x" * 100))
