"""Run in a process of its own: how much memory sealing and opening take beyond what was there.

python -m counterseal.bench.peak MODEL FOLDER  ->  {"seal": bytes, "open": bytes}
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from counterseal.jobs.open import open_sealed
from counterseal.jobs.seal import seal
from counterseal.trust.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

RESET_PEAK: Final = "5"  # proc(5), clear_refs: VmHWM becomes the present resident size


def extra_memory(work: Callable[[], object]) -> int:
    """Highest resident size while `work` runs, less the resident size before it."""
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(model: Path, folder: Path) -> None:
    lab, clinic = Identity.create("lab"), Identity.create("clinic")
    sealed, opened = folder / "peak.sealed", folder / "peak.opened"

    def open_it() -> None:
        with open_sealed(sealed, by=clinic, sender=lab.card()) as package:
            package.extract(opened)

    found = {
        "seal": extra_memory(lambda: seal(model, by=lab, to=clinic.card(), output=sealed)),
        "open": extra_memory(open_it),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
