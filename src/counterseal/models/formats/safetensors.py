"""safetensors, read by a strict parser of our own.

```
┌────────────┬──────────────────────────────────┬───────────────────────────┐
│ N: u64, LE │ N bytes: JSON, padded with spaces │ tensors, gapless, in order│
└────────────┴──────────────────────────────────┴───────────────────────────┘
```

Strict means: one reading for all. A gap could hide data, an overlap or a repeated key could
show one model to the inspector and another to the loader. A whole file is one allocation
filled by one read (which a sealed package decrypts in parallel); tensors are views of it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError
from counterseal.models.files import read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from counterseal.models.files import Files
    from counterseal.models.formats.seam import Framework, LoadOptions

__all__ = ["DTYPES", "Header", "Safetensors", "TensorInfo", "load_tensor", "read_header"]

MAX_HEADER_BYTES: Final = 100_000_000  # the reference implementation's cap
MAX_DIMENSIONS: Final = 64

# safetensors name -> (bytes, torch name, numpy name; "" where numpy has no such type)
DTYPES: Final[Mapping[str, tuple[int, str, str]]] = {
    "BOOL": (1, "bool", "bool"),
    "U8": (1, "uint8", "uint8"),
    "I8": (1, "int8", "int8"),
    "F8_E4M3": (1, "float8_e4m3fn", ""),
    "F8_E5M2": (1, "float8_e5m2", ""),
    "F8_E8M0": (1, "float8_e8m0fnu", ""),
    "F8_E4M3FNUZ": (1, "float8_e4m3fnuz", ""),
    "F8_E5M2FNUZ": (1, "float8_e5m2fnuz", ""),
    "U16": (2, "uint16", "uint16"),
    "I16": (2, "int16", "int16"),
    "F16": (2, "float16", "float16"),
    "BF16": (2, "bfloat16", ""),
    "U32": (4, "uint32", "uint32"),
    "I32": (4, "int32", "int32"),
    "F32": (4, "float32", "float32"),
    "U64": (8, "uint64", "uint64"),
    "I64": (8, "int64", "int64"),
    "F64": (8, "float64", "float64"),
    "C64": (8, "complex64", "complex64"),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor stands. `offset` counts from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """`tensors` in the order of their offsets; their bytes begin at `start`."""

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str]
    start: int

    def framework(self, wished: Framework | None) -> Framework:
        return wished or ("torch" if self.metadata.get("format") == "pt" else "numpy")


class Safetensors:
    """`.safetensors`: nothing in it can run."""

    name = "safetensors"
    media_type = "application/x-safetensors"

    def claims(self, name: str, head: bytes) -> bool:
        del head
        return name.endswith(".safetensors")

    def check(self, files: Files, name: str) -> None:
        read_header(files, name)

    def load(self, files: Files, name: str, options: LoadOptions) -> dict[str, Any]:
        """Return all tensors by name, as views of one buffer."""
        header = read_header(files, name)
        framework = header.framework(options.framework)
        for info in header.tensors:
            _require_dtype(info, framework)
        buffer, view = _allocate(framework, files.size(name) - header.start)
        if len(view):
            files.read_into(name, header.start, view)
        if options.device is not None and framework == "torch":
            buffer = buffer.to(options.device)  # one transfer instead of one per tensor
        return {
            info.name: _shaped(buffer, info, info.offset - header.start, framework)
            for info in header.tensors
        }


def load_tensor(files: Files, name: str, info: TensorInfo, framework: Framework) -> Any:
    """Read exactly one tensor: of a sealed package only its chunks are decrypted."""
    _require_dtype(info, framework)
    buffer, view = _allocate(framework, info.size)
    if info.size:
        files.read_into(name, info.offset, view)
    return _shaped(buffer, info, 0, framework)


def read_header(files: Files, name: str) -> Header:
    """Parse the header and check that it describes the file exactly, byte for byte."""
    size = files.size(name)
    if size < 8:
        raise FormatError(f'"{name}" is too short for safetensors')
    length = int.from_bytes(read(files, name, 0, 8), "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise FormatError(f'"{name}" is not safetensors: a header of {length} bytes')
    entries = _parse(name, bytes(read(files, name, 8, length)))
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise FormatError(f'the metadata of "{name}" is not a table of texts')
    start = 8 + length
    tensors = sorted(
        (_tensor(name, key, entry, start) for key, entry in entries.items()),
        key=lambda info: (info.offset, info.size),
    )
    _check_cover(name, tensors, start, size)
    return Header(tuple(tensors), metadata, start)


def _parse(name: str, text: bytes) -> dict[str, Any]:
    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("a key is there twice")
        return table

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        entries = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
        # A lone surrogate ("\\ud800") passes json but is no text: no other parser agrees.
        json.dumps(entries, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise FormatError(f'the header of "{name}" is not valid JSON: {error}') from error
    if not isinstance(entries, dict) or not text.startswith(b"{"):
        raise FormatError(f'the header of "{name}" is not a JSON object')
    return entries


def _tensor(name: str, key: str, entry: Any, start: int) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f'"{name}" describes the tensor {key!a} in an unknown way')
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FormatError(f'the tensor {key!a} in "{name}" has the unknown type {dtype!a}')
    if not _counts(shape) or not _counts(offsets) or len(shape) > MAX_DIMENSIONS:
        raise FormatError(f'the tensor {key!a} in "{name}" has no valid shape or place')
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype][0]:
        raise FormatError(f'the tensor {key!a} in "{name}" does not fill its place')
    return TensorInfo(key, dtype, tuple(shape), start + offsets[0], offsets[1] - offsets[0])


def _counts(value: Any) -> bool:
    # `type`, not isinstance: true is an int to Python and no number to anybody else.
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _check_cover(name: str, tensors: list[TensorInfo], start: int, size: int) -> None:
    at = start
    for info in tensors:
        if info.offset != at:
            raise FormatError(f'"{name}" has a gap or an overlap before the tensor {info.name!a}')
        at += info.size
    if at != size:
        raise FormatError(f'"{name}" has {size} bytes, its tensors end at {at}')


def _require_dtype(info: TensorInfo, framework: Framework) -> None:
    if framework == "numpy" and not DTYPES[info.dtype][2]:
        raise FormatError(
            f"numpy has no type for {info.dtype} (tensor {info.name!a})",
            hint='load it with framework="torch"',
        )


def _allocate(framework: Framework, size: int) -> tuple[Any, memoryview]:
    # For torch too: numpy asks the kernel for huge pages, torch.empty does not, and a page
    # fault every 4 KiB costs more than the decryption (docs/reference/benchmarks.md).
    buffer = require("numpy", extra="torch" if framework == "torch" else "sklearn").empty(
        size, dtype="uint8"
    )
    view = memoryview(buffer)
    if framework == "torch":
        return require("torch", extra="torch").from_numpy(buffer), view
    return buffer, view


def _shaped(buffer: Any, info: TensorInfo, at: int, framework: Framework) -> Any:
    width, torch_name, numpy_name = DTYPES[info.dtype]
    flat = buffer[at : at + info.size]
    if framework == "torch":
        torch = require("torch", extra="torch")
        dtype = getattr(torch, torch_name)
        if not info.size:
            return torch.empty(info.shape, dtype=dtype, device=buffer.device)
        # Writers need not align tensors; a view may not start between two elements.
        return (flat.clone() if at % width else flat).view(dtype).reshape(info.shape)
    return (flat.copy() if at % width else flat).view(numpy_name).reshape(info.shape)
