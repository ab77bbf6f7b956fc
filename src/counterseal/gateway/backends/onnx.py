"""ONNX models in this process, run by ONNX Runtime.

Classifiers that skl2onnx made give their probabilities as a list of tables, class to number
(`ZipMap`); no tensor protocol can carry that, so it becomes one array, classes in their order.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError
from counterseal.gateway.tensors import Spec, numpy

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OnnxPredictor"]

_DATATYPES: Final = {
    "bool": "BOOL",
    "double": "FP64",
    "float": "FP32",
    "float16": "FP16",
    "string": "BYTES",
} | {
    f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_TABLES: Final = {
    f"seq(map({key},tensor({value})))": datatype
    for key in ("int64", "string")
    for value, datatype in (("float", "FP32"), ("double", "FP64"))
}


class OnnxPredictor:
    """An `onnxruntime.InferenceSession` behind the seam."""

    platform = "onnx"

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(_spec(one) for one in session.get_inputs())
        self.outputs = tuple(_spec(one) for one in session.get_outputs())
        self._names = [spec.name for spec in self.outputs]
        self._texts = [spec.name for spec in self.inputs if spec.datatype == "BYTES"]

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if self._texts:
            inputs = {**inputs, **{name: _texts(name, inputs[name]) for name in self._texts}}
        try:
            answers = self._session.run(self._names, inputs)
        except _errors() as error:
            raise FormatError("the model cannot answer this input") from error
        return dict(zip(self._names, map(_array, answers), strict=True))


def _spec(node: Any) -> Spec:
    if node.type in _TABLES:
        return Spec(node.name, _TABLES[node.type], (-1, -1))
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _DATATYPES:
        raise FormatError(
            f'"{node.name}" of the model is a {node.type}, which no tensor can carry',
            hint="export the model with tensors only, e.g. skl2onnx with zipmap=False",
        )
    # An axis without a fixed length has a name, or nothing.
    shape = tuple(n if isinstance(n, int) and n > 0 else -1 for n in node.shape)
    return Spec(node.name, _DATATYPES[kind], shape)


def _texts(name: str, array: Any) -> Any:
    try:
        flat = [one.decode() for one in array.ravel().tolist()]
    except UnicodeDecodeError:
        raise FormatError(f'the input "{name}" is not UTF-8') from None
    np = numpy()
    texts = np.empty(len(flat), dtype=object)
    texts[:] = flat
    return texts.reshape(array.shape)


def _array(answer: Any) -> Any:
    if not isinstance(answer, list):
        return answer
    np = numpy()
    return np.array([[*row.values()] for row in answer], dtype="f4")


@cache
def _errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises has no common class; all of it stands in one module."""
    state = require("onnxruntime", extra="onnx").capi.onnxruntime_pybind11_state
    found = [
        one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception)
    ]
    return (*found, RuntimeError, ValueError)
