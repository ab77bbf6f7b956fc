import json

import pytest

from counterseal.errors import FormatError
from counterseal.models.files import MemoryFiles
from counterseal.models.formats.safetensors import Safetensors, load_tensor, read_header
from counterseal.models.formats.seam import LoadOptions
from counterseal.models.objects import to_files

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")


def built(header, data=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return MemoryFiles({"m.safetensors": length.to_bytes(8, "little") + text + data})


def entry(dtype="U8", shape=(4,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


class Counting(MemoryFiles):
    """Remembers what was read."""

    def __init__(self, contents):
        super().__init__(contents)
        self.reads = []

    def read_into(self, name, offset, buffer):
        self.reads.append((offset, len(buffer)))
        super().read_into(name, offset, buffer)


def counting(files):
    whole = bytearray(files.size("model.safetensors"))
    files.read_into("model.safetensors", 0, memoryview(whole))
    return Counting({"model.safetensors": whole})


REFUSED = {
    "too short": MemoryFiles({"m.safetensors": b"1234"}),
    "a header past the end": built({}, length=1000),
    "a header over the cap": built({}, length=1 << 63),
    "no JSON": built(b"{"),
    "no object": built(b"[]"),
    "space before the object": built(b" {}"),
    "bytes that are not UTF-8": built(b'{"\xff":1}'),
    "a lone surrogate": built(b'{"\\ud800":' + json.dumps(entry()).encode() + b"}", b"1234"),
    "NaN": built(b'{"a":NaN}'),
    "endless nesting": built(b'{"a":' * 100_000),
    "an overlong number": built(b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b"]}}"),
    "a key twice": built(
        b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}",
        b"1234",
    ),
    "a key twice within a tensor": built(
        b'{"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}', b"1234"
    ),
    "an unknown field": built({"a": {**entry(), "x": 1}}, b"1234"),
    "no table": built({"a": 1}),
    "an unknown type": built({"a": entry("O8")}, b"1234"),
    "a type that is no text": built({"a": entry(["U8"])}, b"1234"),
    "a negative size": built({"a": entry(shape=(-4,))}, b"1234"),
    "true as a size": built({"a": entry(shape=(True,), offsets=(0, 1))}, b"1"),
    "a size of 4.0": built({"a": entry(shape=(4.0,))}, b"1234"),
    "one offset": built({"a": entry(offsets=(0,))}, b"1234"),
    "offsets the wrong way round": built({"a": entry(offsets=(4, 0))}, b"1234"),
    "a shape that overflows": built({"a": entry(shape=(1 << 62, 4), offsets=(0, 0))}),
    "a size that is not the shape's": built({"a": entry(shape=(3,))}, b"1234"),
    "too many dimensions": built({"a": entry(shape=(1,) * 65, offsets=(0, 1))}, b"1"),
    "a gap": built({"a": entry(offsets=(1, 5))}, b"12345"),
    "a gap in between": built({"a": entry(), "b": entry(offsets=(5, 9))}, b"123456789"),
    "an overlap": built({"a": entry(), "b": entry(offsets=(2, 6))}, b"123456"),
    "two tensors in one place": built({"a": entry(), "b": entry()}, b"1234"),
    "bytes after the last tensor": built({"a": entry()}, b"12345"),
    "missing bytes": built({"a": entry()}, b"123"),
    "metadata that is no table": built({"__metadata__": []}),
    "metadata with numbers": built({"__metadata__": {"a": 1}}),
}


@pytest.mark.parametrize("files", REFUSED.values(), ids=REFUSED)
def test_refused(files):
    with pytest.raises(FormatError):
        read_header(files, "m.safetensors")


def test_a_header_says_where_everything_is():
    files = built(
        {"b": entry(), "a": entry(offsets=(4, 8)), "z": entry(shape=(0, 9), offsets=(4, 4))},
        b"12345678",
    )
    header = read_header(files, "m.safetensors")
    assert [info.name for info in header.tensors] == ["b", "z", "a"]
    assert header.tensors[2].offset == header.start + 4
    assert load_tensor(files, "m.safetensors", header.tensors[2], "numpy").tolist() == [
        53,
        54,
        55,
        56,
    ]
    assert load_tensor(files, "m.safetensors", header.tensors[1], "torch").shape == (0, 9)


def test_a_whole_file_is_one_read_and_tensors_are_views_of_it():
    files = counting(to_files({"a": torch.ones(5), "b": torch.arange(3), "c": torch.tensor(2.0)}))
    tensors = Safetensors().load(files, "model.safetensors", LoadOptions())
    start = read_header(files, "model.safetensors").start
    assert (start, files.size("model.safetensors") - start) in files.reads
    assert sum(length for offset, length in files.reads if offset >= start) == 5 * 4 + 3 * 8 + 4
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 1


def test_one_tensor_is_one_read_of_its_own_bytes():
    files = counting(to_files({"a": np.ones(5), "b": np.ones(3)}))
    info = read_header(files, "model.safetensors").tensors[1]
    files.reads.clear()
    assert load_tensor(files, "model.safetensors", info, "numpy").tolist() == [1, 1, 1]
    assert files.reads == [(info.offset, 24)]


@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_unaligned_tensors_are_copied(framework):
    data = b"x" + np.float32(7).tobytes()
    files = built({"a": entry(shape=(1,), offsets=(0, 1)), "b": entry("F32", (), (1, 5))}, data)
    loaded = Safetensors().load(files, "m.safetensors", LoadOptions(framework=framework))
    assert float(loaded["b"]) == 7


def test_the_metadata_chooses_the_framework_unless_the_caller_does():
    files = to_files({"a": torch.ones(2)})
    load = Safetensors().load
    assert isinstance(load(files, "model.safetensors", LoadOptions())["a"], torch.Tensor)
    loaded = load(files, "model.safetensors", LoadOptions(framework="numpy"))
    assert isinstance(loaded["a"], np.ndarray)
    loaded = load(to_files({"a": np.ones(2)}), "model.safetensors", LoadOptions(framework="torch"))
    assert isinstance(loaded["a"], torch.Tensor)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_types_that_numpy_lacks_say_what_to_do(dtype):
    tensor = torch.tensor([1.5, -2.0]).to(getattr(torch, dtype))
    files = to_files({"a": tensor})
    loaded = Safetensors().load(files, "model.safetensors", LoadOptions())["a"]
    assert torch.equal(loaded.float(), tensor.float())
    with pytest.raises(FormatError, match="numpy has no type") as error:
        Safetensors().load(files, "model.safetensors", LoadOptions(framework="numpy"))
    assert "torch" in (error.value.hint or "")


def test_the_reference_implementation_reads_what_we_write_and_we_what_it_writes(tmp_path):
    theirs = pytest.importorskip("safetensors.torch")
    tensors = {
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(4).bfloat16(),
        "bits": torch.tensor([True, False]),
        "whole": torch.arange(6).reshape(2, 3),
        "none": torch.empty(0, 4),
        "one": torch.tensor(3.5),
    }
    files = MemoryFiles({"x.safetensors": theirs.save(tensors, {"format": "pt"})})
    ours = Safetensors().load(files, "x.safetensors", LoadOptions())
    written = to_files(tensors)
    data = bytearray(written.size("model.safetensors"))
    written.read_into("model.safetensors", 0, memoryview(data))
    back = theirs.load(bytes(data))
    for name, tensor in tensors.items():
        assert torch.equal(ours[name], tensor)
        assert torch.equal(back[name], tensor)
        assert ours[name].dtype == tensor.dtype
