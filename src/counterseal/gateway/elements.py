"""The elements of a tensor: from JSON or binary into an array, and back.

Nothing is allocated before it is counted: a JSON list of n values, nested or not, has n - 1
commas, and the shape says how many there must be.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from counterseal.errors import FormatError
from counterseal.gateway.tensors import DATATYPES, ITEM_BYTES, Tensor, count, datatype_of, numpy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterseal.gateway.tensors import Limits

__all__ = [
    "Described",
    "from_binary",
    "from_json",
    "read_json",
    "read_tensor",
    "to_binary",
    "to_json",
]

_TEXT_LENGTH_BYTES: Final = 4
_OPENING: Final = re.compile(rb"[\s\[]*")
_PLACE: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor as JSON has it: `raw` are its elements, or `size` bytes behind the JSON are."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes
    size: int | None


def read_tensor(
    one: Described, binary: memoryview, *, path: str, limits: Limits
) -> tuple[Tensor, memoryview]:
    """The tensor, and what of `binary` is left for the next."""
    if one.datatype not in DATATYPES:
        known = " ".join(DATATYPES)
        raise FormatError(f"`{path}.datatype` is {one.datatype!a}; known are {known}")
    elements = count(one.shape, limits, path)
    if (one.size is None) != bool(one.raw):
        raise FormatError(f"`{path}` has neither or both of `data` and `binary_data_size`")
    if one.size is None:
        array = from_json(one.raw, one.datatype, one.shape, f"{path}.data", limits)
    else:
        if one.size > len(binary):
            raise FormatError(f"`{path}` says {one.size} binary bytes; {len(binary)} are there")
        array = from_binary(binary[: one.size], one.datatype, elements, path, limits)
        array = array.reshape(one.shape)
        binary = binary[one.size :]
    return Tensor(one.name, one.datatype, one.shape, array), binary


_ITEMS: Final[Mapping[str, Any]] = {
    "BOOL": bool,
    "BYTES": str,
    "FP16": float,
    "FP32": float,
    "FP64": float,
    "UINT64": Annotated[int, msgspec.Meta(ge=0)],
    "INT64": int,
} | {
    f"{sign}INT{bits}": Annotated[int, msgspec.Meta(ge=low, le=high)]
    for bits in (8, 16, 32)
    for sign, low, high in (("U", 0, 2**bits - 1), ("", -(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
}


@cache
def _decoder(datatype: str, depth: int) -> msgspec.json.Decoder[Any]:
    kind: Any = _ITEMS[datatype]
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def from_json(raw: bytes, datatype: str, shape: tuple[int, ...], path: str, limits: Limits) -> Any:
    # A JSON list of n values, nested or not, has n - 1 commas: counted before it is built.
    elements = math.prod(shape)
    commas = raw.count(b",")
    if commas + 1 != elements and (datatype != "BYTES" or commas + 1 < elements):
        raise FormatError(f"`{path}` has {commas + 1} values; {elements} are in its shape")
    opening = _OPENING.match(raw)
    depth = opening[0].count(b"[") if opening else 0
    if depth not in {1, len(shape)}:
        raise FormatError(f"`{path}` is neither flat nor nested as its shape says")
    values = read_json(_decoder(datatype, depth), raw, path)
    np = numpy()
    if datatype == "BYTES":
        return _texts(values, depth, shape, path, limits)
    try:
        with np.errstate(over="ignore"):  # too large for FP32 becomes infinite: `check` refuses it
            array = np.array(values, dtype=DATATYPES[datatype])
    except OverflowError:
        raise FormatError(f"`{path}` has an integer that is too large for {datatype}") from None
    except ValueError:
        raise FormatError(f"`{path}` has lists of different lengths") from None
    expected = (elements,) if depth == 1 else shape
    if array.shape != expected:
        raise FormatError(
            f"`{path}` is nested as {list(array.shape)}; {list(expected)} is expected"
        )
    return array.reshape(shape)


def _texts(values: Any, depth: int, shape: tuple[int, ...], path: str, limits: Limits) -> Any:
    lists = [values]
    for length in shape if depth == len(shape) else (math.prod(shape),):
        if any(len(one) != length for one in lists):
            raise FormatError(f"`{path}` does not have as many values as its shape says")
        lists = [one for inner in lists for one in inner]
    return _objects([text.encode() for text in lists], path, limits, shape)


def _objects(texts: list[bytes], path: str, limits: Limits, shape: tuple[int, ...]) -> Any:
    np = numpy()
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    if max(map(len, texts), default=0) > limits.text_bytes:
        raise FormatError(f"`{path}` has an element of more than {limits.text_bytes} bytes")
    return array.reshape(shape)


def from_binary(data: memoryview, datatype: str, elements: int, path: str, limits: Limits) -> Any:
    np = numpy()
    if datatype == "BYTES":
        return _objects(_split(data, elements, path), path, limits, (elements,))
    if len(data) != elements * ITEM_BYTES[datatype]:
        raise FormatError(
            f"`{path}` has {len(data)} binary bytes; "
            f"{elements * ITEM_BYTES[datatype]} are in its shape"
        )
    if datatype == "BOOL" and np.frombuffer(data, "u1").max() > 1:
        raise FormatError(f"`{path}` has a byte that is no BOOL")
    array = np.frombuffer(data, DATATYPES[datatype])
    # Behind a header of odd length it is not aligned, which not every kernel checks.
    return array if array.flags.aligned else array.copy()


def _split(data: memoryview, elements: int, path: str) -> list[bytes]:
    if len(data) < elements * _TEXT_LENGTH_BYTES:
        raise FormatError(f"`{path}` has too few binary bytes for {elements} lengths")
    texts = []
    at = 0
    for _ in range(elements):
        start = at + _TEXT_LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "little")
        if start > len(data) or at > len(data):
            raise FormatError(f"`{path}` ends within an element")
        texts.append(bytes(data[start:at]))
    if at != len(data):
        raise FormatError(f"`{path}` has binary bytes after its last element")
    return texts


def read_json(decoder: msgspec.json.Decoder[Any], data: bytes | msgspec.Raw, path: str = "") -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = _PLACE.fullmatch(str(error))
        message, place = (found[1], path + found[2]) if found else (str(error), path)
        where = f" at `{place}`" if place else ""
        raise FormatError(f"the request is not as the protocol has it{where}: {message}") from None


def to_json(array: Any, name: str) -> list[Any]:
    np = numpy()
    kind = array.dtype.kind
    if kind in "OSU":
        return [_text(one, name) for one in array.ravel().tolist()]
    if kind != "f":
        return list(array.ravel().tolist())
    if not np.isfinite(array).all():
        raise FormatError(f'the output "{name}" is not finite, which JSON cannot say')
    wide = array.astype("f8").ravel()
    if array.dtype.itemsize < 8:
        # 0.973 as FP32 is 0.9729999899864197 in full; the short form reads back as the same.
        short = wide.round(6)
        if (short.astype(array.dtype) == array.ravel()).all():
            wide = short
    return list(wide.tolist())


def _text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise FormatError(
            f'the output "{name}" is not text', hint="ask for it as binary data"
        ) from None


def to_binary(array: Any) -> bytes:
    np = numpy()
    if array.dtype.kind not in "OSU":
        code = DATATYPES[datatype_of(array)]
        return bytes(np.ascontiguousarray(array, dtype=code))
    texts = [one.encode() if isinstance(one, str) else bytes(one) for one in array.ravel().tolist()]
    return b"".join(len(text).to_bytes(_TEXT_LENGTH_BYTES, "little") + text for text in texts)
