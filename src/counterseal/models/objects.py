"""From a model in memory to files: always in a format that cannot run code."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import MemoryFiles
from counterseal.models.formats.safetensors import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["to_files"]

_ALIGNMENT: Final = 64  # the data of each tensor can then be viewed in place, also by SIMD code
_TORCH: Final = {f"torch.{torch}": name for name, (_, torch, _) in DTYPES.items()}
_NUMPY: Final = {numpy: name for name, (_, _, numpy) in DTYPES.items() if numpy}


def to_files(obj: Any) -> MemoryFiles:
    """Write a model as files that `loading.load` reads back.

    A torch module gives its state dict, not its class. Tensors that share memory are written
    once under each of their names, so that a strict `load_state_dict` finds them all.
    """
    kinds = [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(obj).__mro__]
    # Keras first: under its torch backend a Keras model is a torch module too.
    if "keras.Model" in kinds:
        return MemoryFiles({"model.keras": _keras(obj)})
    if "torch.Module" in kinds:
        return MemoryFiles({"model.safetensors": _safetensors(obj.state_dict())})
    if "sklearn.BaseEstimator" in kinds:
        return MemoryFiles({"model.skops": _skops(obj)})
    if "onnx.ModelProto" in kinds:
        return MemoryFiles({"model.onnx": obj.SerializeToString()})
    if "numpy.ndarray" in kinds:
        return MemoryFiles({"model.npy": _npy(obj)})
    if isinstance(obj, dict) and obj:
        return MemoryFiles({"model.safetensors": _safetensors(obj)})
    raise FormatError(
        f"no format is known for an object of type {type(obj).__module__}.{type(obj).__qualname__}",
        hint="known: torch modules, dicts of tensors, scikit-learn, Keras, ONNX, numpy arrays",
    )


def _keras(model: Any) -> bytes:
    stream = io.BytesIO()
    saving = require("keras.src.saving.saving_lib", extra="keras")
    saving.save_model(model, stream)
    return stream.getvalue()


def _skops(model: Any) -> bytes:
    skops = require("skops.io", extra="sklearn")
    errors = require("skops.io.exceptions", extra="sklearn")
    try:
        return bytes(skops.dumps(model))
    except (errors.UnsupportedTypeException, AttributeError, TypeError) as error:
        raise FormatError(f"skops cannot describe this estimator: {error}") from error


def _npy(array: Any) -> bytes:
    _refuse_objects("the array", array)
    stream = io.BytesIO()
    numpy = require("numpy", extra="sklearn")
    numpy.lib.format.write_array(stream, numpy.asarray(array), allow_pickle=False)
    return stream.getvalue()


def _safetensors(tensors: Mapping[Any, Any]) -> bytearray:
    """One buffer, filled tensor by tensor: no second copy of the whole."""
    metadata: dict[str, str] = {}
    parts: list[tuple[str, str, tuple[int, ...], memoryview]] = []
    for key, value in tensors.items():
        kind = type(value).__module__.partition(".")[0]
        if not isinstance(key, str) or key == "__metadata__" or kind not in {"torch", "numpy"}:
            raise FormatError(
                f"the entry {key!a} is not a named tensor but {type(value).__name__}",
                hint="seal a dict of names to torch tensors or numpy arrays",
            )
        if kind == "torch":
            metadata = {"format": "pt"}
        dtype, shape, data = _torch_bytes(key, value) if kind == "torch" else _bytes(key, value)
        parts.append((key, dtype, shape, data))
    # Widest first: then every tensor is aligned to its own element without any gap.
    parts.sort(key=lambda part: (-DTYPES[part[1]][0], part[0]))
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for key, dtype, shape, data in parts:
        place = [at, at + len(data)]
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": place}
        at += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    file = bytearray(8 + len(text) + at)
    file[: 8 + len(text)] = len(text).to_bytes(8, "little") + text
    end = 8 + len(text)
    for *_, data in parts:
        file[end : end + len(data)] = data
        end += len(data)
    return file


def _torch_bytes(key: str, tensor: Any) -> tuple[str, tuple[int, ...], memoryview]:
    torch = require("torch", extra="torch")
    dtype = _TORCH.get(str(getattr(tensor, "dtype", None)))
    if dtype is None or tensor.layout is not torch.strided or tensor.is_meta:
        raise FormatError(f"the tensor {key!a} is sparse, empty of data or of an unknown type")
    whole = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    flat = whole.reshape(-1).view(torch.uint8) if whole.numel() else whole.new_empty(0)
    data = memoryview(flat.numpy()) if whole.numel() else memoryview(b"")
    return dtype, tuple(tensor.shape), data


def _bytes(key: str, array: Any) -> tuple[str, tuple[int, ...], memoryview]:
    numpy = require("numpy", extra="sklearn")
    _refuse_objects(f"the array {key!a}", array)
    dtype = _NUMPY.get(array.dtype.name)
    if dtype is None:
        raise FormatError(f"the array {key!a} has the type {array.dtype}, unknown to safetensors")
    plain = numpy.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = memoryview(plain.reshape(-1).view("uint8")) if plain.size else memoryview(b"")
    return dtype, tuple(array.shape), data


def _refuse_objects(what: str, array: Any) -> None:
    if array.dtype.hasobject:
        raise UnsafeFormat(
            f"{what} holds Python objects: writing it would make a pickle",
            hint="convert it to numbers: array.astype(float)",
        )
