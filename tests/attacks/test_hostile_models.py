"""A model from a stranger is refused before anything in it can run. One sentence, one attack."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import MemoryFiles
from counterseal.models.inspection import inspect
from counterseal.models.loading import load


class Evil:
    """Fails the test, loudly, if anybody unpickles it."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a model file was run')",))


TEXT_PICKLE = b"cbuiltins\nexec\n(S'raise SystemExit'\ntR."
EVIL = pickle.dumps(Evil(), 4)


def zipped(compression=zipfile.ZIP_STORED, **members):
    return zipped_table(
        {name.replace("__", "/"): data for name, data in members.items()}, compression
    )


def zipped_table(members, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def checkpoint(data):
    """A file laid out like torch.save's, around this pickle."""
    return zipped_table({"m/data.pkl": data, "m/version": b"3\n", "m/data/0": bytes(4)})


def legacy_torch():
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    return magic + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + pickle.dumps(Evil(), 2)


def tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("m.pkl")
        info.size = len(EVIL)
        archive.addfile(info, io.BytesIO(EVIL))
    return stream.getvalue()


def npy(descr, data=b""):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': (1,), }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def keras(**layer):
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    return zipped_table(
        {
            "metadata.json": b"{}",
            "config.json": json.dumps(config).encode(),
            "model.weights.h5": b"\x89HDF\r\n\x1a\n",
        }
    )


def tensors(header, data=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def u8(*offsets):
    return {"dtype": "U8", "shape": [offsets[1] - offsets[0]], "data_offsets": [*offsets]}


STACK_GLOBAL = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x02id\x85R."
THROUGH_MEMO = b"\x80\x04\x8c\x06system\x94\x8c\x02os\x9400h\1h\0\x93\x8c\x02id\x85R."
MEMO_OVERWRITTEN = (
    b"\x80\x04\x8c\x05torchq\0\x8c\x04Sizeq\x01\x8c\x02osq\0\x8c\x06systemq\x010000h\0h\1\x93)R."
)
COMPUTED_NAME = b"\x80\x04c_codecs\nencode\n\x8c\x02os\x85R\x8c\x06system\x93\x8c\x02id\x85R."
ESCAPED_NAME = b"\x80\x04V\\u006fs\nVsystem\n\x93\x8c\x02id\x85R."
DOTTED_NAME = b"\x80\x04\x8c\x05torch\x8c\x10serialization.os\x93\x8c\x02id\x85R."
DOTTED_ALLOWED = b"\x80\x02ctorch.storage\nUntypedStorage.__init__.__globals__\n."
INST = b"\x80\x02(S'id'\nios\nsystem\n."
OBJ = b"\x80\x02(cos\nsystem\nS'id'\no."
EXTENSION = b"\x80\x02\x82\x07)R."
SECOND_PICKLE = b"\x80\x02}." + EVIL
LONG_PREFIX = b"\x80\x04B" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b"0" + EVIL[2:]

CASES = {
    # pickles in every disguise
    "a pickle by its name": ("m.pkl", EVIL),
    "a joblib file": ("m.joblib", EVIL),
    "a pickle named like a torch file": ("m.pt", EVIL),
    "a pickle named like weights": ("pytorch_model.bin", EVIL),
    "a pickle named like a checkpoint": ("m.ckpt", EVIL),
    "a pickle named like safetensors": ("m.safetensors", EVIL),
    "a pickle named like ONNX": ("m.onnx", EVIL),
    "a pickle named like an array": ("m.npy", EVIL),
    "a pickle named like a skops file": ("m.skops", EVIL),
    "a pickle named like a Keras model": ("m.keras", EVIL),
    "a pickle named like a text": ("README.txt", EVIL),
    "a pickle named like JSON": ("config.json", EVIL),
    "a pickle without extension": ("model", EVIL),
    "a pickle of protocol 5": ("m.bin", pickle.dumps(Evil(), 5)),
    "a pickle of protocol 2": ("m.bin", pickle.dumps(Evil(), 2)),
    "a pickle of protocol 1": ("m.bin", pickle.dumps(Evil(), 1)),
    "a pickle of protocol 0": ("m.bin", pickle.dumps(Evil(), 0)),
    "a text pickle": ("m.bin", TEXT_PICKLE),
    "a text pickle named like a text": ("notes.txt", TEXT_PICKLE),
    "a text pickle named like Python": ("model.py", TEXT_PICKLE),
    "a text pickle of plain data where pickles are expected": ("m.bin", b"(lp0\nI1\na."),
    "a pickle behind a long harmless argument": ("m.bin", LONG_PREFIX),
    "a pickle in gzip": ("m.gz", gzip.compress(EVIL)),
    "a pickle in zlib": ("m.z", zlib.compress(EVIL)),
    "a pickle in bzip2": ("m.bz2", bz2.compress(EVIL)),
    "a pickle in xz": ("m.xz", lzma.compress(EVIL)),
    "a pickle in old lzma": ("m.lzma", lzma.compress(EVIL, lzma.FORMAT_ALONE)),
    "a packed pickle named like weights": ("m.bin", zlib.compress(EVIL, 0)),
    "a long pickle in gzip": ("m.gz", gzip.compress(LONG_PREFIX)),
    "a pickle in a zip": ("m.zip", zipped(a=EVIL)),
    "a pickle by its name in a zip": ("m.zip", zipped_table({"a.pkl": b""})),
    "a pickle in a tar": ("m.nemo", tar()),
    "a pickle in a packed tar": ("m.tar.gz", gzip.compress(tar())),
    # torch
    "a legacy torch file": ("m.pt", legacy_torch()),
    "a torch file with a whole object": ("m.pt", checkpoint(EVIL)),
    "a torch file named like weights": ("pytorch_model.bin", checkpoint(EVIL)),
    "a torch file with another extension": ("m.dat", checkpoint(EVIL)),
    "a torch file named like a zip, its pickle last": (
        "m.zip",
        zipped_table({"m/version": b"3", "m/data.pkl": EVIL}),
    ),
    "a name built by STACK_GLOBAL": ("m.pt", checkpoint(STACK_GLOBAL)),
    "a name fetched from the memo": ("m.pt", checkpoint(THROUGH_MEMO)),
    "a harmless name in the memo, then overwritten": ("m.pt", checkpoint(MEMO_OVERWRITTEN)),
    "a name that is computed": ("m.pt", checkpoint(COMPUTED_NAME)),
    "a name with escapes": ("m.pt", checkpoint(ESCAPED_NAME)),
    "a way through an allowed module": ("m.pt", checkpoint(DOTTED_NAME)),
    "a way through an allowed class": ("m.pt", checkpoint(DOTTED_ALLOWED)),
    "the INST instruction": ("m.pt", checkpoint(INST)),
    "the OBJ instruction": ("m.pt", checkpoint(OBJ)),
    "the extension registry": ("m.pt", checkpoint(EXTENSION)),
    "a second pickle after the first": ("m.pt", checkpoint(SECOND_PICKLE)),
    "two pickles in a torch file": (
        "m.pt",
        zipped_table({"m/data.pkl": b"\x80\x02}.", "n/data.pkl": EVIL}),
    ),
    "a TorchScript program": (
        "m.pt",
        zipped_table({"m/data.pkl": b"\x80\x02}.", "m/code/x.py": b"", "m/constants.pkl": b""}),
    ),
    # zip
    "a zip bomb": ("m.npz", zipped(zipfile.ZIP_DEFLATED, a=bytes(64 << 20))),
    "a member that climbs out": ("m.npz", zipped_table({"../../a.npy": npy("<f8", bytes(8))})),
    "a zip with a zip behind it": ("m.pt", checkpoint(b"\x80\x02}.") + checkpoint(EVIL)),
    "a zip with a comment": ("m.npz", zipped(a=b"")[:-2] + b"\1\0x"),
    # arrays
    "an array of objects": ("m.npy", npy("|O", EVIL)),
    "an array of objects in a record": ("m.npy", npy([("a", "|O")], EVIL)),
    "an array of objects in an archive": ("m.npz", zipped_table({"a.npy": npy("|O", EVIL)})),
    "an array of objects with another extension": ("m.dat", npy("|O", EVIL)),
    "an array of objects in a skops file": (
        "m.skops",
        zipped_table({"schema.json": b"{}", "1.npy": npy("|O", EVIL)}),
    ),
    # Keras and TensorFlow
    "a Lambda layer": ("m.keras", keras(module="keras.layers", class_name="Lambda", config={})),
    "a layer that unpickles": (
        "m.keras",
        keras(module="keras.layers", class_name="TorchModuleWrapper", config={}),
    ),
    "a class from outside Keras": ("m.keras", keras(module="os", class_name="system", config={})),
    "a legacy Keras file": ("m.h5", b"\x89HDF\r\n\x1a\n"),
    "a legacy Keras file by another name": ("m.weights", b"\x89HDF\r\n\x1a\n" + bytes(100)),
    "a legacy Keras file behind a user block": ("m.x", bytes(512) + b"\x89HDF\r\n\x1a\n"),
    "a SavedModel": ("m/saved_model.pb", b"\x08\x01"),
    # pointing elsewhere
    "an ONNX tensor in /etc": (
        "m.onnx",
        b"\x3a\x1e\x2a\x1c\x6a\x1a\x0a\x08location\x12\x0e/etc/hostname\0",
    ),
}


@pytest.mark.parametrize(("name", "data"), CASES.values(), ids=CASES)
def test_is_refused(name, data):
    files = MemoryFiles({name: data})
    with pytest.raises(UnsafeFormat) as error:
        inspect(files)
    assert error.value.message.isascii()
    with pytest.raises(FormatError):
        load(files, file=name)


BROKEN = {
    "an empty torch file": ("m.pt", b""),
    "a torch file that is no zip": ("m.pt", bytes(100)),
    "an empty Keras file": ("m.keras", b""),
    "an empty skops file": ("m.skops", b""),
    "a schema nested without end": ("m.skops", zipped_table({"schema.json": b"[" * 200_000})),
    "an empty safetensors file": ("m.safetensors", b""),
    "overlapping tensors": ("m.safetensors", tensors({"a": u8(0, 4), "b": u8(2, 6)}, bytes(6))),
    "tensors with a gap": ("m.safetensors", tensors({"a": u8(0, 2), "b": u8(4, 6)}, bytes(6))),
    "a header of 8 EB": ("m.safetensors", b"\xff" * 100),
    "an array header of code": ("m.npy", b"\x93NUMPY\1\0\x06\0exit()"),
    "ONNX that is text": ("m.onnx", b"hello"),
}


@pytest.mark.parametrize(("name", "data"), BROKEN.values(), ids=BROKEN)
def test_is_not_understood(name, data):
    files = MemoryFiles({name: data})
    with pytest.raises(FormatError):
        inspect(files)
    with pytest.raises(FormatError):
        load(files)
