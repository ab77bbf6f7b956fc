"""Texts as work: tokens are reserved before a model runs, and settled afterwards."""

import base64

import msgspec
import pytest
from charters import CHARTER, changed

from counterseal.errors import FormatError, PeerMisbehaved
from counterseal.gateway.backends.seam import Completion, Piece
from counterseal.gateway.registry import Offer
from counterseal.gateway.tensors import Limits
from counterseal.gateway.textwork import ANSWER_TOKENS, models_document, read_chat, read_embeddings
from counterseal.gateway.work import Controls

np = pytest.importorskip("numpy")

CONTROLS = Controls(changed(CHARTER.output, top=None, decimals=None), False, lambda array: array)


class Embeds:
    platform = "test"

    def count_tokens(self, texts):
        return sum(len(text.split()) for text in texts)

    def embed(self, texts):
        return np.array([[len(text), 1] for text in texts], "f4"), self.count_tokens(texts)


class Chats:
    platform = "test"

    def __init__(self, pieces=("he", "llo")):
        self.pieces = pieces
        self.asked = None

    def complete(self, prompt):
        self.asked = prompt
        return Completion("hello", 5, 7, "stop")

    def stream(self, prompt):
        self.asked = prompt
        for text in self.pieces:
            yield Piece(text)
        if self.pieces:
            yield Piece("", "stop", 5, 7)


def offer(backend):
    return Offer.of("words", (1, 0, 0), "d1" * 32, backend)


def embeddings(**more):
    asked = {"model": "words", "input": ["one two", "three"], **more}
    return read_embeddings(msgspec.json.encode(asked), limits=Limits())


def chat(**more):
    asked = {"model": "words@1.0.0", "messages": [{"role": "user", "content": "hi there"}], **more}
    return read_chat(msgspec.json.encode(asked), limits=Limits())


def test_tokens_of_embeddings_are_counted_exactly():
    draft = embeddings()
    assert (draft.model, draft.version, draft.purpose, draft.rows) == ("words", None, None, 2)
    work = draft.bind(offer(Embeds()))
    assert dict(work.amounts) == {"requests": 1, "rows": 2, "tokens": 3}
    assert work.action == "embed"
    body = work.run(CONTROLS)
    assert body.actual["tokens"] == 3
    vectors = [one["embedding"] for one in msgspec.json.decode(body.data)["data"]]
    assert np.array(vectors).shape == (2, 2)


def test_embeddings_can_be_asked_for_in_base64():
    body = embeddings(encoding_format="base64").bind(offer(Embeds())).run(CONTROLS)
    text = msgspec.json.decode(body.data)["data"][0]["embedding"]
    assert len(base64.b64decode(text)) == 8


def test_a_version_is_asked_for_with_the_model():
    assert embeddings(model="words@1.0.0").version == "1.0.0"
    assert chat().version == "1.0.0"
    assert chat().model == "words"


def test_an_answer_is_bounded_where_nothing_was_asked_for():
    backend = Chats()
    work = chat().bind(offer(backend))
    assert work.amounts["tokens"] >= ANSWER_TOKENS + len("hi there")
    body = work.run(CONTROLS)
    assert backend.asked.options["max_tokens"] == ANSWER_TOKENS
    assert body.actual["tokens"] == 12


def test_a_smaller_answer_reserves_less():
    small = chat(max_tokens=5).bind(offer(Chats())).amounts["tokens"]
    assert small < chat().bind(offer(Chats())).amounts["tokens"]


def test_a_stream_ends_with_what_it_used():
    work = chat(stream=True).bind(offer(Chats()))
    assert work.streams
    pieces = list(work.stream(CONTROLS))
    assert pieces[-1].actual["tokens"] == 12
    assert b"[DONE]" in pieces[-1].data
    assert all(piece.actual is None for piece in pieces[:-1])


def test_a_stream_without_an_answer_is_the_models_fault():
    with pytest.raises(PeerMisbehaved):
        list(chat(stream=True).bind(offer(Chats(()))).stream(CONTROLS))


def test_a_model_is_asked_for_what_it_does():
    with pytest.raises(FormatError, match="no embeddings"):
        embeddings().bind(offer(Chats()))
    with pytest.raises(FormatError, match="does not chat"):
        chat().bind(offer(Embeds()))


def test_models_are_listed_as_openai_does():
    listed = msgspec.json.decode(models_document(["scan"], owner="lab"))
    assert [one["id"] for one in listed["data"]] == ["scan"]
