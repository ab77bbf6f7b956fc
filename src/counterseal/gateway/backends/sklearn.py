"""scikit-learn estimators in this process: one input `X`, rows of features.

A classifier gives `label` and, if it can, `probabilities`; a regressor gives `value`; whatever
else predicts (clusters, outliers) gives `label`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError
from counterseal.gateway.tensors import Spec, datatype_of, numpy

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["SklearnPredictor"]

# What estimators were seen to raise on numbers that they do not take.
_BROKEN: Final = (ArithmeticError, LookupError, TypeError, ValueError)


class SklearnPredictor:
    """A fitted estimator behind the seam."""

    platform = "sklearn"

    def __init__(self, estimator: Any) -> None:
        features = getattr(estimator, "n_features_in_", None)
        if not isinstance(features, int) or not hasattr(estimator, "predict"):
            raise FormatError(
                f"{type(estimator).__name__} is no fitted estimator that predicts from rows",
                hint="export the whole pipeline to ONNX",
            )
        self._estimator = estimator
        self.inputs = (Spec("X", "FP64", (-1, features), also=("FP32",)),)
        base = require("sklearn.base", extra="sklearn")
        self._first = "value" if base.is_regressor(estimator) else "label"
        tried = self._answer(numpy().zeros((2, features)))
        self.outputs = tuple(
            Spec(name, datatype_of(array), (-1, *array.shape[1:])) for name, array in tried.items()
        )

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self.predict_some(inputs, ())

    def predict_some(self, inputs: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
        """None named: all. Labels and probabilities are two runs of an estimator."""
        try:
            return self._answer(inputs["X"], wanted)
        except _BROKEN as error:
            raise FormatError("the model cannot answer this input") from error

    def _answer(self, rows: Any, wanted: Collection[str] = ()) -> dict[str, Any]:
        answer = {}
        if not wanted or self._first in wanted:
            answer[self._first] = _plain(self._estimator.predict(rows))
        scored = not wanted or "probabilities" in wanted
        if scored and hasattr(self._estimator, "predict_proba"):
            scores = self._estimator.predict_proba(rows)
            if not isinstance(scores, list):  # several targets at once have one array each
                answer["probabilities"] = scores.astype("f8", copy=False)
        return answer


def _plain(array: Any) -> Any:
    """Labels as INT64, BOOL, FP64 or BYTES, whatever precision the estimator happens to use."""
    np = numpy()
    array = np.asarray(array)
    if array.dtype.kind in "iu":
        return array.astype("i8", copy=False)
    if array.dtype.kind == "f":
        return array.astype("f8", copy=False)
    if array.dtype.kind in "OSU":
        texts = np.empty(array.shape, dtype=object)
        texts.ravel()[:] = [str(one).encode() for one in array.ravel().tolist()]
        return texts
    return array
