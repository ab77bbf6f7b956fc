"""PyTorch state dicts (`.pt`, `.pth`, `.bin`, `.ckpt`): a zip around a pickle.

The pickle is read instruction by instruction before torch sees it (`pickles.py`), and torch
then loads it with `weights_only=True`: two different readers must both find only tensors.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - only for the name of the error that torch raises
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models import archives, pickles
from counterseal.models.stream import FileStream

if TYPE_CHECKING:
    import zipfile

    from counterseal.models.files import Files
    from counterseal.models.formats.seam import LoadOptions

__all__ = ["Torch"]

MAX_PICKLE_BYTES: Final = 64 << 20  # 150 bytes a tensor: 400,000 tensors
_SUFFIXES: Final = (".pt", ".pth", ".bin", ".ckpt")


class Torch:
    """Weights-only checkpoints. Whole pickled modules and TorchScript programs are refused."""

    name = "torch"
    media_type = "application/x-pytorch"

    def claims(self, name: str, head: bytes) -> bool:
        if name.endswith((".pt", ".pth")):
            return True
        zipped = head.startswith(archives.MAGIC)
        return zipped and (name.endswith(_SUFFIXES) or b"/data.pkl" in head[:512])

    def check(self, files: Files, name: str) -> None:
        with archives.open_archive(files, name) as archive:
            data = archives.read_member(archive, _pickle_of(name, archive))
        pickles.check_state_dict(name, data)

    def load(self, files: Files, name: str, options: LoadOptions) -> Any:
        self.check(files, name)
        torch = require("torch", extra="torch")
        try:
            return torch.load(
                FileStream(files, name), map_location=options.device or "cpu", weights_only=True
            )
        except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise FormatError(f'torch cannot load "{name}": {error}') from error


def _pickle_of(name: str, archive: zipfile.ZipFile) -> str:
    members = archive.namelist()
    pickled = [member for member in members if member.endswith(".pkl")]
    if any(member.endswith("/constants.pkl") or "/code/" in member for member in members):
        raise UnsafeFormat(
            f'"{name}" is a TorchScript program, not weights',
            hint="save model.state_dict(), or export the model to ONNX",
        )
    # torch reads "<root>/data.pkl" where <root> is whatever the first member's is: one root
    # for all, so that there is only one pickle it could mean.
    roots = {PurePosixPath(member).parts[0] for member in members}
    if len(pickled) != 1 or len(roots) != 1 or pickled[0] != f"{next(iter(roots))}/data.pkl":
        raise UnsafeFormat(f'"{name}" is a zip file, but not one that torch.save writes')
    if archive.getinfo(pickled[0]).file_size > MAX_PICKLE_BYTES:
        raise UnsafeFormat(f'"{name}" has a pickle of more than {MAX_PICKLE_BYTES} bytes')
    return pickled[0]
