import io
import warnings
import zipfile

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import MemoryFiles
from counterseal.models.formats.seam import LoadOptions
from counterseal.models.formats.torch import Torch

torch = pytest.importorskip("torch")


def saved(obj, **options):
    stream = io.BytesIO()
    torch.save(obj, stream, **options)
    return MemoryFiles({"m.pt": stream.getvalue()})


def small():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


def test_a_state_dict_comes_back_equal():
    module = small()
    loaded = Torch().load(saved(module.state_dict()), "m.pt", LoadOptions())
    assert all(torch.equal(loaded[key], value) for key, value in module.state_dict().items())
    small().load_state_dict(loaded)


def test_a_checkpoint_may_hold_numbers_and_an_optimizer():
    module = small()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    files = saved(
        {"epoch": 3, "name": "x", "opt": optimizer.state_dict(), "w": module.state_dict()}
    )
    assert Torch().load(files, "m.pt", LoadOptions(device="cpu"))["epoch"] == 3


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.uint16, torch.float8_e4m3fn, torch.complex64]
)
def test_every_type_torch_saves_is_known(dtype):
    tensor = torch.nn.Parameter(torch.ones(3).to(dtype), requires_grad=False)
    loaded = Torch().load(
        saved({"a": tensor, "dtype": dtype, "size": tensor.shape}), "m.pt", LoadOptions()
    )
    assert loaded["a"].dtype == loaded["dtype"] == dtype


def test_a_whole_module_is_refused():
    with pytest.raises(UnsafeFormat, match=r"torch\.nn\.modules") as error:
        Torch().check(saved(small()), "m.pt")
    assert "state_dict" in (error.value.hint or "")


def test_protocol_4_is_followed_through_its_memo():
    Torch().check(saved(small().state_dict(), pickle_protocol=4), "m.pt")
    with pytest.raises(UnsafeFormat, match="would import"):
        Torch().check(saved(small(), pickle_protocol=4), "m.pt")


def test_torchscript_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(small().eval(), torch.ones(1, 3))
        stream = io.BytesIO()
        torch.jit.save(program, stream)
    with pytest.raises(UnsafeFormat, match="TorchScript"):
        Torch().check(MemoryFiles({"m.pt": stream.getvalue()}), "m.pt")


@pytest.mark.parametrize(
    "members", [["a/x"], ["a/data.pkl", "b/data.pkl"], ["a/data.pkl", "b/c"], ["a/b/data.pkl"]]
)
def test_other_layouts_are_refused(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member in members:
            archive.writestr(member, b"\x80\x02}.")
    with pytest.raises(UnsafeFormat):
        Torch().check(MemoryFiles({"m.pt": stream.getvalue()}), "m.pt")


def test_a_missing_storage_is_a_format_error():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02K\x01Q.")
    with pytest.raises(FormatError):
        Torch().load(MemoryFiles({"m.pt": stream.getvalue()}), "m.pt", LoadOptions())
