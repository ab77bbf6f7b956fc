"""ONNX graphs, run by ONNX Runtime from memory.

A graph holds no code, but its tensors may say "my data is in file such-and-such", and the
runtime would open any path of the reader's disk for them. So a small protobuf walker lists
these places first; only files that came with the model are served, from memory.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from counterseal._extras import require
from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import read
from counterseal.models.names import check_names
from counterseal.models.stream import open_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from counterseal.models.files import Files
    from counterseal.models.formats.seam import LoadOptions

__all__ = ["Onnx"]

MAX_DEPTH: Final = 64
MAX_TEXT_BYTES: Final = 4096
_LENGTH_DELIMITED: Final = 2
_WIRE_BYTES: Final = {0: 0, 1: 8, _LENGTH_DELIMITED: 0, 5: 4}  # 3 and 4, groups, are no ONNX
# onnx.proto: which fields of a message hold messages in which a tensor may be found.
_SCHEMA: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
_ERRORS: Final = (
    *("EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf"),
    *("ModelLoadCanceled", "NoModel", "NoSuchFile", "NotImplemented", "RuntimeException"),
)


class Onnx:
    """`.onnx`, with external data if it stands beside the model."""

    name = "onnx"
    media_type = "application/x-onnx"

    def claims(self, name: str, head: bytes) -> bool:
        del head
        return name.endswith(".onnx")

    def check(self, files: Files, name: str) -> None:
        _external(files, name)

    def load(self, files: Files, name: str, options: LoadOptions) -> Any:
        """Return an `onnxruntime.InferenceSession` on the CPU."""
        del options
        locations = _external(files, name)
        runtime = require("onnxruntime", extra="onnx")
        settings = runtime.SessionOptions()
        settings.log_severity_level = 4  # its errors reach us as exceptions
        # Its threads would otherwise wait for the next run by turning in circles.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        buffers = [bytes(read(files, path)) for path in locations.values()]
        if locations and not hasattr(settings, "add_external_initializers_from_files_in_memory"):
            raise FormatError(
                f'"{name}" has external data, which this ONNX Runtime reads from disk only',
                hint="pip install --upgrade onnxruntime",
            )
        if locations:
            settings.add_external_initializers_from_files_in_memory(
                [*locations], buffers, [len(buffer) for buffer in buffers]
            )
        state = runtime.capi.onnxruntime_pybind11_state
        errors = tuple(getattr(state, error) for error in _ERRORS if hasattr(state, error))
        try:
            return runtime.InferenceSession(
                bytes(read(files, name)),
                settings,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # it would print to stdout and try the same again
            )
        except (*errors, ValueError, RuntimeError) as error:
            raise FormatError(f'ONNX Runtime cannot load "{name}": {error}') from error


def _external(files: Files, name: str) -> dict[str, str]:
    """Return where tensors say their data is, and which of `files` that means."""
    with open_stream(files, name) as stream:
        found = {*_locations(name, stream, files.size(name), "model", 0)}
    present = {*files.names()}
    places = {}
    for location in sorted(found):
        path = posixpath.join(posixpath.dirname(name), location)
        # ONNX Runtime takes "*/_ORT_MEM_ADDR_/*" as "the offset is a memory address".
        if "*" in location:
            raise UnsafeFormat(f'"{name}" points into memory')
        check_names([location])
        if path not in present:
            raise UnsafeFormat(
                f'"{name}" has tensors in the file {location!a}, which is not beside it',
                hint="put the external data beside the model, or save the model in one file",
            )
        places[location] = path
    return places


def _locations(name: str, stream: BinaryIO, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise UnsafeFormat(f'"{name}" is nested more than {MAX_DEPTH} deep')
    entry: dict[int, bytes] = {}
    for field, stop in _fields(name, stream, end):
        if field in _SCHEMA[kind]:
            yield from _locations(name, stream, stop, _SCHEMA[kind][field], depth + 1)
        elif kind == "entry":
            if stop - stream.tell() > MAX_TEXT_BYTES:
                raise FormatError(f'"{name}" has an overlong external data entry')
            entry[field] = stream.read(stop - stream.tell())
    if entry.get(1) == b"location":
        yield entry.get(2, b"").decode("utf-8", "surrogateescape")


def _fields(name: str, stream: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Yield number and end of each length-delimited field, the stream standing at its start."""
    while (at := stream.tell()) < end:
        tag = _varint(name, stream)
        field, wire = tag >> 3, tag & 7
        if not 0 < field < 1 << 29 or wire not in _WIRE_BYTES:
            raise FormatError(f'"{name}" is not ONNX: no such field at byte {at}')
        length = _WIRE_BYTES[wire]
        if wire == 0:
            _varint(name, stream)
        elif wire == _LENGTH_DELIMITED:
            length = _varint(name, stream)
        stop = stream.tell() + length
        if stop > end:
            raise FormatError(f'"{name}" is not ONNX: a field at byte {at} is too long')
        if wire == _LENGTH_DELIMITED:
            yield field, stop
        stream.seek(stop)


def _varint(name: str, stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise FormatError(f'"{name}" is not ONNX: a broken number')
