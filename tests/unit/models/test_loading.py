import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import MemoryFiles, read
from counterseal.models.loading import TensorIndex, load
from counterseal.models.objects import to_files

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")


def part(**tensors):
    return read(to_files(tensors), "model.safetensors")


SHARDS = MemoryFiles(
    {
        "a.safetensors": part(**{"layer.0": np.arange(3), "layer.1": np.ones(2)}),
        "sub/b.safetensors": part(head=np.zeros(4)),
        "README.md": b"# shards",
    }
)


def test_the_only_model_file_is_loaded():
    files = MemoryFiles({"README.md": b"# x", "m.npy": read(to_files(np.arange(3)), "model.npy")})
    assert load(files).tolist() == [0, 1, 2]


def test_shards_are_merged():
    assert {key: len(value) for key, value in load(SHARDS).items()} == {
        "layer.0": 3,
        "layer.1": 2,
        "head": 4,
    }
    assert isinstance(load(SHARDS, framework="torch")["head"], torch.Tensor)
    assert [*load(SHARDS, file="sub/b.safetensors")] == ["head"]


def test_a_tensor_in_two_shards_is_an_error():
    files = MemoryFiles({"a.safetensors": part(x=np.ones(1)), "b.safetensors": part(x=np.ones(1))})
    for action in (load, TensorIndex):
        with pytest.raises(FormatError, match=r'"a\.safetensors".*"b\.safetensors"'):
            action(files)


def test_several_models_are_named_and_the_caller_chooses():
    files = MemoryFiles(
        {
            "a.npy": read(to_files(np.arange(2)), "model.npy"),
            "b.safetensors": part(x=np.ones(1)),
        }
    )
    with pytest.raises(FormatError, match=r"a\.npy, b\.safetensors") as error:
        load(files)
    assert error.value.hint == 'file="a.npy"'
    assert load(files, file="a.npy").tolist() == [0, 1]


def test_no_model_is_said():
    files = MemoryFiles({"README.md": b"# x"})
    with pytest.raises(FormatError, match="no model file"):
        load(files)
    with pytest.raises(FormatError, match="not a model file"):
        load(files, file="README.md")
    with pytest.raises(FormatError, match="no file"):
        load(files, file="missing")


def test_a_pickle_asked_for_by_name_is_unsafe():
    with pytest.raises(UnsafeFormat, match="pickle"):
        load(MemoryFiles({"m.pkl": b"cos\nsystem\n(S'id'\ntR."}), file="m.pkl")


def test_an_index_reads_tensors_one_by_one():
    index = TensorIndex(SHARDS)
    assert index.names() == ("layer.1", "layer.0", "head") or {*index.names()} == {
        "layer.0",
        "layer.1",
        "head",
    }
    assert index.info("head").shape == (4,)
    assert index.tensor("layer.0").tolist() == [0, 1, 2]
    assert isinstance(index.tensor("head", framework="torch"), torch.Tensor)
    assert {name for name, _ in index.tensors(prefix="layer.")} == {"layer.0", "layer.1"}
    assert len([*index.tensors()]) == 3
    with pytest.raises(FormatError, match="no tensor"):
        index.tensor("missing")
