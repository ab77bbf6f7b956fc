"""What an engineer with nothing but SPEC.md wrote opens what counterseal seals, and refuses the rest.

counterseal is a black box here: it seals. `reader.py` shares no line with it.
"""

import ast
import base64
import importlib.util
import json
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag

import counterseal as cs
from counterseal.trust.keystores import keyring

SOURCE = Path(__file__).with_name("reader.py")
LINES = 150  # without blank ones
SIZES = (0, 1, 16_384, 1 << 20, (3 << 20) + 5)
REFUSALS = (ValueError, LookupError, InvalidSignature, InvalidTag, struct.error)


def load():
    spec = importlib.util.spec_from_file_location("second_reader", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = load()


class Party:
    def __init__(self, name, **options):
        self.identity = cs.Identity.create(name, **options)
        self.partner = self.pin()

    def pin(self):
        return cs.Partner.pin(self.identity.card(), key_id=self.identity.key_id)

    @property
    def card(self):
        return self.identity.card().encode()

    def keys(self, generation=0):
        ring = json.loads(keyring.pack(self.identity._ring))["generations"]
        own = next(one for one in ring if one["card"] == self.cards()[generation]["key_id"])
        halves = {half: base64.b64decode(own[f"agreement_{half}"]) for half in ("classical", "pq")}
        return {"card": own["card"], "suite": own["agreement_suite"], **halves}

    def cards(self):
        return reader.history(self.card)

    def prekeys(self, sender, count=2):
        """Make prekeys for `sender`; return the partner it seals to, and our private halves."""
        theirs = sender.partner.history
        envelope = self.identity.make_prekeys(theirs, count, at=datetime.now(UTC))
        private = []
        for key in json.loads(envelope.payload)["keys"]:
            name = reader.digest("prekey", reader.canonical(key)).hex()
            opener = self.identity.prekeys.opener(name, partner=theirs.identity)
            classical, pq = opener.seeds()
            private.append({"id": name, "suite": key["suite"], "classical": classical, "pq": pq})
        return self.partner.with_prekeys(envelope, us=theirs, at=datetime.now(UTC)), private


@pytest.fixture(scope="module")
def lab():
    return Party("lab")


@pytest.fixture(scope="module")
def clinic():
    return Party("clinic")


@pytest.fixture(scope="module")
def token():
    return Party("token", hardware=True)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    (path / "sub").mkdir(parents=True)
    for size in SIZES:
        (path / f"{size}.bin").write_bytes(os.urandom(size))
    (path / "sub" / "né à.txt").write_text("hello")
    (path / ".gitattributes").write_text("* binary")
    return path


def contents(source):
    if source.is_file():
        return {source.name: source.read_bytes()}
    files = (path for path in source.rglob("*") if path.is_file())
    return {path.relative_to(source).as_posix(): path.read_bytes() for path in files}


def seal(source, by, to=(), **options):
    output = source.with_name("sealed.cs")
    cs.seal(source, by=by.identity, to=to, output=output, **options)
    return output


def read(package, sender, **how):
    return reader.read(package.read_bytes(), sender.card, **({"at": datetime.now(UTC)} | how))


@pytest.mark.parametrize("statement", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_one_file_of_any_size(size, statement, lab, clinic, tmp_path):
    source = tmp_path / "weights.bin"
    source.write_bytes(os.urandom(size))
    package = seal(source, lab, clinic.partner, statement=statement)
    manifest, files = read(package, lab, keys=clinic.keys())
    assert files == contents(source)
    assert manifest["layout"] == "file"
    assert (manifest["statement"] is not None) == statement


@pytest.mark.parametrize("prekeyed", [False, True])
def test_a_folder_with_and_without_a_prekey(prekeyed, folder, lab, clinic):
    partner, prekeys = clinic.prekeys(lab) if prekeyed else (clinic.partner, [])
    package = seal(folder, lab, partner)
    assert read(package, lab, keys=clinic.keys(), prekeys=prekeys)[1] == contents(folder)
    if prekeyed:
        with pytest.raises(ValueError, match="is not in list"):
            read(package, lab, keys=clinic.keys())


def test_p256_halves_are_refused_not_misread(folder, lab, clinic, token):
    with pytest.raises(ValueError, match="not read here"):
        read(seal(folder, token, clinic.partner), token, keys=clinic.keys())
    own = token.identity.key_id
    with pytest.raises(KeyError):
        read(seal(folder, lab, token.partner, replace=True), lab, keys={"card": own})


def test_a_passphrase(folder, lab):
    package = seal(folder, lab, passphrase=b"correct horse")
    assert read(package, lab, passphrase=b"correct horse")[1] == contents(folder)
    with pytest.raises(ValueError, match="passphrase"):
        read(package, lab, passphrase=b"incorrect horse")


def test_two_recipients_and_one_more(folder, lab, clinic):
    other, bank = Party("other"), Party("bank")
    package = seal(folder, lab, [clinic.partner, other.partner])
    with pytest.raises(ValueError, match="unpack"):
        read(package, lab, keys=bank.keys())
    cs.add_recipient(package, by=lab.identity, to=bank.partner)
    for recipient in (clinic, other, bank):
        assert read(package, lab, keys=recipient.keys())[1] == contents(folder)


def test_a_rotated_sender_and_a_rotated_recipient(folder):
    lab, clinic = Party("lab"), Party("clinic")
    before = seal(folder, lab, clinic.partner).rename(folder.with_name("before.cs"))
    lab.identity.rotate()
    clinic.identity.rotate()
    after = seal(folder, lab, clinic.pin())
    assert len(lab.cards()) == 2
    assert read(after, lab, keys=clinic.keys(1))[1] == contents(folder)
    with pytest.raises(REFUSALS):  # signed by the card before: not judged by this short reader
        read(before, lab, keys=clinic.keys(0))


def test_expired_card_and_expired_package(folder, lab, clinic):
    package = seal(folder, lab, clinic.partner, expires=timedelta(days=3))
    later = datetime.now(UTC) + timedelta(days=2)
    assert read(package, lab, keys=clinic.keys(), at=later)[1] == contents(folder)
    with pytest.raises(ValueError, match="expired"):
        read(package, lab, keys=clinic.keys(), at=later + timedelta(days=2))
    with pytest.raises(ValueError, match="not in force"):
        read(package, lab, keys=clinic.keys(), at=later + timedelta(days=400))


def test_another_sender_and_a_strangers_keys(folder, lab, clinic, token):
    package = seal(folder, lab, clinic.partner)
    with pytest.raises(ValueError, match=r"sender|suite"):
        read(package, token, keys=clinic.keys())
    with pytest.raises(ValueError, match="unpack"):
        read(package, lab, keys=Party("stranger").keys())
    with pytest.raises(InvalidTag):
        read(package, lab, keys=Party("stranger").keys() | {"card": clinic.keys()["card"]})


def test_a_changed_byte_anywhere(folder, lab, clinic):
    package = seal(folder, lab, clinic.partner).read_bytes()
    keys, at = clinic.keys(), datetime.now(UTC)
    head, rest = int.from_bytes(package[16:20]), int.from_bytes(package[20:24])
    gap = 24 + head + rest
    body = len(package) - package[::-1].find(bytes(64))  # behind the gap's last zeros
    spots = {0, 12, 16, 19, 20, 23, 24, 24 + head // 2, 23 + head, 24 + head, 25 + head, 60 + head}
    spots |= {gap - 48, gap - 1, gap, body - 1, body, body + 30, body + 60, body + 3000}
    spots |= {len(package) * part // 7 for part in range(1, 7)} | {len(package) - 1}
    for spot in sorted(spots):
        changed = bytearray(package)
        changed[spot] ^= 1
        with pytest.raises(REFUSALS):
            reader.read(bytes(changed), lab.card, keys=keys, at=at)
    cuts = (0, 11, 15, 24, 24 + head, gap, body, len(package) - 16_400, len(package) - 1)
    for damaged in (*(package[:cut] for cut in cuts), package + b"\0"):
        with pytest.raises(REFUSALS):
            reader.read(damaged, lab.card, keys=keys, at=at)


def test_a_changed_history_and_one_with_a_revocation(folder):
    lab = Party("lab")
    lab.identity.rotate()
    file = json.loads(lab.card)
    swapped = file | {"cards": file["cards"][::-1]}
    headless = file | {"cards": file["cards"][1:]}
    for other in (swapped, headless, file | {"format": 2}, file | {"more": 1}):
        with pytest.raises(REFUSALS):
            reader.history(reader.canonical(other))
    with pytest.raises(ValueError, match="not canonical"):
        reader.history(json.dumps(file).encode())
    lab.identity.revoke(reason="compromised")
    with pytest.raises(ValueError, match="revocations"):
        reader.history(lab.card)


def test_vectors_of_the_specification():
    key, package = bytes(range(32)), bytes(range(16))
    assert reader.bind("file", package, b"\0\0\0\1").hex().endswith("0e0f0000000400000001")
    commitment = reader.expand(key, reader.bind("commitment", package)).hex()
    assert commitment == "820aca7fa69fe328cbd7cce69a096f9bd5df65192d17d36abedef450555b70f2"
    core = reader.digest("core", b'{"k":1}').hex()
    assert core == "3ea6979343981195b74e510335c014daac00f486a6a170c3562cfd7cbf56cb0b"


def test_it_is_short_and_knows_nothing_of_counterseal():
    text = SOURCE.read_text()
    assert sum(bool(line.strip()) for line in text.splitlines()) <= LINES
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert not any(name.split(".")[0] == "counterseal" for name in imported)
