"""What a pickle would do, told without running it.

A pickle is a program for a small stack machine; `machine.py` steps through it. Two
questions are answered here: could this file run code at all, and is this only a state dict?
"""

from __future__ import annotations

import io
import re
from typing import BinaryIO, Final

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.machine import UNKNOWN, Broken, Undecided, steps

__all__ = ["check_state_dict", "runs_code"]

_IMPORTABLE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")

# What torch.save writes for tensors, and no more. Each of these only builds a tensor, a
# parameter or a dict; torch's own list is longer (it may call methods of tensor subclasses).
_STATE_DICT: Final = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch.nn.parameter.Parameter",
        "torch.Size",
        "torch.device",
        "torch.storage.TypedStorage",
        "torch.storage.UntypedStorage",
    }
    | {
        f"torch.{kind}Storage"
        for kind in (
            *("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte"),
            *("Bool", "ComplexDouble", "ComplexFloat"),
        )
    }
    | {
        f"torch.{kind}"
        for kind in (
            *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8"),
            *("uint64", "uint32", "uint16", "uint8", "bool", "complex64", "complex128"),
            *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
            "float8_e8m0fnu",
        )
    }
)
_STATE_DICT_REFUSED: Final = frozenset(
    {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "DUP", "POP_MARK"}
)


def runs_code(stream: BinaryIO, size: int | None, *, likely: bool, budget: int = 10_000) -> bool:
    """Tell whether unpickling this file could import or call anything, or whether it is
    plainly a pickle. `likely`: the file's name says that someone will try to unpickle it.

    Any text may begin with a few valid instructions ("c" is one), so an unlikely file must
    get as far as a call; a file that starts with the protocol mark, or is likely, only as
    far as an import, its end, or `budget` steps without a mistake.
    """
    marked = imported = False
    try:
        for count, step in enumerate(steps(stream, size)):
            marked = marked or (count == 0 and step.name == "PROTO")
            imported = imported or step.imports is not None
            named = isinstance(step.imports, str)
            if named and not marked and not _IMPORTABLE.fullmatch(str(step.imports)):
                return False  # prose: "comes with\nno warranty" names no module
            if imported and (marked or step.calls or (likely and named)):
                return True
            if count >= budget:
                return likely or marked
    except Broken as end:
        return isinstance(end, Undecided) and (likely or marked)
    return marked or (likely and not stream.read(1))


def check_state_dict(name: str, data: bytes) -> None:
    """Raise UnsafeFormat unless the pickle only puts tensors into dicts and lists."""
    hint = "save the weights only: torch.save(model.state_dict(), ...), or as .safetensors"
    stream = io.BytesIO(data)
    try:
        for step in steps(stream, len(data)):
            if step.name in _STATE_DICT_REFUSED or step.imports is UNKNOWN:
                raise UnsafeFormat(f'"{name}" uses {step.name}: no state dict does', hint=hint)
            if step.imports is not None and step.imports not in _STATE_DICT:
                raise UnsafeFormat(
                    f'"{name}" would import {step.imports!a} when it is loaded', hint=hint
                )
    except Broken as error:
        raise FormatError(f'"{name}" holds a broken pickle: {error}') from error
    if stream.read(1):
        raise UnsafeFormat(f'"{name}" has bytes after the end of its pickle', hint=hint)
