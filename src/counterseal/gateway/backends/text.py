"""Texts to vectors with a transformers folder, as sentence-transformers computes them.

The folder says how (`modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`):
which tokens are pooled, whether vectors get length 1, how many tokens count. A step that is
not known here is refused, for the vectors would be others than those its owner tested. A text
that is too long is cut, as sentence-transformers does; tokens count after the cut.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from counterseal._extras import require
from counterseal.errors import FormatError
from counterseal.gateway.tensors import numpy
from counterseal.models.files import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.models.files import Files
    from counterseal.models.formats import Pretrained

__all__ = ["Embedder", "Recipe"]

_BATCH: Final = 32
_SETTINGS_BYTES: Final = 1 << 16
_MOST_TOKENS: Final = 8192
_STEPS: Final = ("Transformer", "Pooling", "Normalize")
_POOLINGS: Final[dict[str, Literal["mean", "cls", "max"]]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How token vectors become one. The default is sentence-transformers' own."""

    pooling: Literal["mean", "cls", "max"] = "mean"
    normalize: bool = False
    max_tokens: int | None = None

    @classmethod
    def read(cls, files: Files) -> Recipe:
        """What the folder says. Raises FormatError for a step that is not known here."""
        path = next((one for one in files.names() if _base(one) == "modules.json"), None)
        if path is None:
            return cls()
        folder = posixpath.dirname(path)
        steps = _settings(files, path, list[_Step])
        kinds = [step.type.rpartition(".")[2] for step in steps]
        if kinds not in (list(_STEPS[:2]), list(_STEPS)):
            raise FormatError(f'"{path}" has the steps {", ".join(kinds)[:200]!a}, not {_STEPS}')
        pooling = posixpath.join(folder, steps[1].path, "config.json")
        modes = _settings(files, pooling, dict[str, Any])
        chosen = [
            mode for mode, on in modes.items() if mode.startswith("pooling_mode_") and on is True
        ]
        if len(chosen) != 1 or chosen[0] not in _POOLINGS:
            raise FormatError(f'"{pooling}" does not choose one of {", ".join(_POOLINGS)}')
        limit = posixpath.join(folder, "sentence_bert_config.json")
        tokens = None
        if limit in files.names():
            tokens = _settings(files, limit, _Length).max_seq_length
        return cls(_POOLINGS[chosen[0]], normalize=len(steps) == len(_STEPS), max_tokens=tokens)


class _Step(msgspec.Struct):
    type: str
    path: str


class _Length(msgspec.Struct):
    max_seq_length: int | None = None


def _base(name: str) -> str:
    return posixpath.basename(name)


def _settings(files: Files, name: str, kind: Any) -> Any:
    if name not in files.names() or files.size(name) > _SETTINGS_BYTES:
        raise FormatError(f'"{name}" is missing or larger than {_SETTINGS_BYTES} bytes')
    try:
        return msgspec.json.decode(bytes(read(files, name)), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f'"{name}" is not as sentence-transformers writes it: {error}') from None


class Embedder:
    """A transformers encoder and its tokenizer behind the seam."""

    platform = "transformers"

    def __init__(self, model: Any, tokenizer: Any, recipe: Recipe) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._recipe = recipe
        positions = getattr(model.config, "max_position_embeddings", _MOST_TOKENS)
        self._max_tokens = min(recipe.max_tokens or _MOST_TOKENS, positions, _MOST_TOKENS)
        self.dimensions = int(model.config.hidden_size)
        # A fast tokenizer keeps padding and truncation inside: two calls at once raise.
        self._lock = Lock()

    @classmethod
    def of(cls, loaded: Pretrained, files: Files | None = None) -> Embedder:
        """`files`: the folder that it was loaded from, for the recipe."""
        if loaded.tokenizer is None:
            raise FormatError("the folder has no tokenizer.json: texts cannot be read")
        return cls(loaded.model, loaded.tokenizer, Recipe.read(files) if files else Recipe())

    def count_tokens(self, texts: Sequence[str]) -> int:
        with self._lock:
            encoded = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)
        return sum(map(len, encoded["input_ids"]))

    def embed(self, texts: Sequence[str]) -> tuple[Any, int]:
        np = numpy()
        parts = [self._batch(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
        return np.concatenate([vectors for vectors, _ in parts]), sum(count for _, count in parts)

    def _batch(self, texts: Sequence[str]) -> tuple[Any, int]:
        torch = require("torch", extra="torch")
        with self._lock:
            encoded = self._tokenizer(
                list(texts),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
        encoded = encoded.to(self._model.device)
        mask = encoded["attention_mask"].unsqueeze(-1)
        with torch.inference_mode():
            hidden = self._model(**encoded).last_hidden_state.float()
            vectors = self._pool(hidden, mask)
            if self._recipe.normalize:
                vectors = torch.nn.functional.normalize(vectors, dim=1)
        return vectors.cpu().numpy(), int(mask.sum())

    def _pool(self, hidden: Any, mask: Any) -> Any:
        if self._recipe.pooling == "cls":
            return hidden[:, 0]
        if self._recipe.pooling == "max":
            return hidden.masked_fill(mask == 0, float("-inf")).max(1).values
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
