"""What a request asks the model for, between the wire and the backend.

A `Draft` is a request as it was decoded: the model is not chosen yet. `bind` holds it against
the version that was chosen and makes it `Work`: checked, countable, ready to run. Nothing here
knows partner, session or charter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from counterseal.errors import FormatError
from counterseal.gateway import oip, outputs
from counterseal.gateway.tensors import arrays_for, numpy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from counterseal.charter.document import Action, Output, Unit
    from counterseal.gateway.oip import InferRequest, Wanted
    from counterseal.gateway.registry import Offer
    from counterseal.gateway.tensors import Limits

__all__ = ["Body", "Controls", "Draft", "Work", "read_tensors"]


@dataclass(frozen=True, slots=True)
class Body:
    """An answer for the wire. `actual`: what it used, if that differs from what was reserved."""

    data: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    actual: Mapping[Unit, int] | None = None


@dataclass(frozen=True, slots=True)
class Controls:
    """What leaves of an answer (the charter's), tightened by the ladder, with fresh noise."""

    terms: Output
    tightened: bool
    noise: Callable[[Any], Any]


class Work(Protocol):
    """`amounts` are reserved before it runs. `streams`: it was asked for piece by piece."""

    action: Action
    amounts: Mapping[Unit, int]
    streams: bool

    @property
    def rows(self) -> Any:
        """What detectors look at, an array with one row for each; None for texts."""
        ...

    def run(self, controls: Controls) -> Body:
        """Ask the model, control what leaves, encode. Blocks; any thread."""
        ...

    def stream(self, controls: Controls) -> Iterator[Body]:
        """The same, piece by piece."""
        ...

    def agrees(self, shadow: Offer) -> bool | None:
        """Whether another version says the same to this request, after `run`; None if nobody
        can tell."""
        ...


class Draft(Protocol):
    """`model` and `version` as the request names them, if its body does."""

    @property
    def model(self) -> str | None: ...

    @property
    def version(self) -> str | None: ...

    @property
    def purpose(self) -> str | None: ...

    @property
    def rows(self) -> int: ...

    def bind(self, offer: Offer) -> Work: ...


_CONTENT_JSON: Final = ((b"content-type", b"application/json"),)
_CONTENT_BINARY: Final = b"application/octet-stream"


@dataclass(frozen=True, slots=True)
class _TensorDraft:
    request: InferRequest
    rows: int
    model: str | None = None
    version: str | None = None

    @property
    def purpose(self) -> str | None:
        return self.request.purpose

    def bind(self, offer: Offer) -> Work:
        if "tensors" not in offer.takes:
            raise FormatError(f"{offer.model} takes texts and no tensors", hint="POST /v1/...")
        arrays = arrays_for(self.request.inputs, offer.backend.inputs)
        wanted = self.request.wanted(offer.backend.outputs)
        amounts: dict[Unit, int] = {"requests": 1, "rows": self.rows, "tokens": 0}
        return _TensorWork(self.request, wanted, arrays, offer, amounts)


@dataclass(slots=True)
class _TensorWork:
    request: InferRequest
    wanted: tuple[Wanted, ...]
    arrays: dict[str, Any]
    offer: Offer
    amounts: Mapping[Unit, int]
    action: Action = "predict"
    streams: bool = False
    answered: dict[str, Any] | None = None  # before anything was left out

    @property
    def rows(self) -> Any:
        # Of the model's first input, not of the request's: its order is the partner's to choose.
        return self.arrays[self.offer.backend.inputs[0].name]

    def run(self, controls: Controls) -> Body:
        self.answered = answered = self._ask()
        left = outputs.control(
            answered, controls.terms, tightened=controls.tightened, noise=controls.noise
        )
        data, head = oip.encode(
            left,
            request=self.request,
            wanted=self.wanted,
            model=self.offer.model,
            version=self.offer.number,
        )
        if head is None:
            return Body(data, _CONTENT_JSON)
        length = (b"inference-header-content-length", b"%d" % head)
        return Body(data, ((b"content-type", _CONTENT_BINARY), length))

    def _ask(self) -> dict[str, Any]:
        backend = self.offer.backend
        answered: dict[str, Any] = (
            backend.predict_some(self.arrays, [one.name for one in self.wanted])
            if self.offer.partial
            else backend.predict(self.arrays)
        )
        return answered

    def stream(self, controls: Controls) -> Iterator[Body]:
        yield self.run(controls)

    def agrees(self, shadow: Offer) -> bool | None:
        if self.answered is None or "tensors" not in shadow.takes:
            return None
        other = shadow.backend.predict(arrays_for(self.request.inputs, shadow.backend.inputs))
        return all(
            name in other and _same(array, other[name]) for name, array in self.answered.items()
        )


def _same(one: Any, other: Any) -> bool:
    """Of scores: the same best class. Of numbers: close. Of anything else: equal."""
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    if one.ndim >= 2 and one.shape[-1] > 1:
        return bool((one.argmax(-1) == other.argmax(-1)).all())
    return bool(numpy().allclose(one, other, rtol=1e-3, atol=1e-6))


def read_tensors(body: bytes, *, header_length: int | None, limits: Limits) -> Draft:
    request = oip.decode(body, header_length=header_length, limits=limits)
    # The largest: whoever hides rows in a second input pays for them, too.
    return _TensorDraft(request, max(tensor.shape[0] for tensor in request.inputs))
