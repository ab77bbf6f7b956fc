"""What of an answer leaves: the charter's `output`, applied to the model's tensors.

A fidelity knob and not a defense: on digits a copy stolen through full outputs agreed with the
model on .974 of all rows, one stolen through labels only on .963 (docs, extraction). What limits
theft is the query budget.

Rules, in order; each only sees what the one before it left:
1. noise: Laplace of scale permille/1000 on every float. Scores that were probabilities stay
   between 0 and 1. No claim of differential privacy: asking again averages it away unless the
   caller derives the noise from the input, and labels are not noised;
2. top: of a float tensor with 2 or more columns, each row keeps its best so many. The others
   become 0 and the rest is not scaled up, which would tell their sum. Where scores may be
   negative (logits), the others become lower than any that was kept;
3. decimals: every float, half to even.
Labels, integers, booleans and texts pass. Vectors (embeddings) have no classes: `top` does not
apply to them.

Tightened (a rung of the ladder): top 1 and at most 1 decimal; vectors at most 2 decimals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from counterseal.gateway.tensors import numpy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from counterseal.charter.document import Output

__all__ = ["control", "control_vectors", "laplace"]

TIGHT_DECIMALS: Final = 1
TIGHT_VECTOR_DECIMALS: Final = 2
_UNIT: Final = 2.0**-53


def control(
    outputs: Mapping[str, Any],
    terms: Output,
    *,
    tightened: bool,
    noise: Callable[[tuple[int, ...]], Any] | None = None,
) -> dict[str, Any]:
    """`noise` draws Laplace variables of scale 1; needed if the charter asks for noise."""
    top = 1 if tightened else terms.top
    decimals = _least(terms.decimals, TIGHT_DECIMALS if tightened else None)
    return {
        name: _control(array, terms, top=top, decimals=decimals, noise=noise)
        for name, array in outputs.items()
    }


def control_vectors(
    vectors: Any,
    terms: Output,
    *,
    tightened: bool,
    noise: Callable[[tuple[int, ...]], Any] | None = None,
) -> Any:
    """The same for embeddings: noise and decimals, no `top`."""
    decimals = _least(terms.decimals, TIGHT_VECTOR_DECIMALS if tightened else None)
    return _control(vectors, terms, top=None, decimals=decimals, noise=noise)


def laplace(random: Callable[[int], bytes]) -> Callable[[tuple[int, ...]], Any]:
    """Laplace variables of scale 1 from a source of random bytes (`os.urandom`, a keyed
    stream), by inverting the distribution."""

    def draw(shape: tuple[int, ...]) -> Any:
        np = numpy()
        words = np.frombuffer(random(8 * int(np.prod(shape))), "<u8").reshape(shape)
        size = ((words >> np.uint64(11)).astype("f8") + 0.5) * _UNIT  # in (0, 1)
        sign = np.where(words & np.uint64(1), 1.0, -1.0)
        return sign * -np.log(size)

    return draw


def _least(agreed: int | None, tight: int | None) -> int | None:
    present = [one for one in (agreed, tight) if one is not None]
    return min(present) if present else None


def _control(
    array: Any,
    terms: Output,
    *,
    top: int | None,
    decimals: int | None,
    noise: Callable[[tuple[int, ...]], Any] | None,
) -> Any:
    np = numpy()
    if array.dtype.kind != "f":
        return array
    probable = bool(array.size) and float(array.min()) >= 0 and float(array.max()) <= 1
    if terms.noise_permille is not None:
        if noise is None:
            raise ValueError("the charter asks for noise, and there is no source of it")
        loud = array + noise(array.shape) * (terms.noise_permille / 1000)
        array = (np.clip(loud, 0, 1) if probable else loud).astype(array.dtype)
    if top is not None and array.ndim >= 2 and array.shape[-1] > max(top, 1):
        array = _best(array, top, probable=probable)
    return array if decimals is None else array.round(decimals)


def _best(array: Any, top: int, *, probable: bool) -> Any:
    np = numpy()
    order = np.argsort(-array, axis=-1, kind="stable")  # of equals the first, as argmax does
    kept = np.take_along_axis(array, order[..., :top], axis=-1)
    floor = 0.0 if probable else np.minimum(kept[..., -1:] - 1, 0)
    left = np.broadcast_to(np.asarray(floor, array.dtype), array.shape).copy()
    np.put_along_axis(left, order[..., :top], kept, axis=-1)
    return left
