"""The Open Inference Protocol v2 over HTTP: bytes in, values out, and back. No sockets.

Rules, in order:
1. the body is within the limit; with `Inference-Header-Content-Length` the first so many bytes
   are the JSON, and all others belong to inputs that say `binary_data_size`;
2. the JSON has only fields and parameters that are listed here. The protocol leaves parameters
   to the server; we refuse unknown ones by name, for what a client asked for and nobody does
   must not look done. Ours is `purpose`, at the top;
3. shapes come first: an element count is held against the limits and against the bytes that are
   there before anything is allocated;
4. `data` is flat in row-major order, or nested exactly as the shape says. JSON types are what
   the datatype means: no strings for numbers, no fractions or booleans for integers;
5. BYTES are texts in JSON, and any bytes with a length of 4 bytes before each in binary.

The rows of a request are the first dimension of its first input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from counterseal.errors import FormatError
from counterseal.gateway.elements import Described, read_json, read_tensor, to_binary, to_json
from counterseal.gateway.tensors import Limits, datatype_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from counterseal.gateway.tensors import Spec, Tensor

__all__ = [
    "InferRequest",
    "Wanted",
    "decode",
    "encode",
    "model_metadata",
    "model_ready",
    "server_live",
    "server_metadata",
    "server_ready",
]

_DEFAULT: Final = Limits()

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _InputParameters(_Strict, frozen=True):
    binary_data_size: Size | None = None


class _Input(_Strict, frozen=True):
    name: Name
    datatype: Annotated[str, msgspec.Meta(max_length=16)]
    shape: Annotated[list[Size], msgspec.Meta(max_length=64)]
    data: msgspec.Raw = msgspec.Raw()
    parameters: _InputParameters | None = None


class _OutputParameters(_Strict, frozen=True):
    binary_data: bool | None = None


class _Output(_Strict, frozen=True):
    name: Name
    parameters: _OutputParameters | None = None


class _Parameters(_Strict, frozen=True):
    binary_data_output: bool = False
    purpose: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class _Request(_Strict, frozen=True):
    inputs: list[_Input]
    id: Annotated[str, msgspec.Meta(max_length=256)] = ""
    parameters: _Parameters = _Parameters()
    outputs: list[_Output] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that the request names. `binary`: behind the JSON and not in it."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """No `outputs`: all of them, `binary` or not."""

    id: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...]
    binary: bool
    purpose: str | None

    @property
    def rows(self) -> int:
        return self.inputs[0].shape[0]

    def wanted(self, specs: Sequence[Spec]) -> tuple[Wanted, ...]:
        """The outputs to answer with. Raises FormatError for one that the model has not:
        ask before the model runs."""
        names = [spec.name for spec in specs]
        for number, output in enumerate(self.outputs):
            if output.name not in names:
                known = ", ".join(f'"{name}"' for name in names)
                raise FormatError(
                    f"`outputs[{number}].name` is {output.name[:64]!a}; the model gives {known}"
                )
        return self.outputs or tuple(Wanted(name, self.binary) for name in names)


_REQUEST: Final = msgspec.json.Decoder(_Request)


def decode(
    body: bytes, *, header_length: int | None = None, limits: Limits = _DEFAULT
) -> InferRequest:
    """Read a request. `header_length`: of `Inference-Header-Content-Length`, if it came."""
    if len(body) > limits.body_bytes:
        raise FormatError(f"the request is longer than {limits.body_bytes} bytes")
    head = body
    if header_length is not None:
        if not 0 < header_length <= len(body):
            raise FormatError("`Inference-Header-Content-Length` does not fit the body")
        head = body[:header_length]
    asked = read_json(_REQUEST, head)
    if not 1 <= len(asked.inputs) <= limits.tensors:
        raise FormatError(f"`inputs` has {len(asked.inputs)} entries, not 1 to {limits.tensors}")
    binary = memoryview(body)[len(head) :]
    tensors = []
    for number, one in enumerate(asked.inputs):
        size = one.parameters.binary_data_size if one.parameters else None
        tensor, binary = read_tensor(
            Described(one.name, one.datatype, tuple(one.shape), bytes(one.data), size),
            binary,
            path=f"inputs[{number}]",
            limits=limits,
        )
        tensors.append(tensor)
    if len(binary):
        raise FormatError(f"{len(binary)} bytes after the inputs belong to none of them")
    _distinct("inputs", [tensor.name for tensor in tensors])
    return InferRequest(
        id=asked.id,
        inputs=tuple(tensors),
        outputs=_wanted(asked, limits) if asked.outputs else (),
        binary=asked.parameters.binary_data_output,
        purpose=asked.parameters.purpose,
    )


def _wanted(asked: _Request, limits: Limits) -> tuple[Wanted, ...]:
    outputs = asked.outputs or []
    if len(outputs) > limits.tensors:
        raise FormatError(f"`outputs` has more than {limits.tensors} entries")
    _distinct("outputs", [output.name for output in outputs])
    default = asked.parameters.binary_data_output
    return tuple(
        Wanted(
            output.name,
            default
            if output.parameters is None or output.parameters.binary_data is None
            else output.parameters.binary_data,
        )
        for output in outputs
    )


def _distinct(where: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise FormatError(f"`{where}` has a name twice")


def encode(
    outputs: Mapping[str, Any],
    *,
    request: InferRequest,
    wanted: Sequence[Wanted],
    model: str,
    version: str,
) -> tuple[bytes, int | None]:
    """The answer, and the length of its JSON if binary data follows (for the header)."""
    described = []
    blobs = []
    for one in wanted:
        array = outputs[one.name]
        entry: dict[str, Any] = {
            "name": one.name,
            "datatype": datatype_of(array),
            "shape": list(array.shape),
        }
        if one.binary:
            blobs.append(to_binary(array))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = to_json(array, one.name)
        described.append(entry)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request.id:
        answer["id"] = request.id
    head = msgspec.json.encode(answer)
    if not blobs:
        return head, None
    return b"".join((head, *blobs)), len(head)


def server_metadata(*, name: str, version: str) -> bytes:
    """`GET /v2`."""
    return msgspec.json.encode(
        {"name": name, "version": version, "extensions": ["binary_tensor_data"]}
    )


def model_metadata(
    *,
    name: str,
    versions: Sequence[str],
    platform: str,
    inputs: Sequence[Spec],
    outputs: Sequence[Spec],
) -> bytes:
    """`GET /v2/models/{name}`."""
    return msgspec.json.encode(
        {
            "name": name,
            "versions": list(versions),
            "platform": platform,
            "inputs": [_described(spec) for spec in inputs],
            "outputs": [_described(spec) for spec in outputs],
        }
    )


def model_ready(*, name: str, ready: bool) -> bytes:
    """`GET /v2/models/{name}/ready`; clients look at the status, 200 or 503."""
    return msgspec.json.encode({"name": name, "ready": ready})


def server_live(*, live: bool) -> bytes:
    """`GET /v2/health/live`."""
    return msgspec.json.encode({"live": live})


def server_ready(*, ready: bool) -> bytes:
    """`GET /v2/health/ready`."""
    return msgspec.json.encode({"ready": ready})


def _described(spec: Spec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
