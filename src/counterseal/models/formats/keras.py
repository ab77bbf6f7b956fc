"""Keras 3 models (`.keras`): a zip of a configuration, metadata and HDF5 weights.

The configuration names Python classes and functions that Keras looks up and calls. Keras'
own safe mode has been got around several times (through wrappers that unpickle, utilities
that download, layers that read any local file), so only classes on the list here get
through to it at all.
"""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models import archives
from counterseal.models.files import read

if TYPE_CHECKING:
    from counterseal.models.files import Files
    from counterseal.models.formats.seam import LoadOptions

__all__ = ["Keras"]

MAX_CONFIG_BYTES: Final = 16 << 20
_WEIGHTS: Final = "model.weights.h5"
# Exactly these: with "assets/" Keras would unpack the whole archive to a temporary folder.
_MEMBERS: Final = frozenset({"config.json", "metadata.json", _WEIGHTS})

_MODULES: Final = re.compile(
    r"keras\.(layers|models|initializers|regularizers|constraints|activations|losses|metrics"
    r"|dtype_policies|quantizers|optimizers(\.schedules)?)"
    r"|keras\.src\.models\.(functional|sequential)"
    r"|keras\.src\.ops\.(numpy|nn|math|linalg|image)"
    r"|keras\.src\.backend\.(jax|numpy|tensorflow|torch)\.optimizers\.\w+"
)
_CLASSES: Final = {
    "keras": {"DTypePolicy", "Functional", "Model", "Sequential"},
    "keras.src.ops.core": {"Cast", "Scatter", "ScatterUpdate", "Slice", "StopGradient", "Unstack"},
}
_DATA: Final = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__"})
_DATA_TOO: Final = frozenset({"__ellipsis__", "__slice__"})
# Each of these runs what the file says: Python bytecode, a pickle, a SavedModel, a function.
_RUNS_CODE: Final = frozenset(
    {"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper", "__lambda__"}
)
# What Keras 3.15 and h5py 3.16 were seen to raise on altered files.
_BROKEN: Final = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Keras:
    """`.keras`. The model arrives uncompiled: it predicts; `compile()` it to train on."""

    name = "keras"
    media_type = "application/x-keras"

    def claims(self, name: str, head: bytes) -> bool:
        del head
        return name.endswith(".keras")

    def check(self, files: Files, name: str) -> None:
        with archives.open_archive(files, name) as archive:
            if {*archive.namelist()} != _MEMBERS:
                raise UnsafeFormat(
                    f'"{name}" is not the three files that Keras 3 writes',
                    hint="save with keras.saving.save_model; assets are not supported",
                )
            if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
                raise UnsafeFormat(f'"{name}" has a config of more than {MAX_CONFIG_BYTES} bytes')
            text = archives.read_member(archive, "config.json")
        try:
            config = json.loads(text)
            _check_config(name, config)
        except (ValueError, RecursionError) as error:
            raise FormatError(f'the config of "{name}" is not valid JSON: {error}') from error

    def load(self, files: Files, name: str, options: LoadOptions) -> Any:
        del options
        self.check(files, name)
        h5py = require("h5py", extra="keras")
        keras = require("keras.src.saving.saving_lib", extra="keras")
        with archives.open_archive(files, name) as archive:
            _check_weights(name, archives.read_member(archive, _WEIGHTS), h5py)
        # A stream without a name: when memory is short, Keras unpacks weights beside the file.
        stream = io.BytesIO(read(files, name))
        try:
            return keras.load_model(stream, compile=False, safe_mode=True)
        except _BROKEN as error:
            raise FormatError(f'Keras cannot load "{name}": {error}') from error


def _check_config(name: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_config(name, item)
    elif isinstance(value, dict):
        if {"class_name", "registered_name", "module"} & value.keys():
            _check_class(name, value)
        if isinstance(value.get("vocabulary"), str):
            # StringLookup and its like read the file of this name: any file of the reader's.
            raise UnsafeFormat(f'"{name}" has a layer that reads a local file')
        for item in value.values():
            _check_config(name, item)


def _check_class(name: str, entry: dict[str, Any]) -> None:
    kind, module = entry.get("class_name"), entry.get("module")
    registered, function = entry.get("registered_name"), entry.get("config")
    if not isinstance(kind, str) or kind in _RUNS_CODE:
        raise UnsafeFormat(
            f'"{name}" has a {kind} layer, which carries code',
            hint="write it with keras.ops or built-in layers, or export the model to ONNX",
        )
    if kind in _DATA | _DATA_TOO and module in {None, "builtins"}:
        return
    own = kind
    if kind == "function" and isinstance(function, str):
        own = function
        known = module == "builtins" or _matches(module, function)
    else:
        known = _matches(module, kind)
    # A registered name finds whatever the reader's own program has registered under it.
    if not known or registered not in {None, own} or not own.isidentifier():
        raise UnsafeFormat(
            f'"{name}" uses {module!a} {own!a}, which is not part of Keras',
            hint="custom classes cannot be shared; export the model to ONNX",
        )


def _matches(module: Any, kind: str) -> bool:
    if not isinstance(module, str):
        return False
    return _MODULES.fullmatch(module) is not None or kind in _CLASSES.get(module, ())


def _check_weights(name: str, data: bytes, h5py: Any) -> None:
    """HDF5 can point out of itself: to other files, and to data that is not there."""

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            groups, seen = [file["/"]], set()
            while groups:
                group = groups.pop()
                place = h5py.h5o.get_info(group.id).addr
                if place in seen:  # hard links may go round in a circle
                    continue
                seen.add(place)
                for key in group:
                    path = f"{group.name}/{key}"
                    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                        raise UnsafeFormat(f'the weights of "{name}" link elsewhere: {path!a}')
                    item = group[key]
                    if isinstance(item, h5py.Group):
                        groups.append(item)
                    elif isinstance(item, h5py.Dataset):
                        _check_dataset(name, path, item, len(data))
    except _BROKEN as error:
        raise FormatError(f'the weights of "{name}" are broken: {error}') from error


def _check_dataset(name: str, path: str, item: Any, size: int) -> None:
    if item.external or item.is_virtual:
        raise UnsafeFormat(f'the weights of "{name}" lie in another file: {path!a}')
    if item.nbytes > max(size * archives.MAX_RATIO, archives.RATIO_FLOOR_BYTES):
        raise UnsafeFormat(f'the weights of "{name}" are a bomb: {item.nbytes} bytes')
