"""Parsers of what partners and upstream servers send to a gateway (see `targets`)."""

from __future__ import annotations

import json
from functools import cache

import numpy as np

from counterseal.charter.document import Detector
from counterseal.gateway import oip, oip_client, openai_api
from counterseal.gateway.backends.server import Address
from counterseal.gateway.ladder import Standing
from counterseal.gateway.sentinel import Reference, Sentinel
from counterseal.gateway.tensors import Spec, arrays_for

SPECS = (Spec("X", "FP32", (-1, 3)),)
DETECTORS = (
    Detector(name="novelty", threshold_permille=8000),
    Detector(name="similarity", threshold_permille=8000),
)


def oip_json(data):
    request = oip.decode(data)
    assert request.rows >= 1
    for tensor in request.inputs:
        assert tensor.array.shape == tensor.shape
    arrays_for(request.inputs, SPECS)


def oip_binary(data):
    """The first two bytes say where the JSON ends."""
    request = oip.decode(data[2:], header_length=int.from_bytes(data[:2], "big"))
    assert all(tensor.array.shape == tensor.shape for tensor in request.inputs)


def oip_answer(data):
    oip_client.decode_answer(data, SPECS)


def oip_metadata(data):
    oip_client.decode_metadata(data)


def openai_embeddings(data):
    asked = openai_api.decode_embeddings(data)
    assert all(asked.texts)


def openai_chat(data):
    asked = openai_api.decode_chat(data)
    assert set(asked.prompt.options) <= set(openai_api.FORWARDED)


def detector_reference(data):
    made = Reference.decode(data)
    assert made.encode() == data


def detector_state(data):
    Sentinel.decode(data, reference=reference(), detectors=DETECTORS).observe(np.ones((1, 3)))


def ladder_standing(data):
    assert Standing.decode(data).encode() == data


def upstream_address(data):
    Address.parse(data.decode("utf-8", "surrogateescape"))


TARGETS = {
    f.__name__: f
    for f in (
        oip_json, oip_binary, oip_answer, oip_metadata, openai_embeddings, openai_chat,
        detector_reference, detector_state, ladder_standing, upstream_address,
    )
}  # fmt: skip


@cache
def reference():
    return Reference.from_rows(np.random.default_rng(0).random((90, 3)), bytes(32))


@cache
def seeds():
    """Honest inputs for each target."""
    entry = {"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [[1, 2.5, 3]]}
    text = {"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    request = {"id": "7", "inputs": [text], "parameters": {"purpose": "p"}, "outputs": []}
    binary = {
        "name": "X",
        "datatype": "FP32",
        "shape": [1, 3],
        "parameters": {"binary_data_size": 12},
    }
    words = {"name": "X", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 9}}
    joined = [
        _joined({"inputs": [binary]}, np.ones(3, "f4").tobytes()),
        _joined({"inputs": [words]}, b"\1\0\0\0a\0\0\0\0"),
    ]
    spec = {"name": "X", "datatype": "FP32", "shape": [-1, 3]}
    sentinel = Sentinel(reference(), DETECTORS)
    sentinel.observe(np.random.default_rng(1).random((5, 3)))
    message = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    chat = {
        "model": "m", "messages": [message], "temperature": 0.5, "stop": ["a"], "stream": True,
        "stream_options": {"include_usage": True}, "metadata": {"purpose": "p"}, "max_tokens": 5,
    }  # fmt: skip
    return {
        "oip_json": [_json({"inputs": [entry]}), _json(request)],
        "oip_binary": joined,
        "oip_answer": [_json({"model_name": "m", "outputs": [entry]})],
        "oip_metadata": [_json({"name": "m", "inputs": [spec], "outputs": [spec]})],
        "openai_embeddings": [
            _json({"model": "m", "input": "a"}),
            _json({"model": "m", "input": ["a", "b"], "encoding_format": "base64"}),
        ],
        "openai_chat": [_json(chat)],
        "detector_reference": [reference().encode()],
        "detector_state": [sentinel.encode()],
        "ladder_standing": [Standing().encode(), Standing(("flag", "suspend"), 95).encode()],
        "upstream_address": [b"oip+https://host:8000/a/m", b"openai+http://127.0.0.1/v1#m"],
    }


def _json(value):
    return json.dumps(value).encode()


def _joined(head, tail):
    head = _json(head)
    return len(head).to_bytes(2, "big") + head + tail
