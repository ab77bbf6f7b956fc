"""Model formats, one file each. Import does nothing: libraries arrive when a model is loaded."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from counterseal.models.formats.keras import Keras
from counterseal.models.formats.numpy import Npy, Npz
from counterseal.models.formats.onnx import Onnx
from counterseal.models.formats.safetensors import Safetensors
from counterseal.models.formats.seam import HEAD_BYTES, Format, Framework, LoadOptions
from counterseal.models.formats.sklearn import Skops
from counterseal.models.formats.torch import Torch
from counterseal.models.formats.transformers import Pretrained, Transformers

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FORMATS",
    "HEAD_BYTES",
    "Format",
    "Framework",
    "LoadOptions",
    "Pretrained",
    "format_of",
]

# In this order: names decide before contents, and a folder's config.json comes last.
FORMATS: Final[Sequence[Format]] = (
    Safetensors(),
    Keras(),
    Skops(),
    Onnx(),
    Npy(),
    Npz(),
    Torch(),
    Transformers(),
)


def format_of(name: str, head: bytes) -> Format | None:
    """Return the format that claims the file, or None if it is not a model file we load."""
    name = PurePosixPath(name).name.lower()
    return next((known for known in FORMATS if known.claims(name, head)), None)
