"""From a model's files to what answers for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from counterseal.errors import FormatError
from counterseal.models import loading
from counterseal.models.formats import Pretrained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.gateway.backends.seam import Predictor, TextModel
    from counterseal.models.files import Files

__all__ = ["load", "serve"]


def load(
    files: Files,
    *,
    file: str | None = None,
    trusted: Sequence[str] = (),
    device: str | None = None,
) -> Predictor | TextModel:
    """Load a model and put it behind the seam. Arguments as in `models.loading.load`."""
    model = loading.load(files, file=file, trusted=trusted, device=device)
    return serve(model, files=files)


def serve(model: Any, *, files: Files | None = None) -> Predictor | TextModel:
    """Put what `models.loading.load` gave behind the seam. Raises FormatError if it cannot
    answer: weights alone do not say how they are applied."""
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if kind.startswith("onnxruntime."):
        from counterseal.gateway.backends.onnx import OnnxPredictor

        return OnnxPredictor(model)
    if isinstance(model, Pretrained):
        from counterseal.gateway.backends.text import Embedder

        return Embedder.of(model, files)
    if hasattr(model, "predict") and hasattr(model, "get_params"):
        from counterseal.gateway.backends.sklearn import SklearnPredictor

        return SklearnPredictor(model)
    raise FormatError(
        f"a {kind} cannot answer requests by itself",
        hint="serve an ONNX model, a skops estimator or a transformers folder; "
        "in Python, TorchPredictor takes a module that you built",
    )
