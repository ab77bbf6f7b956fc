"""Models behind another server: any that speaks the Open Inference Protocol (Triton, KServe,
MLServer) or the OpenAI API (vLLM, Ollama, llama.cpp).

It is the owner's server: it sees what partners ask. What it answers is still read as any bytes
from outside, and a wrong answer is its fault (PeerMisbehaved), never the partner's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import msgspec

from counterseal.errors import CountersealError, Dropped, FormatError, PeerMisbehaved
from counterseal.gateway import oip_client
from counterseal.gateway.backends.seam import Completion, Piece
from counterseal.gateway.backends.server import Address, Server, read_key
from counterseal.gateway.tensors import numpy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from counterseal.gateway.backends.seam import Prompt

__all__ = ["UpstreamPredictor", "UpstreamTexts", "connect"]

_JSON: Final = {"Content-Type": "application/json"}
_LENGTH: Final = "Inference-Header-Content-Length"
_SPECIAL_TOKENS: Final = 2  # around each text, with most tokenizers


def connect(
    url: str,
    *,
    key_file: Path | None = None,
    timeout: float = 30.0,
    allow_plain: bool = False,
    context: ssl.SSLContext | None = None,
) -> UpstreamPredictor | UpstreamTexts:
    """`oip+https://host:8000/MODEL` or `openai+https://host/v1#MODEL`. `context`: for a server
    whose certificate a private authority signed."""
    address = Address.parse(url, allow_plain=allow_plain)
    key = None if key_file is None else read_key(key_file)
    server = Server(address, key=key, timeout=timeout, context=context)
    if address.protocol == "oip":
        return UpstreamPredictor(server, address.model)
    return UpstreamTexts(server, address.model)


class UpstreamPredictor:
    """A model of an OIP server. Its metadata is read once, here."""

    def __init__(self, server: Server, model: str) -> None:
        self._server = server
        self.close = server.close
        self._path = f"/v2/models/{quote(model, safe='')}"
        try:
            told = oip_client.decode_metadata(server.ask("GET", self._path).body)
            self._binary = oip_client.BINARY in oip_client.extensions(server.ask("GET", "/v2").body)
        except CountersealError as error:
            server.close()
            if not isinstance(error, FormatError):
                raise
            raise PeerMisbehaved(f"the upstream server: {error.message}") from error
        self.platform = told.platform or "oip"
        self.inputs = told.inputs
        self.outputs = told.outputs

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        body, length = oip_client.encode_question(inputs, binary=self._binary)
        headers = _JSON
        if length is not None:
            headers = {"Content-Type": "application/octet-stream", _LENGTH: str(length)}
        answer = self._server.ask("POST", f"{self._path}/infer", body, headers)
        said = answer.headers.get(_LENGTH.lower())
        if said is not None and not (said.isascii() and said.isdigit() and len(said) < 16):
            raise PeerMisbehaved("the server behind the model sends a wrong header")
        try:
            return oip_client.decode_answer(
                answer.body, self.outputs, header_length=None if said is None else int(said)
            )
        except FormatError as error:
            raise PeerMisbehaved("the server behind the model gave a wrong answer") from error


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
    completion_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 0


class _Embedding(msgspec.Struct, frozen=True):
    index: int
    embedding: Annotated[list[float], msgspec.Meta(min_length=1, max_length=1 << 16)]


class _Embeddings(msgspec.Struct, frozen=True):
    data: list[_Embedding]
    usage: _Usage


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: Annotated[str, msgspec.Meta(max_length=64)]


class _Completion(msgspec.Struct, frozen=True):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1, max_length=1)]
    usage: _Usage


class _Delta(msgspec.Struct, frozen=True):
    delta: _Message
    finish_reason: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class _Chunk(msgspec.Struct, frozen=True):
    choices: Annotated[list[_Delta], msgspec.Meta(max_length=1)]
    usage: _Usage | None = None


_EMBEDDINGS: Final = msgspec.json.Decoder(_Embeddings)
_COMPLETION: Final = msgspec.json.Decoder(_Completion)
_CHUNK: Final = msgspec.json.Decoder(_Chunk)


class UpstreamTexts:
    """A model of an OpenAI-compatible server: embeddings or chat, whatever the model does."""

    platform = "openai"

    def __init__(self, server: Server, model: str) -> None:
        self._server = server
        self.close = server.close
        self._model = model

    def count_tokens(self, texts: Sequence[str]) -> int:
        """An upper bound, as the tokenizer is over there: no token is less than a byte."""
        return sum(len(text.encode()) + _SPECIAL_TOKENS for text in texts)

    def embed(self, texts: Sequence[str]) -> tuple[Any, int]:
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        answer = self._ask("/embeddings", body)
        told: _Embeddings = _decode(_EMBEDDINGS, answer)
        rows = {one.index: one.embedding for one in told.data}
        np = numpy()
        widths = {len(row) for row in rows.values()}
        complete = len(told.data) == len(texts) and sorted(rows) == list(range(len(texts)))
        if not complete or len(widths) != 1:
            raise PeerMisbehaved("the server behind the model gave other vectors than asked")
        with np.errstate(over="ignore"):
            vectors = np.array([rows[number] for number in range(len(texts))], dtype="f4")
        if not np.isfinite(vectors).all():
            raise PeerMisbehaved("the server behind the model gave a vector that is not finite")
        return vectors, told.usage.prompt_tokens

    def complete(self, prompt: Prompt) -> Completion:
        answer = self._ask("/chat/completions", self._body(prompt))
        told: _Completion = _decode(_COMPLETION, answer)
        choice = told.choices[0]
        return Completion(
            text=choice.message.content or "",
            prompt_tokens=told.usage.prompt_tokens,
            completion_tokens=told.usage.completion_tokens,
            finish_reason=choice.finish_reason,
        )

    def stream(self, prompt: Prompt) -> Iterator[Piece]:
        """Pieces as they come; the last has the reason and the tokens. Raises Dropped if the
        stream ends without saying so: a cut answer must not look like a whole one."""
        body = self._body(prompt) | {"stream": True, "stream_options": {"include_usage": True}}
        lines = self._server.lines("/chat/completions", msgspec.json.encode(body), _JSON)
        reason: str | None = None
        usage: _Usage | None = None
        for line in lines:
            if not line.startswith(b"data:"):
                continue  # comments and other fields of an event
            data = line[len(b"data:") :].strip()
            if data == b"[DONE]":
                yield Piece(
                    "",
                    finish_reason=reason or "stop",
                    prompt_tokens=usage.prompt_tokens if usage else None,
                    completion_tokens=usage.completion_tokens if usage else None,
                )
                return
            chunk: _Chunk = _decode(_CHUNK, data)
            usage = chunk.usage or usage
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                if choice.delta.content:
                    yield Piece(choice.delta.content)
        raise Dropped("the server behind the model stopped within its answer")

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        messages = [{"role": role, "content": content} for role, content in prompt.messages]
        # The model and the stream are ours to say, whatever the options hold.
        return {**prompt.options, "model": self._model, "messages": messages}

    def _ask(self, path: str, body: dict[str, Any]) -> bytes:
        return self._server.ask("POST", path, msgspec.json.encode(body), _JSON).body


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerMisbehaved("the server behind the model gave a wrong answer") from error
