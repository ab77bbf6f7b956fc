"""What takes part in `bench exchange`: our verbs, the peers, and the bare work none can avoid."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.bench.measures import Contender
from counterseal.jobs.open import open_sealed
from counterseal.jobs.seal import seal
from counterseal.trust.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["TENSORS", "Contest", "write_model"]

TENSORS: Final = 16
PIECE_BYTES: Final = 1 << 20


def write_model(path: Path, size: int) -> None:
    """A safetensors file of 16 float32 tensors, `size` bytes in all, without torch."""
    each = size // TENSORS // 4 * 4
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for i in range(TENSORS):
        offsets = [i * each, (i + 1) * each]
        header[f"layer.{i}"] = {"dtype": "F32", "shape": [each // 4], "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    piece = os.urandom(PIECE_BYTES)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, TENSORS * each, PIECE_BYTES):
            file.write(piece[: TENSORS * each - start])


@dataclass(slots=True)
class Contest:
    """The files and keys of one run, and who takes part. Peers that are missing are `missing`."""

    folder: Path
    size: int
    lab: Identity = field(default_factory=lambda: Identity.create("lab"))
    clinic: Identity = field(default_factory=lambda: Identity.create("clinic"))
    missing: list[str] = field(default_factory=list)

    @property
    def model(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def sealed(self) -> Path:
        return self.folder / "model.sealed"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def prepare(self) -> int:
        """Write the model and its package; returns the package's size."""
        write_model(self.model, self.size)
        card = self.clinic.card()
        receipt = seal(self.model, by=self.lab, to=card, output=self.sealed, statement=False)
        return receipt.package_bytes

    def sealing(self) -> list[Contender]:
        found = [
            self._writes("cp", self._cp),
            self._writes("write only", self._write_only),
            self._writes("SHA-256 only", self._sha256_only),
            self._writes("seal", lambda: self._seal(statement=False)),
            self._writes("seal with statement", lambda: self._seal(statement=True)),
        ]
        if self._has_age():
            found.append(self._writes("age encrypt", lambda: self._age_encrypt(self.output)))
        return found

    def opening(self) -> list[Contender]:
        found = [self._writes("open", self._open)]
        if self._has_age():
            self._age_encrypt(self._age_file)
            found.append(self._writes("age decrypt", self._age_decrypt))
        return found

    def loading(self) -> list[Contender]:
        if find_spec("torch") is None or find_spec("safetensors") is None:
            self._miss("torch and safetensors: not installed (pip install 'counterseal[torch]')")
            return []
        peer = require("safetensors.torch", extra="torch")

        def load_and_clone() -> None:
            loaded = peer.load_file(self.model)
            _ = {name: tensor.clone() for name, tensor in loaded.items()}

        return [
            Contender("load_file and clone", load_and_clone),
            Contender("load", self._load),
            Contender("one tensor", self._one_tensor),
        ]

    def _writes(self, name: str, work: Callable[[], object]) -> Contender:
        # A fresh output every time: writing over an old one would spare the kernel the pages.
        return Contender(name, work, after=lambda: self.output.unlink(missing_ok=True))

    def _cp(self) -> None:
        _run("cp", self.model, self.output)

    def _write_only(self) -> None:
        piece = bytes(PIECE_BYTES)
        with self.output.open("wb", buffering=0) as file:
            for _ in range(0, self.size, PIECE_BYTES):
                file.write(piece)

    def _sha256_only(self) -> None:
        with self.model.open("rb", buffering=0) as file:
            hashlib.file_digest(file, "sha256")

    def _seal(self, *, statement: bool) -> None:
        card = self.clinic.card()
        seal(self.model, by=self.lab, to=card, output=self.output, statement=statement)

    def _open(self) -> None:
        with open_sealed(
            self.sealed, by=self.clinic, sender=self.lab.card(), again=True
        ) as package:
            package.extract(self.output)

    def _load(self) -> None:
        with open_sealed(
            self.sealed, by=self.clinic, sender=self.lab.card(), again=True
        ) as package:
            package.load()

    def _one_tensor(self) -> None:
        with open_sealed(
            self.sealed, by=self.clinic, sender=self.lab.card(), again=True
        ) as package:
            package.tensor(f"layer.{TENSORS // 2}")

    @property
    def _age_file(self) -> Path:
        return self.folder / "model.age"

    @property
    def _age_key(self) -> Path:
        return self.folder / "age.key"

    def _has_age(self) -> bool:
        if shutil.which("age") is None or shutil.which("age-keygen") is None:
            self._miss("age: not installed (Debian package age)")
            return False
        if not self._age_key.exists():
            _run("age-keygen", "-o", self._age_key)
        return True

    def _age_encrypt(self, output: Path) -> None:
        recipient = self._age_key.read_text().split("public key:")[1].split()[0]
        _run("age", "-r", recipient, "-o", output, self.model)

    def _age_decrypt(self) -> None:
        _run("age", "-d", "-i", self._age_key, "-o", self.output, self._age_file)

    def _miss(self, line: str) -> None:
        if line not in self.missing:
            self.missing.append(line)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
