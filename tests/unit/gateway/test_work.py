"""What a request asks the model for, held against the version that was chosen."""

import msgspec
import pytest
from charters import CHARTER, changed

from counterseal.errors import FormatError
from counterseal.gateway.registry import Offer
from counterseal.gateway.tensors import Limits, Spec
from counterseal.gateway.work import Controls, read_tensors

np = pytest.importorskip("numpy")

OUTPUT = changed(CHARTER.output, top=None, decimals=1)


class Doubles:
    """A model that gives each number twice, as scores of two classes."""

    platform = "test"
    inputs = (Spec("X", "FP32", (-1, 2)),)
    outputs = (Spec("scores", "FP32", (-1, 2)),)

    def __init__(self, factor=2):
        self.factor = factor

    def predict(self, inputs):
        return {"scores": inputs["X"] * np.float32(self.factor)}


class Texts:
    platform = "test"

    def embed(self, texts):
        return np.zeros((len(texts), 2)), 1

    def count_tokens(self, texts):
        return 1


def offer(backend):
    return Offer.of("scan", (1, 0, 0), "d1" * 32, backend)


def draft(rows=((0.5, 0.25),), **more):
    asked = {
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [len(rows), 2], "data": rows}],
        **more,
    }
    return read_tensors(msgspec.json.encode(asked), header_length=None, limits=Limits())


def controls(*, tightened=False):
    return Controls(OUTPUT, tightened, lambda array: array)


def test_a_request_is_counted_before_it_runs():
    found = draft(((1, 2), (3, 4)))
    assert found.rows == 2
    work = found.bind(offer(Doubles()))
    assert dict(work.amounts) == {"requests": 1, "rows": 2, "tokens": 0}
    assert work.action == "predict"
    assert not work.streams
    assert work.rows.shape == (2, 2)


def test_rows_are_those_of_the_largest_input():
    asked = {
        "inputs": [
            {"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
            {"name": "Y", "datatype": "FP32", "shape": [9, 1], "data": [0] * 9},
        ]
    }
    read = read_tensors(msgspec.json.encode(asked), header_length=None, limits=Limits())
    assert read.rows == 9


def test_what_leaves_is_controlled_and_encoded():
    body = draft().bind(offer(Doubles())).run(controls())
    answer = msgspec.json.decode(body.data)
    assert (answer["model_name"], answer["model_version"]) == ("scan", "1.0.0")
    assert answer["outputs"][0]["data"] == [1.0, 0.5]
    assert dict(body.headers)[b"content-type"] == b"application/json"
    exact = draft(((0.333, 0.111),)).bind(offer(Doubles())).run(controls())
    assert msgspec.json.decode(exact.data)["outputs"][0]["data"] == [0.7, 0.2]


def test_binary_answers_say_how_long_their_json_is():
    work = draft(parameters={"binary_data_output": True}).bind(offer(Doubles()))
    body = work.run(controls())
    headers = dict(body.headers)
    assert headers[b"content-type"] == b"application/octet-stream"
    length = int(headers[b"inference-header-content-length"])
    assert len(body.data) - length == 8


def test_a_model_for_texts_takes_no_tensors():
    with pytest.raises(FormatError, match="takes texts"):
        draft().bind(offer(Texts()))


def test_an_output_that_the_model_has_not_is_refused_before_it_runs():
    with pytest.raises(FormatError, match="outputs"):
        draft(outputs=[{"name": "weights"}]).bind(offer(Doubles()))


@pytest.mark.parametrize(("factor", "same"), [(3, True), (-1, False)])
def test_a_shadow_is_compared_by_its_best_class(factor, same):
    work = draft().bind(offer(Doubles()))
    assert work.agrees(offer(Doubles())) is None  # it has not run yet
    work.run(controls())
    assert work.agrees(offer(Doubles(factor))) is same
    assert work.agrees(offer(Texts())) is None


class Two:
    """A model with two inputs; its reference rows are of the first."""

    platform = "test"
    inputs = (Spec("rows", "FP32", (-1, 2)), Spec("weight", "FP32", (-1, 1)))
    outputs = (Spec("scores", "FP32", (-1, 2)),)

    def predict(self, inputs):
        return {"scores": inputs["rows"] * inputs["weight"]}


@pytest.mark.parametrize("turned", [False, True])
def test_detectors_look_at_the_models_first_input_whatever_comes_first(turned):
    inputs = [
        {"name": "rows", "datatype": "FP32", "shape": [1, 2], "data": [5, 6]},
        {"name": "weight", "datatype": "FP32", "shape": [1, 1], "data": [2]},
    ]
    asked = msgspec.json.encode({"inputs": inputs[::-1] if turned else inputs})
    work = read_tensors(asked, header_length=None, limits=Limits()).bind(offer(Two()))
    assert work.rows.tolist() == [[5, 6]]
