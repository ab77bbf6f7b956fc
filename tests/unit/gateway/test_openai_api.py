import base64
import json

import pytest

from counterseal.errors import FormatError
from counterseal.gateway import openai_api as api
from counterseal.gateway.backends.seam import Completion, Piece
from counterseal.gateway.tensors import Limits

np = pytest.importorskip("numpy")
HELLO = {"role": "user", "content": "hello"}


def chat(**fields):
    return api.decode_chat(json.dumps({"model": "m", "messages": [HELLO]} | fields).encode())


def embeddings(limits=Limits(), **fields):  # noqa: B008
    body = {"model": "m", "input": "hello"} | fields
    return api.decode_embeddings(json.dumps(body).encode(), limits=limits)


def test_one_text_or_many_are_read():
    assert embeddings() == api.EmbeddingsRequest("m", ("hello",), base64=False)
    asked = embeddings(input=["a", "b"], encoding_format="base64", user="u", dimensions=None)
    assert (asked.texts, asked.base64, asked.rows) == (("a", "b"), True, 2)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"input": [1, 2, 3]}, "has tokens; a text"),
        ({"input": [[1, 2], [3]]}, "has tokens; a text"),
        ({"input": ["a", 2]}, "has tokens"),
        ({"input": []}, "0 texts, not 1 to 2048"),
        ({"input": ["a"] * 2049}, "2049 texts"),
        ({"input": ""}, r"`input\[0\]` is empty"),
        ({"input": ["a", ""]}, r"`input\[1\]` is empty"),
        ({"input": None}, "got `null`"),
        ({"input": {"text": "a"}}, "got `object`"),
        ({"dimensions": 64}, "`dimensions` is not offered"),
        ({"encoding_format": "hex"}, "hex"),
        ({"truncate": True}, "unknown field `truncate`"),
        ({"model": ""}, "length >= 1"),
        ({"input": "ü" * 6, "limits": Limits(text_bytes=11)}, "more than 11 bytes"),
        ({"limits": Limits(body_bytes=10)}, "longer than 10 bytes"),
    ],
)
def test_what_embeddings_cannot_be_asked_is_refused(fields, says):
    with pytest.raises(FormatError, match=says):
        embeddings(**fields)


def test_vectors_are_written_as_numbers_or_as_bytes():
    vectors = np.array([[0.1, -2], [3, 1 / 3]], "f4")
    for as_base64 in (False, True):
        told = json.loads(api.encode_embeddings(vectors, model="m", tokens=7, base64=as_base64))
        assert told["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
        assert [row["index"] for row in told["data"]] == [0, 1]
        rows = [row["embedding"] for row in told["data"]]
        if as_base64:
            rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
        assert (np.array(rows, "f4") == vectors).all()
    assert rows[0].dtype == np.float32


def test_a_chat_is_read_and_only_the_allow_list_is_forwarded():
    asked = chat(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
        temperature=0, max_tokens=9, stop=["\n"], seed=7, top_p=1, user="mallory", n=1,
        metadata={"purpose": "triage", "ward": "7"}, stream=False, presence_penalty=None,
        response_format={"type": "json_object"},
    )  # fmt: skip
    assert asked.prompt.messages == (("system", "be brief"), ("user", "ab"))
    assert asked.prompt.options == {
        "temperature": 0,
        "max_tokens": 9,
        "stop": ["\n"],
        "seed": 7,
        "top_p": 1,
        "response_format": {"type": "json_object"},
    }
    assert set(asked.prompt.options) <= set(api.FORWARDED)
    assert (asked.purpose, asked.stream, asked.usage, asked.max_tokens) == (
        "triage",
        False,
        False,
        9,
    )
    assert chat().purpose is None
    assert chat().max_tokens is None
    assert chat(max_completion_tokens=5).max_tokens == 5


def test_a_stream_may_ask_for_usage():
    assert chat(stream=True).stream
    assert chat(stream=True, stream_options={"include_usage": True}).usage
    with pytest.raises(FormatError, match="for streams"):
        chat(stream_options={"include_usage": True})


def test_a_longer_body_than_allowed_is_not_even_parsed():
    with pytest.raises(FormatError, match="longer than 9 bytes"):
        api.decode_chat(b"{" * 10, limits=Limits(body_bytes=9))
    small = Limits(text_bytes=4)
    with pytest.raises(FormatError, match="more than 4 bytes"):
        api.decode_chat(json.dumps({"model": "m", "messages": [HELLO]}).encode(), limits=small)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tools": []}, "unknown field `tools`"),
        ({"logprobs": True}, "unknown field `logprobs`"),
        ({"top_logprobs": 5}, "unknown field `top_logprobs`"),
        ({"logit_bias": {}}, "unknown field `logit_bias`"),
        ({"store": True}, "unknown field `store`"),
        ({"n": 2}, "2"),
        ({"messages": []}, "length >= 1"),
        ({"messages": [HELLO] * 1025}, "length <= 1024"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool"),
        ({"messages": [{"role": "user", "content": None}]}, "got `null`"),
        ({"messages": [{"role": "user", "content": ""}]}, r"`messages\[0\].content` is empty"),
        ({"messages": [{"role": "user", "content": []}]}, "is empty"),
        ({"messages": [HELLO | {"tool_calls": []}]}, "unknown field `tool_calls`"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "image_url"),
        ({"temperature": 3}, "<= 2"),
        ({"temperature": "0"}, "got `str`"),
        ({"max_tokens": 0}, ">= 1"),
        ({"max_tokens": 5, "max_completion_tokens": 9}, "send one"),
        ({"metadata": {"purpose": 7}}, "Expected `str`"),
        ({"metadata": {str(n): "" for n in range(17)}}, "length <= 16"),
        ({"response_format": {"type": "json_schema"}}, "json_schema"),
    ],
)  # fmt: skip
def test_what_a_chat_cannot_be_asked_is_refused_by_name(fields, says):
    with pytest.raises(FormatError, match=says):
        chat(**fields)


def test_answers_are_in_the_form_of_the_api():
    told = json.loads(
        api.encode_completion(
            Completion("hi", 3, 2, "stop"), model="m", identifier="c-1", created=5
        )
    )
    assert told["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ]
    assert told["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    about = {"model": "m", "identifier": "c-1", "created": 5}
    events = [
        api.encode_piece(Piece("h"), first=True, **about),
        api.encode_piece(Piece("i\n\ndata: x"), **about),
        api.encode_piece(Piece("", "stop"), **about),
        api.encode_usage(prompt_tokens=3, completion_tokens=2, **about),
    ]
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in events)
    assert all(event.count(b"\n") == 2 for event in events), "no text can end an event"
    said = [json.loads(event[6:]) for event in events]
    deltas = [chunk["choices"][0]["delta"] for chunk in said[:3]]
    assert deltas == [{"role": "assistant", "content": "h"}, {"content": "i\n\ndata: x"}, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in said[:3]] == [None, None, "stop"]
    assert said[3]["choices"] == []
    assert said[3]["usage"]["total_tokens"] == 5
    models = json.loads(api.encode_models(["m", "n"], owner="lab"))
    assert [model["id"] for model in models["data"]] == ["m", "n"]
    error = json.loads(api.encode_error("no", kind="insufficient_quota", code="charter_quota"))
    assert error == {
        "error": {
            "message": "no",
            "type": "insufficient_quota",
            "param": None,
            "code": "charter_quota",
        }
    }


def test_the_openai_client_reads_what_is_written():
    types = pytest.importorskip("openai.types")
    from openai.types import chat as chats

    vectors = np.ones((2, 3), "f4")
    data = api.encode_embeddings(vectors, model="m", tokens=7, base64=False)
    assert types.CreateEmbeddingResponse.model_validate_json(data).data[1].embedding == [1, 1, 1]
    about = {"model": "m", "identifier": "c-1", "created": 5}
    data = api.encode_completion(Completion("hi", 3, 2, "stop"), **about)
    assert chats.ChatCompletion.model_validate_json(data).choices[0].message.content == "hi"
    data = api.encode_piece(Piece("h"), first=True, **about)
    assert chats.ChatCompletionChunk.model_validate_json(data[6:]).choices[0].delta.content == "h"
    data = api.encode_models(["m"], owner="lab")
    assert types.Model.model_validate(json.loads(data)["data"][0]).owned_by == "lab"
