import pytest

from counterseal.errors import FormatError
from counterseal.gateway.tensors import (
    DATATYPES,
    Limits,
    Spec,
    Tensor,
    arrays_for,
    check,
    count,
    datatype_of,
)

np = pytest.importorskip("numpy")
X = Spec("X", "FP32", (-1, 3))


def tensor(values, dtype="f4", name="X"):
    return Tensor.of(name, np.array(values, dtype))


@pytest.mark.parametrize("name", DATATYPES)
def test_each_datatype_is_recognised_again(name):
    assert datatype_of(np.zeros(2, DATATYPES[name])) == name


@pytest.mark.parametrize("dtype", ["U3", "S3", "O"])
def test_texts_of_any_kind_are_bytes(dtype):
    assert datatype_of(np.array(["a"], dtype)) == "BYTES"


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "f16"])
def test_a_type_that_no_tensor_has_is_refused(dtype):
    with pytest.raises(FormatError, match="no tensor can hold"):
        datatype_of(np.zeros(1, dtype))


def test_what_the_model_takes_is_let_in():
    check(tensor([[1, 2, 3]]), X)
    check(tensor([[1, 2, 3]], "f8"), Spec("X", "FP32", (-1, 3), also=("FP64",)))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (tensor([[1, 2, 3]], "f8"), "`in.datatype` is FP64; FP32 is expected"),
        (tensor([[1, 2, 3]], "?"), "`in.datatype` is BOOL"),
        (tensor([1, 2, 3]), r"`in.shape` is \[3\]; \[-1, 3\] is expected"),
        (tensor([[1, 2]]), r"`in.shape` is \[1, 2\]"),
        (Tensor("X", "FP32", (2, 3), np.zeros((1, 3), "f4")), "does not have the shape"),
        (tensor([[1, 2, 3], [4, np.nan, 6]]), r"`in.data\[4\]` is nan"),
        (tensor([[1, 2, np.inf]]), r"`in.data\[2\]` is inf; a finite number is expected"),
        (tensor([[-np.inf, 2, 3]]), r"`in.data\[0\]` is -inf"),
        (Tensor("X", "FP32", (0, 3), np.zeros((0, 3), "f4")), "any length but 0"),
    ],
)  # fmt: skip
def test_what_it_does_not_take_is_refused(given, says):
    with pytest.raises(FormatError, match=says):
        check(given, X, "in")


SMALL = Limits(elements=100)


def test_elements_are_counted():
    assert count([2, 3, 4], SMALL, "x") == 24


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([], "0 dimensions, not 1 to 8"),
        ([1] * 9, "9 dimensions"),
        ([3, 0], "at least 1"),
        ([3, -1], "at least 1"),
        ([101], "more than 100"),
        ([1 << 40] * 8, "more than 100"),
    ],
)
def test_a_shape_beyond_the_limits_is_refused(shape, says):
    with pytest.raises(FormatError, match=says):
        count(shape, SMALL, "x")


def test_every_input_comes_once():
    y = Spec("Y", "INT64", (-1,))
    one, other = tensor([[1, 2, 3]]), tensor([7], "i8", "Y")
    assert set(arrays_for([other, one], [X, y])) == {"X", "Y"}
    for tensors, says in (
        ([one], '"Y" is missing'),
        ([one, other, one], "`inputs.2.` is the second input 'X'"),
        ([one, other, tensor([1], "i8", "Z")], '`inputs.2..name` is \'Z\'; the model takes "X", "Y"'),
    ):  # fmt: skip
        with pytest.raises(FormatError, match=says):
            arrays_for(tensors, [X, y])
