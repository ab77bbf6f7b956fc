"""Texts: embeddings and chat as work, in the forms of OpenAI's API.

Tokens are reserved before a model runs. For embeddings they are counted exactly. A chat's are
bounded: a token of a prompt is at least a byte of it, and an answer has at most what was asked
for, or `ANSWER_TOKENS` where nothing was. What was really used is settled afterwards.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from counterseal.errors import FormatError, PeerMisbehaved
from counterseal.gateway import openai_api, outputs
from counterseal.gateway.work import Body

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from counterseal.charter.document import Action, Unit
    from counterseal.gateway.backends.seam import Prompt
    from counterseal.gateway.openai_api import ChatRequest, EmbeddingsRequest
    from counterseal.gateway.registry import Offer
    from counterseal.gateway.tensors import Limits
    from counterseal.gateway.work import Controls, Draft, Work

__all__ = ["models_document", "read_chat", "read_embeddings"]

ANSWER_TOKENS: Final = 1024
_AROUND: Final = 16  # tokens that a model puts around each message
_JSON: Final = ((b"content-type", b"application/json"),)


@dataclass(frozen=True, slots=True)
class _EmbeddingsDraft:
    request: EmbeddingsRequest
    purpose: str | None = None

    @property
    def model(self) -> str:
        return self.request.model.partition("@")[0]

    @property
    def version(self) -> str | None:
        return self.request.model.partition("@")[2] or None

    @property
    def rows(self) -> int:
        return self.request.rows

    def bind(self, offer: Offer) -> Work:
        if "texts" not in offer.takes:
            raise FormatError(f"{offer.model} makes no embeddings", hint="POST /v2/models/...")
        tokens = offer.backend.count_tokens(self.request.texts)
        amounts: dict[Unit, int] = {"requests": 1, "rows": self.rows, "tokens": tokens}
        return _EmbeddingsWork(self.request, offer, amounts)


@dataclass(slots=True)
class _EmbeddingsWork:
    request: EmbeddingsRequest
    offer: Offer
    amounts: Mapping[Unit, int]
    action: Action = "embed"
    streams: bool = False
    rows: Any = None

    def run(self, controls: Controls) -> Body:
        vectors, tokens = self.offer.backend.embed(self.request.texts)
        left = outputs.control_vectors(
            vectors, controls.terms, tightened=controls.tightened, noise=controls.noise
        )
        data = openai_api.encode_embeddings(
            left, model=self.request.model, tokens=tokens, base64=self.request.base64
        )
        return Body(data, _JSON, {**self.amounts, "tokens": tokens})

    def stream(self, controls: Controls) -> Iterator[Body]:
        yield self.run(controls)

    def agrees(self, shadow: Offer) -> None:
        del shadow


@dataclass(frozen=True, slots=True)
class _ChatDraft:
    request: ChatRequest

    @property
    def model(self) -> str:
        return self.request.model.partition("@")[0]

    @property
    def version(self) -> str | None:
        return self.request.model.partition("@")[2] or None

    @property
    def purpose(self) -> str | None:
        return self.request.purpose

    @property
    def rows(self) -> int:
        return 1

    def bind(self, offer: Offer) -> Work:
        if "chat" not in offer.takes:
            raise FormatError(f"{offer.model} does not chat")
        prompt, request = self.request.prompt, self.request
        most = request.max_tokens
        if most is None:
            most = ANSWER_TOKENS
            prompt = replace(prompt, options={**prompt.options, "max_tokens": most})
        asked = sum(len(text.encode()) + _AROUND for _, text in prompt.messages)
        amounts: dict[Unit, int] = {"requests": 1, "rows": 1, "tokens": asked + most}
        return _ChatWork(request, prompt, offer, amounts, streams=request.stream)


@dataclass(slots=True)
class _ChatWork:
    request: ChatRequest
    prompt: Prompt
    offer: Offer
    amounts: Mapping[Unit, int]
    streams: bool
    action: Action = "predict"
    rows: Any = None

    def run(self, controls: Controls) -> Body:
        del controls  # of numbers; a charter for texts limits their tokens
        completion = self.offer.backend.complete(self.prompt)
        data = openai_api.encode_completion(completion, **self._names())
        used = completion.prompt_tokens + completion.completion_tokens
        return Body(data, _JSON, {**self.amounts, "tokens": used})

    def stream(self, controls: Controls) -> Iterator[Body]:
        del controls
        names = self._names()
        used: Mapping[Unit, int] | None = None
        first = True
        for piece in self.offer.backend.stream(self.prompt):
            yield Body(openai_api.encode_piece(piece, first=first, **names), ())
            first = False
            if piece.prompt_tokens is not None and piece.completion_tokens is not None:
                counted = piece.prompt_tokens, piece.completion_tokens
                used = {**self.amounts, "tokens": sum(counted)}
                if self.request.usage:
                    usage = openai_api.encode_usage(
                        prompt_tokens=counted[0], completion_tokens=counted[1], **names
                    )
                    yield Body(usage, ())
        if first:
            raise PeerMisbehaved("the model gave no answer")
        yield Body(openai_api.DONE, (), used)

    def agrees(self, shadow: Offer) -> None:
        del shadow

    def _names(self) -> dict[str, Any]:
        return {
            "model": self.request.model,
            "identifier": f"chatcmpl-{time.time_ns():x}",
            "created": int(time.time()),
        }


def read_embeddings(body: bytes, *, limits: Limits) -> Draft:
    return _EmbeddingsDraft(openai_api.decode_embeddings(body, limits=limits))


def read_chat(body: bytes, *, limits: Limits) -> Draft:
    return _ChatDraft(openai_api.decode_chat(body, limits=limits))


def models_document(names: Sequence[str], *, owner: str) -> bytes:
    return openai_api.encode_models(names, owner=owner)
