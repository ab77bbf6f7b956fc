"""The seam between the gateway and what answers its requests.

A backend blocks and may be called from several threads at once. It sees only arrays and texts
that were checked before (`tensors.arrays_for`), and knows neither partner nor charter.
Refusals name the input and not the model's inside: error texts of a runtime name its layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from counterseal.gateway.tensors import Spec

__all__ = [
    "ChatModel",
    "Completion",
    "PartialPredictor",
    "Piece",
    "Predictor",
    "Prompt",
    "TextModel",
]


@runtime_checkable
class Predictor(Protocol):
    """Tensors in, tensors out (Open Inference Protocol)."""

    @property
    def platform(self) -> str: ...

    @property
    def inputs(self) -> tuple[Spec, ...]: ...

    @property
    def outputs(self) -> tuple[Spec, ...]: ...

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Answer with every output. Raises FormatError if the model does not take the input."""
        ...


@runtime_checkable
class PartialPredictor(Protocol):
    """One that can leave out what nobody asked for."""

    def predict_some(self, inputs: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
        """Answer with the outputs named."""
        ...


@runtime_checkable
class TextModel(Protocol):
    """Texts in, one vector each (OpenAI embeddings)."""

    @property
    def platform(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> tuple[Any, int]:
        """The vectors, (n, d) of float32, and how many tokens they cost."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> int:
        """What `embed` would count: known before it runs, so that a quota can be reserved."""
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """`messages`: role and text. `options`: the settings that are forwarded, already checked."""

    messages: tuple[tuple[str, str], ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Completion:
    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a streamed answer; the last has a `finish_reason` and the tokens counted."""

    text: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@runtime_checkable
class ChatModel(Protocol):
    """Messages in, text out (OpenAI chat completions)."""

    @property
    def platform(self) -> str: ...

    def complete(self, prompt: Prompt) -> Completion: ...

    def stream(self, prompt: Prompt) -> Iterator[Piece]: ...
