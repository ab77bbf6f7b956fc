"""Tokens to test with: SoftHSM2 and swtpm, the real programs, in folders of their own.

They prove the interface, not hardware: what they keep is in files. Both are Debian packages;
where they are missing the tests say so and are skipped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PIN = b"482913"
MODULE = next(
    (
        str(path)
        for path in map(Path, ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so"))
        if path.exists()
    ),
    "",
)


@dataclass
class SoftHsm:
    """A folder of tokens. One for each process, for SoftHSM reads its configuration once."""

    folder: Path
    count: int = field(default=0)

    def __post_init__(self):
        self.tokens = self.folder / "tokens"
        self.tokens.mkdir()
        self.configuration = self.folder / "softhsm2.conf"
        self.configuration.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )

    def new(self, label=None, *, pin=PIN):
        """A fresh token; returns its URI."""
        self.count += 1
        label = label or f"token {self.count}"
        before = set(self.tokens.iterdir())
        self._run("--init-token", "--free", "--label", label, "--pin", pin.decode())
        (made,) = set(self.tokens.iterdir()) - before
        return SoftToken(label, made)

    def _run(self, *arguments):
        subprocess.run(
            ["softhsm2-util", *arguments, "--so-pin", "12345678"],
            env=os.environ | {"SOFTHSM2_CONF": str(self.configuration)},
            check=True,
            capture_output=True,
        )


@dataclass
class SoftToken:
    label: str
    folder: Path

    @property
    def uri(self):
        return f"pkcs11:token={self.label.replace(' ', '%20')}?module-path={MODULE}"

    @property
    def drawer(self):
        return self.folder.parent.with_name(f"{self.folder.name} in a drawer")

    def unplug(self):
        self.folder.rename(self.drawer)

    def plug_in(self):
        self.drawer.rename(self.folder)

    def objects(self):
        """How many there are; whoever has the PIN would see them."""
        return len(list(self.folder.glob("*.object"))) - 1  # token.object is the token itself


class SoftTpm:
    """A TPM that listens on a socket. `--daemon` returns when it does."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="swtpm-"))  # a socket's path has to be short
        self.socket = self.folder / "tpm"
        self.pid = None
        self.start()

    @property
    def uri(self):
        return f"tpm:swtpm:path={self.socket}"

    def start(self):
        subprocess.run(
            [
                *(
                    "swtpm",
                    "socket",
                    "--tpm2",
                    "--daemon",
                    "--flags",
                    "not-need-init,startup-clear",
                ),
                *("--tpmstate", f"dir={self.folder}", "--pid", f"file={self.folder}/pid"),
                *("--server", f"type=unixio,path={self.socket}"),
                *("--ctrl", f"type=unixio,path={self.socket}.ctrl"),
                *("--log", f"file={self.folder}/log"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = int((self.folder / "pid").read_text())

    def kill(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            while Path(f"/proc/{self.pid}/stat").exists() and _runs(self.pid):
                os.sched_yield()
            self.pid = None

    def close(self):
        self.kill()
        shutil.rmtree(self.folder)

    def become(self, other):
        """Answer here with the seeds of another one. Neither may run."""
        for state in other.folder.glob("*.permall"):
            shutil.copy(state, self.folder)

    def forgive(self):
        """A TPM counts being switched off without notice as a wrong PIN."""
        from counterseal.trust.keystores.tss import Tpm
        from counterseal.trust.keystores.uri import parse

        chip = Tpm(parse(self.uri))
        with chip._connected() as connection:
            connection.dictionary_attack_lock_reset(chip.api.ESYS_TR.LOCKOUT)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory):
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed (extra hsm)")
    if not MODULE or not shutil.which("softhsm2-util"):
        pytest.skip("the Debian package softhsm2 is not installed")
    made = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(made.configuration)
    yield made
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def token(softhsm):
    """A fresh PKCS#11 token."""
    yield softhsm.new()
    log_out()


@pytest.fixture
def tpm():
    """A fresh TPM."""
    pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed (extra tpm)")
    if not shutil.which("swtpm"):
        pytest.skip("the Debian package swtpm is not installed")
    made = SoftTpm()
    yield made
    made.close()


def log_out():
    """End every session of this process: SoftHSM sees new tokens only when it starts."""
    from counterseal.trust.keystores import cryptoki

    for library in cryptoki._loaded.values():
        for login in list(library._logins.values()):
            login.users = 1
            library.logout(login)


def shelf(uri, pin=PIN):
    """A token by its URI, unlocked, as a keystore has it."""
    from counterseal.trust.keystores import pkcs11
    from counterseal.trust.keystores import tpm as tpms
    from counterseal.trust.keystores.uri import Pkcs11Uri, parse

    where = parse(uri)
    if isinstance(where, Pkcs11Uri):
        return pkcs11.unlock(where, pin, owner="lab")
    return tpms.unlock(where, pin)
