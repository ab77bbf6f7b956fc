"""Metadata files are read in one strict form before python-tuf sees them."""

from __future__ import annotations

import json

import pytest
import rfc8785
from notices import Desk, parts
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from counterseal.errors import FormatError, TrustError
from counterseal.trust.directory.metadata import Names, load

ROLES = {
    "1.root.json": Root,
    "timestamp.json": Timestamp,
    "snapshot.json": Snapshot,
    "targets.json": Targets,
}


@pytest.fixture
def desk(cast):
    return Desk(cast)


@pytest.fixture
def made(desk):
    return desk.make()


@pytest.fixture
def names(desk):
    return Names(identity=desk.lab.history.identity, partner=desk.clinic.history.identity)


@pytest.mark.parametrize("name", ROLES)
def test_our_form_is_the_one_that_python_tuf_writes(made, names, name):
    data = made.files[name]
    file = load(data, ROLES[name], names=names)
    assert file.to_bytes() == data
    assert rfc8785.dumps(parts(made, name)) == file.signed_bytes, "what is signed (SPEC 2.8)"
    assert not file.unrecognized_fields
    assert set(file.signed.unrecognized_fields) == {"counterseal"}


@pytest.mark.parametrize("name", ROLES)
def test_one_role_is_never_another(made, names, name):
    for other in ROLES.values():
        if other is not ROLES[name]:
            with pytest.raises(FormatError):
                load(made.files[name], other, names=names)


def change(**fields):
    def edit(document):
        for path, value in fields.items():
            *outer, last = path.split("__")
            place = document
            for key in outer:
                place = place[key]
            place[last] = value

    return edit


HOSTILE = {
    "an unknown field": change(signed__more=1),
    "an unknown field outside what is signed": change(more=1),
    "a delegation": change(signed__delegations={"keys": {}, "roles": []}),
    "a number that is a fraction": change(signed__version=1.5),
    "a number that is a word": change(signed__version="1"),
    "the number zero": change(signed__version=0),
    "another release of TUF": change(signed__spec_version="1.0.32"),
    "a time with a zone": change(signed__expires="2026-07-01T14:00:00+02:00"),
    "a file of another name": change(signed__targets={"model.bin": {"hashes": {}, "length": 1}}),
    "a digest that we do not use": change(
        signed__targets={"card.json": {"hashes": {"md5": "0" * 32}, "length": 1}}
    ),
    "no signature": change(signatures=[]),
    "a signature of another length": change(signatures=[{"keyid": "0" * 64, "sig": "00"}]),
}


@pytest.mark.parametrize("sentence", HOSTILE)
def test_it_has_no_other_form(made, names, sentence):
    document = json.loads(made.files["targets.json"])
    HOSTILE[sentence](document)
    with pytest.raises(FormatError):
        load(rfc8785.dumps(document), Targets, names=names)


def test_it_has_one_spelling(made, names):
    data = made.files["targets.json"]
    for other in (data + b"\n", data.replace(b":", b": "), b'{"signatures":[],' + data[1:]):
        with pytest.raises(FormatError):
            load(other, Targets, names=names)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root["keys"].update({"0" * 64: next(iter(root["keys"].values()))}),
        lambda root: root["roles"]["root"].update(threshold=0),
        lambda root: root["roles"]["root"]["keyids"].append(root["roles"]["root"]["keyids"][0]),
        lambda root: root["roles"].pop("snapshot"),
        lambda root: root.update(consistent_snapshot=True),
        lambda root: next(iter(root["keys"].values()))["keyval"].update(pq=""),
        lambda root: next(iter(root["keys"].values())).update(keytype="ed25519", scheme="ed25519"),
    ],
    ids=["alias", "threshold", "twice", "role", "consistent", "half a key", "foreign key"],
)
def test_a_root_has_no_other_form(made, names, change):
    document = json.loads(made.files["1.root.json"])
    change(document["signed"])
    with pytest.raises(FormatError):
        load(rfc8785.dumps(document), Root, names=names)


def test_two_signatures_under_one_id_are_refused(made, names):
    document = json.loads(made.files["targets.json"])
    document["signatures"] *= 2
    with pytest.raises(FormatError):
        load(rfc8785.dumps(document), Targets, names=names)


def test_it_names_both_sides(made, desk):
    other = Names(identity=desk.lab.history.identity, partner=desk.cast.bank.history.identity)
    with pytest.raises(TrustError, match="somebody else"):
        load(made.files["targets.json"], Targets, names=other)
    assert isinstance(load(made.files["targets.json"], Targets, names=None), Metadata)
