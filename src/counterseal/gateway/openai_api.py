"""The OpenAI API, as far as it is offered: models, embeddings, chat. Bytes in, values out.

Rules, in order:
1. the body is within the limit, and JSON of the fields below: what the API knows but nobody
   here does (tools, log-probabilities, images, several answers, storing) is refused by name
   and never dropped;
2. content is text. Token lists are refused: their meaning depends on a tokenizer;
3. of a chat, only `FORWARDED` reaches a model, besides the messages. `user` and `metadata` stay
   here: whom a partner asks for is no business of whoever runs the model;
4. `metadata.purpose` declares what the request is for (embeddings have no metadata there: a
   header does it).
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from counterseal.errors import FormatError
from counterseal.gateway.backends.seam import Prompt
from counterseal.gateway.elements import read_json, to_json
from counterseal.gateway.tensors import Limits, numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.gateway.backends.seam import Completion, Piece

__all__ = [
    "DONE",
    "FORWARDED",
    "ChatRequest",
    "EmbeddingsRequest",
    "decode_chat",
    "decode_embeddings",
    "encode_completion",
    "encode_embeddings",
    "encode_error",
    "encode_models",
    "encode_piece",
    "encode_usage",
]

FORWARDED: Final = (
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "presence_penalty",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "top_p",
)
DONE: Final = b"data: [DONE]\n\n"
MOST_TEXTS: Final = 2048
MOST_MESSAGES: Final = 1024
_DEFAULT: Final = Limits()

Model = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Label = Annotated[str, msgspec.Meta(max_length=512)]
Metadata = Annotated[dict[str, Label], msgspec.Meta(max_length=16)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Embeddings(_Strict, frozen=True):
    model: Model
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: Label | None = None


class _Part(_Strict, frozen=True):
    type: Literal["text"]
    text: Text


class _Message(_Strict, frozen=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]


class _StreamOptions(_Strict, frozen=True):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class _ResponseFormat(_Strict, frozen=True):
    type: Literal["text", "json_object"]


class _Chat(_Strict, frozen=True):
    model: Model
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1, max_length=MOST_MESSAGES)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    metadata: Metadata | None = None
    user: Label | None = None
    n: Literal[1] | None = None
    frequency_penalty: Penalty | None = None
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    presence_penalty: Penalty | None = None
    response_format: _ResponseFormat | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)] | None = None
    stop: Stop | Annotated[list[Stop], msgspec.Meta(max_length=4)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """`base64`: vectors as bytes of single precision, which the openai client asks for."""

    model: str
    texts: tuple[str, ...]
    base64: bool

    @property
    def rows(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`usage`: the stream is to end with what it used."""

    model: str
    prompt: Prompt
    stream: bool
    usage: bool
    purpose: str | None

    @property
    def max_tokens(self) -> int | None:
        """What the answer may cost at most, if the client said so."""
        options = self.prompt.options
        asked: int | None = options.get("max_completion_tokens", options.get("max_tokens"))
        return asked


_EMBEDDINGS: Final = msgspec.json.Decoder(_Embeddings)
_CHAT: Final = msgspec.json.Decoder(_Chat)


def decode_embeddings(body: bytes, *, limits: Limits = _DEFAULT) -> EmbeddingsRequest:
    """Read `POST /v1/embeddings`. Raises FormatError."""
    asked: _Embeddings = _read(_EMBEDDINGS, body, limits)
    if asked.dimensions is not None:
        raise FormatError("`dimensions` is not offered: the model has one length of vectors")
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    if not 1 <= len(texts) <= MOST_TEXTS:
        raise FormatError(f"`input` has {len(texts)} texts, not 1 to {MOST_TEXTS}")
    checked = []
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise FormatError(
                "`input` has tokens; a text or a list of texts is expected",
                hint="LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)",
            )
        _check_text(text, f"input[{number}]", limits)
        checked.append(text)
    return EmbeddingsRequest(asked.model, tuple(checked), asked.encoding_format == "base64")


def decode_chat(body: bytes, *, limits: Limits = _DEFAULT) -> ChatRequest:
    """Read `POST /v1/chat/completions`. Raises FormatError."""
    asked: _Chat = _read(_CHAT, body, limits)
    messages = []
    for number, message in enumerate(asked.messages):
        content = message.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        _check_text(content, f"messages[{number}].content", limits)
        messages.append((message.role, content))
    if asked.stream_options is not None and not asked.stream:
        raise FormatError("`stream_options` is for streams")
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise FormatError("`max_tokens` is the old name of `max_completion_tokens`: send one")
    options = {
        name: msgspec.to_builtins(value)
        for name in FORWARDED
        if (value := getattr(asked, name)) is not None
    }
    return ChatRequest(
        model=asked.model,
        prompt=Prompt(tuple(messages), options),
        stream=bool(asked.stream),
        usage=asked.stream_options is not None and asked.stream_options.include_usage,
        purpose=(asked.metadata or {}).get("purpose"),
    )


def _read(decoder: msgspec.json.Decoder[Any], body: bytes, limits: Limits) -> Any:
    if len(body) > limits.body_bytes:
        raise FormatError(f"the request is longer than {limits.body_bytes} bytes")
    return read_json(decoder, body)


def _check_text(text: str, path: str, limits: Limits) -> None:
    if not text:
        raise FormatError(f"`{path}` is empty")
    # A letter is at most 4 bytes: most texts need no second look.
    if len(text) * 4 > limits.text_bytes and len(text.encode()) > limits.text_bytes:
        raise FormatError(f"`{path}` has more than {limits.text_bytes} bytes")


def encode_embeddings(vectors: Any, *, model: str, tokens: int, base64: bool) -> bytes:
    """`vectors`: (n, d), in the order of the texts."""
    if base64:
        rows: list[Any] = [b64encode(row.tobytes()).decode() for row in vectors.astype("<f4")]
    else:
        flat = to_json(numpy().asarray(vectors), "embedding")
        width = vectors.shape[1]
        rows = [flat[at : at + width] for at in range(0, len(flat), width)]
    data = [
        {"object": "embedding", "index": number, "embedding": row}
        for number, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": usage})


def encode_models(models: Sequence[str], *, owner: str, created: int = 0) -> bytes:
    """`GET /v1/models`."""
    data = [
        {"id": model, "object": "model", "created": created, "owned_by": owner} for model in models
    ]
    return msgspec.json.encode({"object": "list", "data": data})


def encode_completion(
    completion: Completion, *, model: str, identifier: str, created: int
) -> bytes:
    message = {"role": "assistant", "content": completion.text}
    choice = {"index": 0, "message": message, "finish_reason": completion.finish_reason}
    return msgspec.json.encode(
        {
            "id": identifier,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
            "usage": _usage(completion.prompt_tokens, completion.completion_tokens),
        }
    )


def encode_piece(
    piece: Piece, *, model: str, identifier: str, created: int, first: bool = False
) -> bytes:
    """One server-sent event. `first`: it says who speaks."""
    delta = {"content": piece.text} if piece.text or not piece.finish_reason else {}
    if first:
        delta = {"role": "assistant"} | delta
    choice = {"index": 0, "delta": delta, "finish_reason": piece.finish_reason}
    return _event(_chunk([choice], model=model, identifier=identifier, created=created))


def encode_usage(
    *, prompt_tokens: int, completion_tokens: int, model: str, identifier: str, created: int
) -> bytes:
    """The event before `DONE`, for a client that asked for usage."""
    chunk = _chunk([], model=model, identifier=identifier, created=created)
    return _event(chunk | {"usage": _usage(prompt_tokens, completion_tokens)})


def encode_error(
    message: str, *, kind: str, code: str | None = None, param: str | None = None
) -> bytes:
    """`kind`: such as invalid_request_error or insufficient_quota."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return msgspec.json.encode({"error": error})


def _chunk(choices: list[Any], *, model: str, identifier: str, created: int) -> dict[str, Any]:
    return {
        "id": identifier,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": choices,
    }


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
