import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.inspection import inspect
from counterseal.models.loading import load
from counterseal.models.objects import to_files

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")


def back(obj, **options):
    files = to_files(obj)
    inspect(files)
    return load(files, **options)


def test_a_module_gives_its_state_dict_with_tied_tensors_under_each_name():
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)
    )
    module[1].weight = module[0].weight
    loaded = back(module)
    assert {*loaded} == {*module.state_dict()}
    other = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)
    )
    other.load_state_dict(loaded, strict=True)
    x = torch.randn(4, 3)
    assert torch.equal(other.eval()(x), module.eval()(x))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3).T,
        torch.ones(4)[::2],
        torch.ones(1).expand(5),
        torch.tensor(1 + 2j).conj(),
        torch.empty(0, 3),
        torch.tensor(7),
        torch.nn.Parameter(torch.ones(2)),
    ],
)
def test_torch_tensors_of_every_kind_come_back(tensor):
    loaded = back({"a": tensor})["a"]
    assert torch.equal(loaded, tensor.detach().resolve_conj())
    assert loaded.dtype == tensor.dtype


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3).T,
        np.arange(3, dtype=">f4"),
        np.array(2.5),
        np.empty((0, 2)),
        np.array([True]),
        np.arange(4, dtype="u2")[::-1],
        np.array([1j], "c8"),
    ],
)
def test_arrays_of_every_kind_come_back(array):
    loaded = back({"a": array})["a"]
    assert (loaded == array).all()
    assert loaded.shape == array.shape
    assert (back(array) == array).all()


def test_objects_cannot_be_written():
    for obj in (np.array([{}], object), {"a": np.array([{}], object)}):
        with pytest.raises(UnsafeFormat, match="Python objects"):
            to_files(obj)


class Odd:
    pass


@pytest.mark.parametrize(
    "obj",
    [
        Odd(),
        None,
        {},
        [1],
        {"a": 1},
        {1: np.ones(1)},
        {"__metadata__": np.ones(1)},
        {"a": np.array(["x"])},
        {"a": np.ones(1, "c16")},
        {"a": torch.ones(2).to_sparse()},
        {"a": torch.ones(2, device="meta")},
    ],
)
def test_the_unknown_is_refused_by_name(obj):
    with pytest.raises(FormatError) as error:
        to_files(obj)
    assert error.value.message


def test_the_type_is_named():
    with pytest.raises(FormatError, match=r"test_objects.*Odd"):
        to_files(Odd())


def test_an_estimator_that_skops_cannot_describe_is_refused():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    model = preprocessing.FunctionTransformer(func=(n for n in ()))
    with pytest.raises(FormatError, match="skops"):
        to_files(model)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_keras_model_is_not_mistaken_for_a_torch_module():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    assert to_files(model).names() == ["model.keras"]
    assert np.array_equal(back(model).get_weights()[0], model.get_weights()[0])


def test_a_graph_and_an_estimator_choose_their_format():
    onnx = pytest.importorskip("onnx")
    linear_model = pytest.importorskip("sklearn.linear_model")
    assert to_files(onnx.ModelProto(ir_version=8)).names() == ["model.onnx"]
    assert to_files(linear_model.Ridge()).names() == ["model.skops"]
    assert back(linear_model.Ridge(alpha=3.0)).alpha == 3.0
