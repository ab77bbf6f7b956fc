"""One function for each parser of bytes from outside. Only `CountersealError` may come out.

`SEEDS` gives each an honest input to start from: without one a fuzzer spends its life finding
the first brace.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parent))

from unittest import mock

import agreement_targets
import exchange_targets
import gateway_targets
from workshop import AT, CHEAP, Bench, Cast, Parts, manifest_of

from counterseal.crypto import passphrase as passphrases
from counterseal.crypto.digest import sha256
from counterseal.errors import CountersealError
from counterseal.exchange import amend, reader, stanza
from counterseal.exchange import header as headers
from counterseal.models import names
from counterseal.models import statement as statements
from counterseal.models.files import MemoryFiles
from counterseal.models.formats.safetensors import read_header
from counterseal.models.inspection import inspect
from counterseal.models.manifest import Manifest
from counterseal.trust import keyid, prekeys
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.keystores import file as keystores
from counterseal.trust.keystores import keyring
from counterseal.wire import canonical, limits
from counterseal.wire.dsse import Envelope


@cache
def bench():
    folder = tempfile.mkdtemp(prefix="counterseal-fuzz-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Bench(Cast(), Path(folder))


@cache
def package():
    """A package file, its bytes, the sender's history."""
    made = bench()
    path = made.seal({"a": b"1", "b": b"22"}, to=[made.clinic, made.bank], statement=True)
    return path, path.read_bytes()


@cache
def memory():
    return os.memfd_create("front")


def front(data):
    file = memory()
    os.ftruncate(file, len(data))
    os.pwrite(file, data, 0)
    reader.read_front(file).parse_stanzas()


def header(data):
    headers.parse(data)


def stanzas(data):
    stanza.parse(data[1:], recipients=data[0] if data else 1)


def manifest(data):
    Manifest.decode(data)


def card(data):
    History.verify(CardDocument.parse(data))


def prekey_bundle(data):
    made = bench()
    envelope = canonical.decode(data, Envelope, limit=limits.PREKEY_BUNDLE_BYTES, what="prekeys")
    prekeys.verify(envelope, of=made.clinic.history, to=made.lab.history.identity, at=AT)


def keystore(data):
    with mock.patch.object(passphrases, "Argon2id", _Quick):  # and only here: others need it
        keystores.decrypt(data, b"passphrase", kind="keystore")


class _Quick:
    """Argon2id at the highest cost a file may ask for takes 10 s: not what is tested here."""

    def __init__(self, **_):
        pass

    def derive(self, passphrase):
        return bytes(32)


def _keystore():
    with mock.patch.object(passphrases, "Argon2id", _Quick):
        return keystores.encrypt(b"secret", b"passphrase", kind="keystore", cost=CHEAP)


def key_ring(data):
    keyring.unpack(data)


def safetensors(data):
    read_header(MemoryFiles({"w.safetensors": data}), "w.safetensors")


def file_names(data):
    names.check_names(data.decode("utf-8", "surrogateescape").split("|"))


def statement(data):
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    statements.parse(text)


def journal(data):
    path, _ = package()
    with path.open("rb") as file:
        amend.journal_path(path).write_bytes(data)
        amend.pending_front(path, file.fileno())


def key_id(data):
    keyid.matches(bench().lab.key_id, data.decode("utf-8", "surrogateescape"))


def any_file(data):
    inspect(MemoryFiles({"weights.bin": data}))


TARGETS = {
    f.__name__: f
    for f in (
        front, header, stanzas, manifest, card, prekey_bundle, keystore, key_ring,
        safetensors, file_names, statement, journal, key_id, any_file,
    )
} | exchange_targets.TARGETS | agreement_targets.TARGETS | gateway_targets.TARGETS  # fmt: skip


# Where a fuzzer can also begin: nothing honest begins like this.
BEGINNINGS = {"any_file": [b"PK\3\4", b"\x80\4}."]}


@cache
def seeds():
    """Honest inputs for each target."""
    made = bench()
    path, data = package()
    parts = Parts.of(data)
    found, _ = manifest_of(path, made.key(path, made.clinic))
    body = data[: parts.header.body]
    journal_digest = sha256(body.rstrip(b"\0"))
    tensors = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  '
    bundle = made.clinic.make_prekeys(made.lab.history, 1, at=AT)
    made.lab.rotate(at=AT)
    made.lab.revoke(reason="lost", which=made.lab.history.identity, at=AT)
    return (
        {
            "front": [data],
            "header": [canonical.encode(parts.envelope)],
            "stanzas": [b"\2" + parts.stanzas],
            "manifest": [found.encode(1 << 15)],
            "card": [made.clinic.card().encode(), made.lab.card().encode()],
            "prekey_bundle": [canonical.encode(bundle)],
            "keystore": [_keystore()],
            "key_ring": [keyring.pack(made.clinic._ring)],
            "safetensors": [len(tensors).to_bytes(8, "little") + tensors + bytes(4)],
            "file_names": [b"a/b|c.txt|D"],
            "statement": [found.document.statement.encode()],
            "journal": [amend._MAGIC + journal_digest + body.rstrip(b"\0")],
            "key_id": [made.lab.key_id.encode(), keyid.words(made.lab.key_id).encode()],
            "any_file": [len(tensors).to_bytes(8, "little") + tensors + bytes(4)],
        }
        | exchange_targets.seeds()
        | agreement_targets.seeds()
        | gateway_targets.seeds()
    )


def call(name, data):
    """What the fuzzer calls: the one exception that is allowed is not passed on."""
    try:
        TARGETS[name](data)
    except CountersealError:
        return
