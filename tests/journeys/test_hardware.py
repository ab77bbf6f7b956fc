"""A software lab and a clinic with its keys in hardware, from the first card to the last key."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from datetime import timedelta

import pytest
from tokens import PIN
from workshop import AT, Bench

from counterseal.trust.home import Home
from counterseal.trust.identity import Identity

MODEL = {"weights.bin": b"w" * 3_000_000, "config.json": b"{}"}


@pytest.fixture(params=["token", "tpm"], ids=["pkcs11", "tpm"])
def device(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def homes(tmp_path):
    made = Home(tmp_path / "clinic")
    yield made
    made.close()


def test_both_ways_with_and_without_prekeys(device, homes, cast, tmp_path):
    clinic = Identity.create(
        "clinic", home=homes, passphrase=PIN, keystore=device.uri, at=AT - timedelta(days=1)
    )
    cast.clinic, bench = clinic, Bench(cast, tmp_path)
    cast.introduce(cast.lab, to=clinic)
    assert cast.lab.history.newest.card.agreement.suite == "x25519+mlkem768"
    assert clinic.history.newest.card.agreement.suite == "p256+mlkem768"

    # To the clinic, sealed to its card, and to prekeys of the card's suite.
    assert bench.read(bench.seal(MODEL)) == MODEL
    partner = cast.with_prekeys(clinic, cast.lab, count=2)
    assert {key.suite for key in partner.prekeys.keys} == {"p256+mlkem768"}
    package = bench.seal(MODEL, to=[partner])
    assert bench.read(package, remember=True) == MODEL
    assert len(clinic.prekeys.ids()) == 1  # spent

    # From the clinic, with a statement that it owns the model.
    package = bench.seal(MODEL, by=clinic, to=[cast.lab], statement=True)
    assert bench.read(package, by=cast.lab, sender=clinic) == MODEL

    # Rotated: what is on its way still opens, then the old keys go.
    on_its_way = bench.seal(MODEL)
    clinic.rotate(passphrase=PIN, at=AT)
    assert bench.read(on_its_way) == MODEL
    clinic.forget_old_keys(passphrase=PIN)
    clinic.close()

    # Another day, another process.
    cast.clinic = Identity.load("clinic", home=homes, passphrase=PIN)
    assert bench.read(bench.seal(MODEL)) == MODEL
    cast.clinic.close()


@pytest.fixture
def office(tmp_path, token):
    """The command line, as two organisations use it; the clinic's PIN is in a file."""
    files = {}
    for name, secret in (("lab", b"the passphrase of the lab"), ("clinic", PIN)):
        files[name] = tmp_path / f"{name}.secret"
        files[name].write_bytes(secret + b"\n")
        files[name].chmod(0o600)

    def run(name, *arguments, code=0):
        result = subprocess.run(
            [sys.executable, "-m", "counterseal", *arguments, "--json"],
            cwd=tmp_path,
            env={
                **os.environ,
                "COUNTERSEAL_HOME": str(tmp_path / f"home-{name}"),
                "COUNTERSEAL_PASSPHRASE_FILE": str(files[name]),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.returncode == code, result.stderr
        assert PIN.decode() not in result.stdout + result.stderr
        text = result.stdout if code == 0 else result.stderr
        return json.loads(text.splitlines()[-1])

    return run


def test_on_the_command_line(office, token, tmp_path):
    office("lab", "init", "lab")
    made = office("clinic", "id", "create", "clinic", "--keystore", token.uri)
    assert made["keystore"].startswith(f'PKCS#11 token "{token.label}", serial ')
    assert office("clinic", "id", "show")["keystore"] == made["keystore"]
    for us, them in (("lab", "clinic"), ("clinic", "lab")):
        key_id = office(them, "id", "show")["key_id"]
        office(us, "partner", "add", f"{them}.card", "--key-id", key_id)
    (tmp_path / "scan.bin").write_bytes(b"w" * 100_000)
    office("clinic", "id", "prekeys", "lab", "--count", "2")
    office("lab", "partner", "refresh", "clinic", "clinic-for-lab.prekeys")
    office("lab", "seal", "scan.bin", "--to", "clinic", "-o", "scan.sealed")
    office("clinic", "open", "scan.sealed", "--from", "lab", "-o", "opened.bin")
    assert (tmp_path / "opened.bin").read_bytes() == b"w" * 100_000

    assert token.objects() == 4
    office("clinic", "id", "rotate")
    office("lab", "partner", "refresh", "clinic", "clinic.card")
    assert token.objects() == 7
    assert office("clinic", "id", "forget-old-keys", "--yes")["forgotten"] == 1
    assert token.objects() == 4
    office("lab", "seal", "scan.bin", "--to", "clinic", "-o", "again.sealed")
    office("clinic", "open", "again.sealed", "--from", "lab", "-o", "again.bin")

    token.unplug()
    refused = office("clinic", "seal", "scan.bin", "--to", "lab", "-o", "never.sealed", code=3)
    assert refused["message"] == f'there is no token "{token.label}" here'
    assert not (tmp_path / "never.sealed").exists()


def test_moved_into_a_token(office, token, tmp_path):
    office("lab", "init", "lab")
    (tmp_path / "pin").write_bytes(PIN)
    (tmp_path / "pin").chmod(0o600)
    before = office("lab", "id", "show")
    office("lab", "id", "rotate", "--keystore", token.uri, "--new-passphrase-file", "pin")
    after = office("lab", "id", "show")
    assert before["identity"] == after["identity"]
    assert (before["keystore"], after["keystore"][:7]) == ("file, under a passphrase", "PKCS#11")
    office("lab", "id", "forget-old-keys", "--yes", "--passphrase-file", "pin")


def test_what_is_asked_for_is_called_by_its_name(office, token, tmp_path):
    office("clinic", "init", "clinic", "--keystore", token.uri)
    ours, theirs = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-m", "counterseal", "id", "rotate", "--home", "home-clinic"],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("COUNTERSEAL_")},
    )
    os.close(theirs)
    seen = b""
    while b"PIN of clinic:" not in seen:
        seen += os.read(ours, 4096)
    os.write(ours, PIN + b"\n")
    with contextlib.suppress(OSError):  # the end of a terminal
        while True:
            seen += os.read(ours, 4096)
    os.close(ours)
    assert asking.wait(timeout=60) == 0, seen
    assert PIN not in seen
