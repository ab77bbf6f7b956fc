"""`kill -9` at any moment leaves the old state or the new one, and the next run cleans up.

Real processes, killed after a random part of the time that the work takes when it is let be.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workshop import AT, CHEAP, Cast, forget, listed

from counterseal.errors import CountersealError, FormatError
from counterseal.jobs.open import open_sealed
from counterseal.jobs.recipients import add_recipient
from counterseal.jobs.seal import seal
from counterseal.trust.card import CardDocument
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.file import FileKeystore
from counterseal.trust.partner import Partner

KILLS = 10
PASSPHRASE = b"passphrase"

CHILD = """
import sys
from datetime import datetime
from pathlib import Path
from counterseal.jobs.open import open_sealed
from counterseal.jobs.recipients import add_recipient
from counterseal.jobs.seal import seal
from counterseal.trust.card import CardDocument
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity

job, home, name, card, source, output, at = sys.argv[1:]
at = datetime.fromisoformat(at)
us = Identity.load(name, home=Home(home), passphrase=b"passphrase")
them = CardDocument.load(card)
us.store.items("seen")  # opens the database
print("ready", flush=True)
sys.stdin.readline()
if job == "seal":
    seal(source, by=us, to=them, output=output, at=at, model="m")
elif job == "replace":
    seal(source, by=us, to=them, output=output, at=at, model="m", replace=True)
elif job == "extract":
    with open_sealed(source, by=us, sender=them, at=at, again=True) as package:
        package.extract(output)
elif job == "add":
    add_recipient(output, by=us, to=them, at=at)
print("done", flush=True)
"""


class Scene:
    """lab and clinic with homes on disk, a model of many leaves, cards of everybody."""

    def __init__(self, folder):
        self.folder = folder
        self.rng = random.Random()
        self.bank = Cast(at=AT).bank
        for name in ("lab", "clinic"):
            home = Home(folder / f"home-{name}")
            made = Identity.create(name, home=home, passphrase=PASSPHRASE, at=AT)
            place = home.identity_folder(name) / "keystore.json"
            FileKeystore(place, cost=CHEAP).save(made._ring, PASSPHRASE)
            setattr(self, name, made)
        for one in (self.lab, self.clinic, self.bank):
            one.card().save(folder / f"{one.name}.card")
        self.model = folder / "model"
        (self.model / "sub").mkdir(parents=True)
        self.contents = {
            "a.bin": os.urandom(9 << 20),
            "sub/b.bin": os.urandom((6 << 20) + 5),
            "sub/c.bin": b"",
        }
        for name, data in self.contents.items():
            (self.model / name).write_bytes(data)
        self.place = folder / "place"
        self.place.mkdir()
        self.output = self.place / "m.sealed"

    def start(self, job, *, by, to, source=None, output=None):
        command = [sys.executable, "-c", CHILD, job, str(self.folder / f"home-{by.name}"), by.name]
        command += [str(self.folder / f"{to.name}.card"), str(source or self.model)]
        command += [str(output or self.output), AT.isoformat()]
        src = str(Path(__file__).resolve().parents[2] / "src")
        paths = os.pathsep.join(filter(None, [src, os.environ.get("PYTHONPATH")]))
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        )
        assert child.stdout.readline() == b"ready\n", child.stderr.read()
        return child

    def run(self, child, *, kill_after=None):
        """Let it work, all the way or for `kill_after` seconds; returns how long it took."""
        begun = time.perf_counter()
        child.stdin.write(b"\n")
        child.stdin.flush()
        if kill_after is None:
            _, errors = child.communicate()
            assert child.returncode == 0, errors
        else:
            time.sleep(kill_after)
            child.kill()
            child.communicate()
        return time.perf_counter() - begun

    def usual(self, prepare, **job):
        """The time it takes when it is let be."""
        prepare()
        return self.run(self.start(**job))

    def moments(self, usual):
        """Random moments; a few early and a few late ones for certain."""
        return [self.rng.random() * usual * 1.05 for _ in range(KILLS)]

    def read(self, by=None, package=None):
        by = by or self.clinic
        sender = Partner.pin(self.lab.card(), key_id=self.lab.key_id, at=AT)
        try:
            with open_sealed(package or self.output, by=by, sender=sender, at=AT) as opened:
                return {name: bytes(opened.read(name)) for name in opened.names()}
        finally:
            forget(by.store)

    def clear(self):
        for path in self.place.iterdir():
            path.unlink()


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_sealing_to_a_new_output(scene):
    job = {"job": "seal", "by": scene.lab, "to": scene.clinic}
    usual = scene.usual(scene.clear, **job)
    for moment in scene.moments(usual):
        scene.clear()
        scene.run(scene.start(**job), kill_after=moment)
        if scene.output.exists():
            assert scene.read() == scene.contents
        scene.output.unlink(missing_ok=True)
        card = CardDocument.load(scene.folder / "clinic.card")
        seal(scene.model, by=scene.lab, to=card, output=scene.output, at=AT, model="m")
        assert scene.read() == scene.contents
        assert listed(scene.place) == ["m.sealed"]


def test_sealing_over_an_old_output(scene):
    job = {"job": "replace", "by": scene.lab, "to": scene.clinic}
    old = scene.folder / "old"
    old.write_bytes(b"old weights")
    card = CardDocument.load(scene.folder / "clinic.card")

    def prepare():
        seal(
            old, by=scene.lab, to=card, output=scene.output, at=AT, model="m",
            statement=False, replace=True,
        )  # fmt: skip

    usual = scene.usual(prepare, **job)
    for moment in scene.moments(usual):
        prepare()
        assert listed(scene.place) == ["m.sealed"]  # what was left is gone
        scene.run(scene.start(**job), kill_after=moment)
        assert scene.read() in ({"old": b"old weights"}, scene.contents)
    prepare()
    assert scene.read() == {"old": b"old weights"}


def test_extracting_a_folder(scene):
    package = scene.folder / "m.sealed"
    card = CardDocument.load(scene.folder / "clinic.card")
    seal(scene.model, by=scene.lab, to=card, output=package, at=AT)
    target = scene.place / "model"
    job = {"job": "extract", "by": scene.clinic, "to": scene.lab, "source": package}
    job["output"] = target

    def clear():
        import shutil

        shutil.rmtree(target, ignore_errors=True)

    def extracted():
        names = [*scene.contents, "model.sig"]
        assert all((target / name).is_file() for name in names)
        assert {name: (target / name).read_bytes() for name in scene.contents} == scene.contents

    usual = scene.usual(clear, **job)
    for moment in scene.moments(usual):
        clear()
        scene.run(scene.start(**job), kill_after=moment)
        if target.exists():
            extracted()
            clear()
        sender = Partner.pin(scene.lab.card(), key_id=scene.lab.key_id, at=AT)
        with open_sealed(package, by=scene.clinic, sender=sender, at=AT, again=True) as opened:
            opened.extract(target)
        extracted()
        assert listed(scene.place) == ["model"]


def test_adding_a_recipient(scene):
    job = {"job": "add", "by": scene.lab, "to": scene.bank}
    cards = {name: CardDocument.load(scene.folder / f"{name}.card") for name in ("clinic", "bank")}

    def prepare():
        seal(
            scene.model, by=scene.lab, to=cards["clinic"], output=scene.output, at=AT, model="m",
            statement=False, replace=True,
        )  # fmt: skip

    usual = scene.usual(prepare, **job)
    states = set()
    for moment in scene.moments(usual):
        prepare()
        scene.run(scene.start(**job), kill_after=moment)
        assert scene.read() == scene.contents  # whatever happened: clinic can open it
        try:
            new = scene.read(by=scene.bank) == scene.contents
        except CountersealError:
            new = False
        states.add(new)
        if new:
            with pytest.raises(FormatError, match="already"):
                add_recipient(scene.output, by=scene.lab, to=cards["bank"], at=AT)
        else:
            add_recipient(scene.output, by=scene.lab, to=cards["bank"], at=AT)
        for identity in (scene.clinic, scene.bank):
            assert scene.read(by=identity) == scene.contents
        assert listed(scene.place) == ["m.sealed"]
    assert states <= {False, True}
