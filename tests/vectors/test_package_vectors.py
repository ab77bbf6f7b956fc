"""Packages made once (make_packages.py): every later version must open them to the same bytes."""

import hashlib
import json
from datetime import datetime
from pathlib import Path

import pytest
from workshop import Parts

from counterseal.errors import BadCiphertext
from counterseal.jobs.inspect import inspect
from counterseal.jobs.open import open_sealed
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.identity import Identity
from counterseal.trust.keystores import keyring
from counterseal.trust.partner import Partner
from counterseal.trust.store import Store

FOLDER = Path(__file__).parent / "data" / "packages"
DOCUMENT = json.loads((FOLDER / "packages.json").read_text())
AT = datetime.fromisoformat(DOCUMENT["at"])  # the cards are valid then, for ever
VECTORS = {one["name"]: one for one in DOCUMENT["packages"]}


def identity(name):
    stored = DOCUMENT["identities"][name]
    history = History.verify(CardDocument.parse(stored["card"].encode()))
    store = Store()
    for identifier, protected in DOCUMENT["prekeys"].get(name, {}).items():
        store.put("prekey", f"{history.identity}/{identifier}", bytes.fromhex(protected))
    return Identity(history, keyring.unpack(stored["keyring"].encode()), store=store)


def sender(vector):
    stored = DOCUMENT["identities"][vector["sender"]]
    card = CardDocument.parse(stored["card"].encode())
    return Partner.pin(card, key_id=stored["key_id"], at=AT)


def openings():
    for vector in VECTORS.values():
        for name in vector["recipients"] or [None]:
            yield pytest.param(vector, name, id=f"{vector['name']}-{name or 'passphrase'}")


@pytest.mark.parametrize(("vector", "recipient"), list(openings()))
def test_opens_to_the_same(vector, recipient):
    path = FOLDER / vector["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == vector["sha256"]
    key = {"passphrase": vector["passphrase"].encode()} if recipient is None else {}
    by = None if recipient is None else identity(recipient)
    with open_sealed(path, sender=sender(vector), by=by, at=AT, **key) as package:
        found = {name: bytes(package.read(name)) for name in package.names()}
        assert package.digest == vector["digest"]
        assert package.forward_secret == vector["forward_secret"]
        assert package.owner.name == vector["owner"]
        assert package.manifest.model == vector["model"]
        assert package.manifest.version == vector["version"]
        core = package.header.core
        assert core.package == vector["package"]
        assert core.charter == vector["charter"]
        assert (core.expires.isoformat() if core.expires else None) == vector["expires"]
    assert {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in found.items()
    } == vector["files"]


@pytest.mark.parametrize("vector", list(VECTORS.values()), ids=list(VECTORS))
def test_is_inspected_alike(vector):
    facts = inspect(FOLDER / vector["file"], partners=[sender(vector)], at=AT)
    assert facts.trusted
    assert facts.package == vector["package"]
    assert facts.forward_secret == vector["forward_secret"]
    assert facts.recipients == max(1, len(vector["recipients"]))


@pytest.mark.parametrize("vector", list(VECTORS.values()), ids=list(VECTORS))
def test_opens_for_nobody_else(vector):
    others = set(DOCUMENT["identities"]) - {*vector["recipients"]}
    for name in others:
        with pytest.raises(BadCiphertext):
            open_sealed(FOLDER / vector["file"], sender=sender(vector), by=identity(name), at=AT)


def test_is_written_alike():
    """Taken apart and put together by the present code, it is the same to the byte."""
    for vector in VECTORS.values():
        data = (FOLDER / vector["file"]).read_bytes()
        assert Parts.of(data).join() == data
