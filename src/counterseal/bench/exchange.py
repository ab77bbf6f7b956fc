"""`counterseal bench exchange`: all scenarios in one run, raw samples as a result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import counterseal
from counterseal.bench import machine
from counterseal.bench.contenders import Contest, write_model
from counterseal.bench.measures import (
    Contender,
    Samples,
    await_quiet,
    child,
    take_turns,
    warm_memory,
)
from counterseal.errors import CountersealError
from counterseal.jobs.recipients import add_recipient
from counterseal.jobs.seal import seal
from counterseal.trust.identity import Identity
from counterseal.trust.partner import Partner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Say = Callable[[str], None]

__all__ = ["FORMAT", "PROFILES", "SCENARIOS", "Profile", "run"]

FORMAT: Final = "counterseal-bench-exchange-1"
SCENARIOS: Final = ("seal", "open", "load", "memory", "add", "recipients", "start")
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Profile:
    size: int
    runs: int
    memory_sizes: tuple[int, ...]
    recipients: int
    starts: int
    patience: float  # seconds, in all, to wait for other processes to finish


PROFILES: Final = {
    "quick": Profile(2 * MIB, 3, (2 * MIB,), 10, 3, 0),
    "full": Profile(1024 * MIB, 7, (256 * MIB, 1024 * MIB, 2048 * MIB), 1000, 15, 600),
}


def run(
    profile: Profile,
    *,
    folder: Path,
    only: Sequence[str] = SCENARIOS,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Measure, and leave nothing behind. Raises CountersealError if there is no room."""
    unknown = set(only) - set(SCENARIOS)
    if unknown:
        raise CountersealError(
            f"there is no scenario {', '.join(sorted(unknown))}",
            hint=f"known: {', '.join(SCENARIOS)}",
        )
    _check_room(profile, folder, only)
    data: dict[str, Any] = {
        "format": FORMAT,
        "counterseal": counterseal.__version__,
        "machine": machine.facts(),
        "load_before": machine.load_average(),
        "settings": {**asdict(profile), "folder": str(folder), "only": list(only)},
    }
    with tempfile.TemporaryDirectory(prefix="counterseal-bench-", dir=folder) as place:
        if "memory" in only:
            data["memory"] = _memory(profile, Path(place), say)
        contest = Contest(Path(place), profile.size)
        data["package_bytes"] = contest.prepare()
        data["model_bytes"] = contest.model.stat().st_size
        data["timed"] = _timed(profile, contest, only, say)
        if "add" in only:
            data["add"] = _add(profile, contest, say)
        if "recipients" in only:
            data["recipients"] = _recipients(profile, Path(place), say)
        if "start" in only:
            data["start"] = _start(profile, say)
    data["missing"] = contest.missing
    data["load_after"] = machine.load_average()
    return data


def _check_room(profile: Profile, folder: Path, only: Sequence[str]) -> None:
    if not folder.is_dir():
        raise CountersealError(f"there is no folder {folder}", hint="--folder DIR, best a tmpfs")
    largest = max((*profile.memory_sizes, 0)) if "memory" in only else 0
    wanted = 4 * max(profile.size, largest) + 64 * MIB  # model, package, age file, output
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise CountersealError(
            f"{folder} has {free // MIB} MiB free; this needs {wanted // MIB} MiB",
            hint="--size 256MiB, or --folder with more room",
        )
    # The folder may be memory itself; loading and warming take three times the model on top.
    free = machine.free_memory()
    if free and free < wanted + 3 * profile.size:
        raise CountersealError(
            f"{free // MIB} MiB of memory are free; this needs "
            f"{(wanted + 3 * profile.size) // MIB} MiB",
            hint="--size 256MiB",
        )


def _timed(
    profile: Profile, contest: Contest, only: Sequence[str], say: Say
) -> dict[str, dict[str, Any]]:
    contenders: list[Contender] = []
    if "seal" in only:
        contenders += contest.sealing()
    if "open" in only:
        contenders += contest.opening()
    if "load" in only:
        contenders += contest.loading()
    patience = profile.patience

    def before() -> None:
        nonlocal patience
        patience -= await_quiet(at_most=patience)
        warm_memory(profile.size * 3 // 2)

    return _data(take_turns(contenders, runs=profile.runs, before=before, say=say))


def _memory(profile: Profile, place: Path, say: Say) -> list[dict[str, Any]]:
    results = []
    for size in profile.memory_sizes:
        say(f"memory at {size // MIB} MiB")
        with tempfile.TemporaryDirectory(dir=place) as folder:
            model = Path(folder, "model.safetensors")
            write_model(model, size)
            command = [sys.executable, "-m", "counterseal.bench.peak", str(model), folder]
            done = subprocess.run(
                command, env=_environment(), capture_output=True, text=True, check=False
            )
            if done.returncode:
                last = next(iter(done.stderr.splitlines()[-1:]), "no message")
                results.append({"size": size, "failure": last})
            else:
                results.append({"size": size, **json.loads(done.stdout)})
    return results


def _add(profile: Profile, contest: Contest, say: Say) -> dict[str, dict[str, Any]]:
    """One more recipient for a package of 1 MiB, and for the one of full size."""
    small_model, small = contest.folder / "small.safetensors", contest.folder / "small.sealed"
    write_model(small_model, MIB)
    seal(small_model, by=contest.lab, to=contest.clinic.card(), output=small, statement=False)
    others = iter(_partners(2 * (profile.runs + 1)))

    def add_one(package: Path) -> None:
        add_recipient(package, by=contest.lab, to=next(others))

    contenders = [
        Contender("small", lambda: add_one(small)),
        Contender("large", lambda: add_one(contest.sealed)),
    ]
    return _data(take_turns(contenders, runs=profile.runs, say=lambda turn: say(f"add: {turn}")))


def _recipients(profile: Profile, place: Path, say: Say) -> dict[str, Any]:
    """A tiny model for one and for many: the difference is the work of the stanzas.

    With prekeys every sealing spends one of each recipient, so there is one for every turn.
    """
    say(f"making {profile.recipients} partners")
    lab = Identity.create("lab")
    plain = _partners(profile.recipients)
    forward = _partners(profile.recipients, prekeys=profile.runs + 1, us=lab)
    model, sealed = place / "tiny.safetensors", place / "tiny.sealed"
    write_model(model, 4096)
    sizes: dict[str, int] = {}

    def contender(name: str, to: list[Partner]) -> Contender:
        def work() -> None:
            receipt = seal(model, by=lab, to=to, output=sealed, statement=False)
            sizes[name] = receipt.package_bytes

        return Contender(name, work, after=lambda: sealed.unlink(missing_ok=True))

    contenders = [
        contender("one", plain[:1]),
        contender("many", plain),
        contender("many with prekeys", forward),
    ]
    samples = take_turns(contenders, runs=profile.runs, say=lambda turn: say(f"recipients: {turn}"))
    return {"count": profile.recipients, "package_bytes": sizes, "timed": _data(samples)}


def _partners(count: int, *, prekeys: int = 0, us: Identity | None = None) -> list[Partner]:
    """Pinned partners; with `prekeys` one-time keys each, made for `us`."""
    at = datetime.now(UTC)
    pinned = []
    for i in range(count):
        one = Identity.create(f"partner-{i}", at=at)
        partner = Partner.pin(one.card(), key_id=one.key_id, at=at)
        if us is not None:
            bundle = one.make_prekeys(us.history, prekeys, at=at)
            partner = partner.with_prekeys(bundle, us=us.history, at=at)
        pinned.append(partner)
    return pinned


def _start(profile: Profile, say: Say) -> dict[str, list[float]]:
    """CPU seconds of whole processes, taking turns."""
    commands = {
        "python": ["-c", "pass"],
        "import": ["-c", "import counterseal"],
        "help": ["-m", "counterseal", "--help"],
    }
    results: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(profile.starts + 1):
        say(f"start: turn {turn}/{profile.starts}")
        for name, arguments in commands.items():
            used = child([sys.executable, *arguments], env=_environment())
            if turn:
                results[name].append(used)
    return results


def _environment() -> dict[str, str]:
    """So that a child finds the counterseal that is running, installed or not."""
    source = str(Path(counterseal.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source}


def _data(samples: dict[str, Samples]) -> dict[str, dict[str, Any]]:
    return {name: one.as_data() for name, one in samples.items()}
