"""The other side of the Open Inference Protocol: asking a server. Bytes in, values out.

A server's answer is held against what its metadata said: the same names, datatypes and ranks,
finite numbers. Fields that we do not know are the server's own and are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from counterseal.errors import FormatError
from counterseal.gateway.elements import Described, read_json, read_tensor, to_binary, to_json
from counterseal.gateway.tensors import DATATYPES, Limits, Spec, arrays_for, datatype_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BINARY",
    "Metadata",
    "decode_answer",
    "decode_metadata",
    "encode_question",
    "extensions",
]

BINARY: Final = "binary_tensor_data"
_DEFAULT: Final = Limits(body_bytes=64 << 20)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
Few = msgspec.Meta(max_length=64)


class _Parameters(msgspec.Struct, frozen=True):
    binary_data_size: Size | None = None


class _Output(msgspec.Struct, frozen=True):
    name: Name
    datatype: Annotated[str, msgspec.Meta(max_length=16)]
    shape: Annotated[list[Size], Few]
    data: msgspec.Raw = msgspec.Raw()
    parameters: _Parameters | None = None


class _Answer(msgspec.Struct, frozen=True):
    outputs: Annotated[list[_Output], Few]


class _Spec(msgspec.Struct, frozen=True):
    name: Name
    datatype: Annotated[str, msgspec.Meta(max_length=16)]
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=-1, le=1 << 40)]], Few]


class _Metadata(msgspec.Struct, frozen=True):
    inputs: Annotated[list[_Spec], Few]
    outputs: Annotated[list[_Spec], Few]
    platform: Annotated[str, msgspec.Meta(max_length=64)] = ""


class _Server(msgspec.Struct, frozen=True):
    extensions: Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], Few] = []


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_METADATA: Final = msgspec.json.Decoder(_Metadata)
_SERVER: Final = msgspec.json.Decoder(_Server)


@dataclass(frozen=True, slots=True)
class Metadata:
    platform: str
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]


def extensions(body: bytes) -> tuple[str, ...]:
    """What the server can do beside the protocol (`GET /v2`)."""
    told: _Server = read_json(_SERVER, body)
    return tuple(told.extensions)


def decode_metadata(body: bytes) -> Metadata:
    """What a model takes and gives (`GET /v2/models/{name}`)."""
    told: _Metadata = read_json(_METADATA, body)
    if not told.inputs or not told.outputs:
        raise FormatError("the server does not say what the model takes and gives")
    return Metadata(told.platform, _specs(told.inputs), _specs(told.outputs))


def _specs(told: Sequence[_Spec]) -> tuple[Spec, ...]:
    if unknown := [one.datatype for one in told if one.datatype not in DATATYPES]:
        raise FormatError(f"the model has a tensor of {unknown[0]!a}, which is not known here")
    if len({one.name for one in told}) != len(told):
        raise FormatError("the model has two tensors of one name")
    return tuple(Spec(one.name, one.datatype, tuple(one.shape)) for one in told)


def encode_question(inputs: Mapping[str, Any], *, binary: bool) -> tuple[bytes, int | None]:
    """The body of `POST .../infer`, and the length of its JSON if binary data follows."""
    described = []
    blobs = []
    for name, array in inputs.items():
        entry: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of(array),
            "shape": list(array.shape),
        }
        if binary:
            blobs.append(to_binary(array))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = to_json(array, name)
        described.append(entry)
    question = {"inputs": described, "parameters": {"binary_data_output": binary}}
    if not binary:
        del question["parameters"]
        return msgspec.json.encode(question), None
    head = msgspec.json.encode(question)
    return b"".join((head, *blobs)), len(head)


def decode_answer(
    body: bytes,
    specs: Sequence[Spec],
    *,
    header_length: int | None = None,
    limits: Limits = _DEFAULT,
) -> dict[str, Any]:
    """The outputs by name. Raises FormatError unless they are all that `specs` says."""
    if len(body) > limits.body_bytes:
        raise FormatError(f"the answer is longer than {limits.body_bytes} bytes")
    head = body
    if header_length is not None:
        if not 0 < header_length <= len(body):
            raise FormatError("the header length of the answer does not fit it")
        head = body[:header_length]
    answer: _Answer = read_json(_ANSWER, head)
    binary = memoryview(body)[len(head) :]
    tensors = []
    for number, one in enumerate(answer.outputs):
        size = one.parameters.binary_data_size if one.parameters else None
        tensor, binary = read_tensor(
            Described(one.name, one.datatype, tuple(one.shape), bytes(one.data), size),
            binary,
            path=f"outputs[{number}]",
            limits=limits,
        )
        tensors.append(tensor)
    if len(binary):
        raise FormatError("bytes after the answer belong to no output")
    return arrays_for(tensors, specs)
