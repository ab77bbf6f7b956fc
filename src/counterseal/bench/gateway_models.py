"""The models that servers are compared with, written without skl2onnx, and what they are asked.

scan.onnx, scan.skops    standardize, then logistic regression: fitted to the breast cancer
                         data of scikit-learn (30 columns)
heavy.onnx               the same input through two layers of 512: work as of a real network
rows.npy                 the rows that it was not fitted to
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FITTED", "bodies", "write_models"]

FITTED: Final = 300
WIDTH: Final = 512
SEED: Final = 0
BODIES: Final = 16


def write_models(folder: Path) -> None:
    np = require("numpy", extra="serve")
    data = require("sklearn.datasets", extra="sklearn")
    linear = require("sklearn.linear_model", extra="sklearn")
    scaling = require("sklearn.preprocessing", extra="sklearn")
    pipeline = require("sklearn.pipeline", extra="sklearn")
    rows, labels = data.load_breast_cancer(return_X_y=True)
    model = pipeline.make_pipeline(
        scaling.StandardScaler(), linear.LogisticRegression(max_iter=500)
    ).fit(rows[:FITTED], labels[:FITTED])
    np.save(folder / "rows.npy", rows[FITTED:].astype("f4"))
    require("skops.io", extra="sklearn").dump(model, folder / "scan.skops")
    scaler, regression = model[0], model[1]
    score, beside = regression.coef_.T, regression.intercept_
    layers = [(np.hstack([-score, score]) / 2, np.concatenate([-beside, beside]) / 2)]
    _write(folder / "scan.onnx", scaler, layers)
    random = np.random.default_rng(SEED)
    sizes = [rows.shape[1], WIDTH, WIDTH, 2]
    deep = [
        (random.normal(scale=one**-0.5, size=(one, other)), np.zeros(other))
        for one, other in pairwise(sizes)
    ]
    _write(folder / "heavy.onnx", scaler, deep)


def _write(path: Path, scaler: Any, layers: list[tuple[Any, Any]]) -> None:
    """Standardize, dense layers with ReLU between them, softmax: `label` and `probabilities`."""
    np = require("numpy", extra="serve")
    onnx = require("onnx", extra="onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    values = {"mean": scaler.mean_, "scale": scaler.scale_}
    nodes = [
        helper.make_node("Sub", ["X", "mean"], ["centered"]),
        helper.make_node("Div", ["centered", "scale"], ["h0"]),
    ]
    for number, (weight, bias) in enumerate(layers):
        values |= {f"w{number}": weight, f"b{number}": bias}
        last = number == len(layers) - 1
        nodes += [
            helper.make_node("MatMul", [f"h{number}", f"w{number}"], [f"m{number}"]),
            helper.make_node(
                "Add", [f"m{number}", f"b{number}"], ["logits" if last else f"a{number}"]
            ),
        ]
        if not last:
            nodes.append(helper.make_node("Relu", [f"a{number}"], [f"h{number + 1}"]))
    nodes += [
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    columns = len(scaler.mean_)
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("X", kinds.FLOAT, [None, columns])],
        [
            helper.make_tensor_value_info("label", kinds.INT64, [None]),
            helper.make_tensor_value_info("probabilities", kinds.FLOAT, [None, 2]),
        ],
        [onnx.numpy_helper.from_array(np.asarray(v, dtype="f4"), k) for k, v in values.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(made.SerializeToString())


def bodies(rows: Any, count: int) -> tuple[str, ...]:
    """Requests of the Open Inference Protocol with `count` rows each, different ones."""
    found = []
    for number in range(BODIES):
        some = rows.take(range(number * count, (number + 1) * count), axis=0, mode="wrap")
        tensor = {
            "name": "X",
            "datatype": "FP32",
            "shape": list(some.shape),
            "data": [round(float(one), 4) for one in some.ravel()],
        }
        found.append(json.dumps({"inputs": [tensor]}))
    return tuple(found)
