"""Tensors as they come from outside: a name, an OIP datatype, a shape and a numpy array.

Rules for everything a partner sends, whatever carried it (JSON, binary, another server):
1. a datatype of the table below, and the one that the model asks for: nothing is converted,
   for a conversion is where two readers see two values;
2. between 1 and `Limits.dimensions` dimensions, none of them empty, and no more elements than
   the limit, counted from the shape before anything is allocated;
3. floats are finite: NaN passes comparisons that were meant to stop it;
4. exactly the inputs that the model has, each once.
The error says where (`inputs[0].data[3]`), what is there and what is expected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "DATATYPES",
    "ITEM_BYTES",
    "Limits",
    "Spec",
    "Tensor",
    "arrays_for",
    "check",
    "check_finite",
    "count",
    "datatype_of",
    "numpy",
]

# OIP name: numpy's, little-endian as the binary extension has it.
DATATYPES: Final[Mapping[str, str]] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "O",  # of `bytes`
}
ITEM_BYTES: Final[Mapping[str, int]] = {
    name: int(code[-1]) if code[-1].isdigit() else 1
    for name, code in DATATYPES.items()
    if name != "BYTES"
}
_FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
_NAMES: Final = {code.lstrip("<"): name for name, code in DATATYPES.items()}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold. A charter's own limits come after these."""

    body_bytes: int = 16 << 20
    tensors: int = 32
    dimensions: int = 8
    elements: int = 1 << 22  # of one tensor: 32 MiB of FP64
    text_bytes: int = 1 << 20  # one element of BYTES


@dataclass(frozen=True, slots=True)
class Tensor:
    """`array` has this shape, and the dtype that `datatype` stands for."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: Any

    @classmethod
    def of(cls, name: str, array: Any) -> Tensor:
        return cls(name, datatype_of(array), tuple(array.shape), array)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a model takes or gives. -1: any length. `also`: datatypes it takes as well."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    also: tuple[str, ...] = ()


@cache
def numpy() -> Any:
    return require("numpy", extra="serve")


def datatype_of(array: Any) -> str:
    """The OIP name of a numpy array's type; texts of any kind are BYTES."""
    kind = array.dtype.kind
    if kind in "OSU":
        return "BYTES"
    name = _NAMES.get("?" if kind == "b" else f"{kind}{array.dtype.itemsize}")
    if name is None:
        raise FormatError(f"no tensor can hold {array.dtype}")
    return name


def count(shape: Sequence[int], limits: Limits, path: str) -> int:
    """How many elements a shape means, if it is one that rule 2 lets in."""
    if not 1 <= len(shape) <= limits.dimensions:
        raise FormatError(
            f"`{path}.shape` has {len(shape)} dimensions, not 1 to {limits.dimensions}"
        )
    if min(shape) < 1:
        raise FormatError(f"`{path}.shape` is {list(shape)}: each dimension is at least 1")
    elements = math.prod(shape)
    if elements > limits.elements:
        raise FormatError(f"`{path}` has more than {limits.elements} elements")
    return elements


def check_finite(array: Any, path: str) -> None:
    """Rule 3. Raises FormatError with the place of the first value that is not."""
    np = numpy()
    finite = np.isfinite(array)
    if not finite.all():
        wrong = int(np.flatnonzero(~finite)[0])
        value = float(array.ravel()[wrong])
        raise FormatError(f"`{path}[{wrong}]` is {value}; a finite number is expected")


def check(tensor: Tensor, spec: Spec, path: str = "tensor") -> None:
    """Hold a tensor against what the model takes. Raises FormatError."""
    if tensor.datatype != spec.datatype and tensor.datatype not in spec.also:
        expected = " or ".join((spec.datatype, *spec.also))
        raise FormatError(f"`{path}.datatype` is {tensor.datatype}; {expected} is expected")
    fits = len(tensor.shape) == len(spec.shape) and all(
        have == want or (want == -1 and have > 0)
        for have, want in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits:
        raise FormatError(
            f"`{path}.shape` is {list(tensor.shape)}; {list(spec.shape)} is expected"
            + (" (-1: any length but 0)" if -1 in spec.shape else "")
        )
    if tensor.array.shape != tensor.shape:
        raise FormatError(f"`{path}.data` does not have the shape that it says")
    if tensor.datatype in _FLOATS:
        check_finite(tensor.array, f"{path}.data")


def arrays_for(tensors: Sequence[Tensor], specs: Sequence[Spec]) -> dict[str, Any]:
    """The arrays a model is called with, by name, all rules checked. Raises FormatError."""
    wanted = {spec.name: spec for spec in specs}
    arrays: dict[str, Any] = {}
    for number, tensor in enumerate(tensors):
        path = f"inputs[{number}]"
        spec = wanted.get(tensor.name)
        if spec is None:
            known = ", ".join(f'"{name}"' for name in wanted)
            raise FormatError(f"`{path}.name` is {tensor.name[:64]!a}; the model takes {known}")
        if tensor.name in arrays:
            raise FormatError(f"`{path}` is the second input {tensor.name!a}")
        check(tensor, spec, path)
        arrays[tensor.name] = tensor.array
    if missing := [name for name in wanted if name not in arrays]:
        raise FormatError(f'the input "{missing[0]}" is missing')
    return arrays
