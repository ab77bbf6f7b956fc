"""From files to a model: which file is meant, and which format loads it."""

from __future__ import annotations

import posixpath
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from counterseal.errors import FormatError
from counterseal.models.files import read
from counterseal.models.formats import HEAD_BYTES, LoadOptions, format_of
from counterseal.models.formats.safetensors import TensorInfo, load_tensor, read_header
from counterseal.models.formats.transformers import Transformers
from counterseal.models.inspection import media_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from counterseal.models.files import Files
    from counterseal.models.formats import Format, Framework
    from counterseal.models.formats.safetensors import Header

__all__ = ["TensorIndex", "load"]


def load(
    files: Files,
    *,
    file: str | None = None,
    framework: Framework | None = None,
    trusted: Sequence[str] = (),
    device: str | None = None,
) -> Any:
    """Load the model: a Hugging Face folder, the only model file, or all safetensors shards.

    `file` settles which one if there are several. `framework` says whether tensors become
    torch's or numpy's (default: what they were written from). `trusted` names the types
    that a skops file may build beside the known ones.
    """
    options = LoadOptions(framework=framework, trusted=tuple(trusted), device=device)
    models = {name: known for name in files.names() if (known := _format(files, name))}
    if file is not None:
        return _load(files, file, _known(files, models, file), options)
    folders = [
        name
        for name, known in models.items()
        if isinstance(known, Transformers) and _has_weights(files, name)
    ]
    if len(folders) == 1:
        return _load(files, folders[0], models[folders[0]], options)
    single = {name: known for name, known in models.items() if not isinstance(known, Transformers)}
    if len(single) == 1:
        return _load(files, *next(iter(single.items())), options)
    if single and not folders and all(known.name == "safetensors" for known in single.values()):
        TensorIndex(files)  # raises if two shards hold a tensor of the same name
        merged: dict[str, Any] = {}
        for name, known in single.items():
            merged.update(_load(files, name, known, options))
        return merged
    candidates = folders or sorted(single)
    if not candidates:
        raise FormatError(
            "there is no model file of a known format",
            hint="known: .safetensors .pt .onnx .skops .keras .npy .npz, a transformers folder",
        )
    raise FormatError(
        f"there are several models: {', '.join(candidates)}", hint=f'file="{candidates[0]}"'
    )


class TensorIndex:
    """All tensors of all safetensors files, read one at a time: of a sealed package only the
    chunks of the tensors asked for are decrypted.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._places: dict[str, tuple[str, Header, TensorInfo]] = {}
        for file in files.names():
            if not file.lower().endswith(".safetensors"):
                continue
            header = read_header(files, file)
            for info in header.tensors:
                if info.name in self._places:
                    other = self._places[info.name][0]
                    raise FormatError(
                        f'the tensor {info.name!a} is both in "{other}" and in "{file}"',
                        hint="load one of the files: file=...",
                    )
                self._places[info.name] = (file, header, info)

    def names(self) -> Sequence[str]:
        """All names, in the order in which they stand in the files."""
        return tuple(self._places)

    def info(self, name: str) -> TensorInfo:
        return self._place(name)[2]

    def tensor(self, name: str, framework: Framework | None = None) -> Any:
        """Read one tensor and nothing else."""
        file, header, info = self._place(name)
        return load_tensor(self._files, file, info, header.framework(framework))

    def tensors(
        self, prefix: str = "", framework: Framework | None = None
    ) -> Iterator[tuple[str, Any]]:
        """Yield name and tensor for each name with this prefix; one is in memory at a time."""
        for name in self._places:
            if name.startswith(prefix):
                yield name, self.tensor(name, framework)

    def _place(self, name: str) -> tuple[str, Header, TensorInfo]:
        if name not in self._places:
            raise FormatError(f"there is no tensor {name!a}")
        return self._places[name]


def _load(files: Files, name: str, known: Format, options: LoadOptions) -> Any:
    # Inspected again on arrival: the sender's inspection was the sender's.
    media_type(files, name)
    return known.load(files, name, options)


def _format(files: Files, name: str) -> Format | None:
    return format_of(name, bytes(read(files, name, 0, min(HEAD_BYTES, files.size(name)))))


def _known(files: Files, models: dict[str, Format], file: str) -> Format:
    if file in models:
        return models[file]
    files.size(file)  # raises FormatError if there is no such file
    media_type(files, file)  # raises UnsafeFormat, which tells more, if it is a pickle
    known = ", ".join(sorted(models)) or "none"
    raise FormatError(f'"{file}" is not a model file', hint=f"model files here: {known}")


def _has_weights(files: Files, config: str) -> bool:
    folder = PurePosixPath(config).parent
    return any(
        PurePosixPath(name).parent == folder and posixpath.splitext(name)[1] == ".safetensors"
        for name in files.names()
    )
