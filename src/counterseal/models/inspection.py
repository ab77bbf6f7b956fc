"""What is in each file, decided by its content as well as its name, before anyone loads it.

Refused is whatever could run code in the hands of the loader that its name or content
calls for: pickles in every disguise, Lambda layers, program archives. Python sources and
shell scripts are allowed: nothing of ours executes them, and a person can read them.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from counterseal.errors import UnsafeFormat
from counterseal.models import archives, pickles
from counterseal.models.files import read
from counterseal.models.formats import HEAD_BYTES, format_of
from counterseal.models.stream import open_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from counterseal.models.files import Files

__all__ = ["inspect", "media_type"]

MAX_PACKED_BYTES: Final = 1 << 20  # read of a compressed file to see its beginning

# Whoever meets these names unpickles them, whatever is inside.
_PICKLED: Final = frozenset(
    {".pkl", ".pickle", ".pck", ".pcl", ".joblib", ".dill", ".cloudpickle", ".skl"}
)
# These are unpickled by some and hold plain bytes for others: the content decides.
_PERHAPS: Final = frozenset(
    {".bin", ".ckpt", ".pt", ".pth", ".p", ".model", ".dat", ".data", ".sav"}
)
_CONVERT: Final = (
    "convert it: torch -> state dict as .safetensors, scikit-learn -> skops.io.dump, "
    "numpy -> .npz without objects"
)
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_HDF5_AT: Final = (0, 512, 1024, 2048)  # a user block of any power of two may come first
_SAVED_MODEL: Final = frozenset({"saved_model.pb", "saved_model.pbtxt", "keras_metadata.pb"})
# Not the mimetypes module: it asks the machine, and two machines must say the same.
_TYPES: Final[Mapping[str, str]] = {
    ".py": "text/x-python",
    ".sh": "text/x-shellscript",
    ".md": "text/markdown",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".html": "text/html",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".pdf": "application/pdf",
    ".jinja": "text/plain",
    ".gguf": "application/x-gguf",
}


def inspect(files: Files) -> dict[str, str]:
    """Return the media type of every file; raise UnsafeFormat for the first unsafe one.

    Reads the beginnings, headers and directories of files, never their bulk.
    """
    return {name: media_type(files, name) for name in files.names()}


def media_type(files: Files, name: str) -> str:
    """Inspect one file."""
    path = PurePosixPath(name.lower())
    head = bytes(read(files, name, 0, min(HEAD_BYTES, files.size(name))))
    _refuse_names(name, path, head)
    likely = path.suffix in _PERHAPS
    with open_stream(files, name) as stream:
        if pickles.runs_code(stream, files.size(name), likely=likely):
            raise _pickle(name)
    known = format_of(name, head)
    if known is not None:
        known.check(files, name)
        return known.media_type
    if head.startswith(archives.MAGIC):
        _check_archive(files, name)
        return "application/zip"
    _check_packed(files, name, head)
    return _TYPES.get(path.suffix, "application/octet-stream")


def _refuse_names(name: str, path: PurePosixPath, head: bytes) -> None:
    if _PICKLED & {*path.suffixes}:
        raise _pickle(name)
    if path.suffix in {".h5", ".hdf5"} or any(head[at : at + 8] == _HDF5 for at in _HDF5_AT):
        raise UnsafeFormat(
            f'"{name}" is HDF5: a Keras model in it may carry code',
            hint="save the model as .keras, or weights alone as .safetensors",
        )
    if path.name in _SAVED_MODEL:
        raise UnsafeFormat(
            f'"{name}" is a TensorFlow SavedModel, which is a program',
            hint="export the model to ONNX (tf2onnx), or save it as .keras",
        )
    if head[257:262] == b"ustar":
        raise UnsafeFormat(
            f'"{name}" is a tar archive: what is inside is not inspected', hint="unpack it first"
        )


def _pickle(name: str) -> UnsafeFormat:
    return UnsafeFormat(f'"{name}" is a pickle: loading it can run any code', hint=_CONVERT)


def _check_archive(files: Files, name: str) -> None:
    """A zip of no known format may travel, unless something in it would be refused alone."""
    with archives.open_archive(files, name) as archive:
        for member in archive.namelist():
            path = PurePosixPath(member.lower())
            head = archives.read_member(archive, member, limit=HEAD_BYTES)
            inside = f"{name}: {member}"
            _refuse_names(inside, path, head)
            if pickles.runs_code(io.BytesIO(head), None, likely=path.suffix in _PERHAPS):
                raise _pickle(inside)


def _check_packed(files: Files, name: str, head: bytes) -> None:
    """joblib packs its pickles with any of these, and unpacks them whatever the name."""
    unpack = _unpacker(head)
    if unpack is None:
        return
    packed = bytes(read(files, name, 0, min(MAX_PACKED_BYTES, files.size(name))))
    try:
        start = unpack(packed)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError):
        return  # not packed after all: no loader gets further than this
    if not start:
        raise UnsafeFormat(f'"{name}" is packed so that one cannot look inside', hint="unpack it")
    _refuse_names(name, PurePosixPath(name.lower()), start)
    if pickles.runs_code(io.BytesIO(start), None, likely=True):
        raise _pickle(name)


def _unpacker(head: bytes) -> Callable[[bytes], bytes] | None:
    if head[:2] in {b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"}:
        return lambda data: zlib.decompressobj(wbits=47).decompress(data, HEAD_BYTES)
    if head.startswith(b"BZh"):
        return lambda data: bz2.BZ2Decompressor().decompress(data, HEAD_BYTES)
    if head.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return lambda data: lzma.LZMADecompressor(memlimit=256 << 20).decompress(data, HEAD_BYTES)
    return None
