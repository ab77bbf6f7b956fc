"""How fast a ledger takes entries that are durable, and how fast others verify them.

Beside it SQLite alone: the same bytes in the same batches, `synchronous=FULL`, one row each, and
nothing else. What the disk takes for a sync is in all of it: the folder says which disk.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import counterseal
from counterseal.bench import machine
from counterseal.bench.ledger_verified import verification
from counterseal.bench.measures import await_quiet
from counterseal.bench.processes import PASSPHRASE, environment, file_system, module
from counterseal.errors import CountersealError
from counterseal.jobs.ledger import open_ledger
from counterseal.ledger import entry as entries
from counterseal.ledger.entry import CharterRef, Record
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.ledger.ledger import Ledger

    Say = Callable[[str], None]

__all__ = ["FORMAT", "PROFILES", "Profile", "a_record", "run"]

FORMAT: Final = "counterseal-bench-ledger-1"
BATCHES: Final = (1, 16, 256)
THREADS: Final = 16
WRITERS: Final = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """`seconds` of each way to write in each turn; `entries` of the log that is verified;
    `patience` for other processes to be quiet before a turn."""

    runs: int
    seconds: float
    entries: int
    patience: float


PROFILES: Final = {
    "full": Profile(7, 1.0, 200_000, 5.0),
    "quick": Profile(2, 0.1, 4000, 0.0),
}


def a_record() -> Record:
    """As the gateway writes one for a call of a small model."""
    return Record(
        event="call",
        actor="22" * 32,
        partner="11" * 32,
        charter=CharterRef(id="c0" * 16, version=1),
        action="predict",
        purpose="diagnosis",
        model="33" * 32,
        session="44" * 32,
        decision="permit",
        policies=("permissions[0]",),
        quota=1000,
        rows=1,
        risk=0,
        input=bytes(400),
        output=bytes(200),
    )


def run(profile: Profile, *, folder: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Measure in a new private folder under `folder`, and leave nothing behind."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "counterseal": counterseal.__version__,
        "machine": machine.facts(),
        "load_before": machine.load_average(),
        "settings": {
            **asdict(profile),
            "folder": str(folder),
            "disk": file_system(folder),
            "sqlite": sqlite3.sqlite_version,
            "threads": THREADS,
        },
        "missing": [],
        "appends": {},
    }
    with (
        tempfile.TemporaryDirectory(prefix="counterseal-bench-", dir=folder) as place,
        ExitStack() as stack,
    ):
        site = _Site(Path(place), stack)
        ways = site.ways(profile.seconds)
        data["settings"]["entry_bytes"] = len(site.entry)
        for turn in range(profile.runs + 1):
            await_quiet(at_most=profile.patience)
            for name, way in ways.items():
                say(f"turn {turn}/{profile.runs}: {name}")
                found = way()
                if turn:  # the first one warms up
                    data["appends"].setdefault(name, []).append(found)
        data["verified"] = verification(
            Path(place),
            site.us,
            site.home,
            [a_record()] * profile.entries,
            runs=profile.runs,
            missing=data["missing"],
            say=say,
        )
    data["load_after"] = machine.load_average()
    return data


class _Waiting:
    """For one record to be durable."""

    def __init__(self) -> None:
        self.durable = threading.Event()

    def done(self, error: CountersealError | None, index: int | None) -> None:
        del error, index
        self.durable.set()


class _Site:
    def __init__(self, place: Path, stack: ExitStack) -> None:
        self._place, self._stack = place, stack
        self.home = Home(place / "home")
        self.us = Identity.create("lab", home=self.home, passphrase=PASSPHRASE)
        self._record = a_record()
        key = os.urandom(32)
        at = self.us.history.newest.card.created
        made = entries.make(self._record, id=bytes(16), key=key, at=at)
        self.entry = entries.encode(made)

    def _ledger(self, name: str, **more: Any) -> Ledger:
        ledger = open_ledger(name, by=self.us, home=self.home, **more)
        return self._stack.enter_context(ledger)

    def ways(self, seconds: float) -> dict[str, Callable[[], dict[str, float]]]:
        ledger, raw = self._ledger("alone"), self._sqlite()
        strict = self._ledger("strict", group_seconds=0)
        found: dict[str, Callable[[], dict[str, float]]] = {}
        for size in BATCHES:
            records, rows = [self._record] * size, [(self.entry,)] * size

            def ours(records: list[Record] = records) -> None:
                ledger.record_all(records)

            def theirs(rows: list[tuple[bytes]] = rows) -> None:
                with raw:
                    raw.execute("BEGIN IMMEDIATE")
                    raw.executemany("INSERT INTO entries (entry) VALUES (?)", rows)

            found[f"ledger/{size}"] = lambda w=ours, n=size: _repeat(w, n, seconds)  # type: ignore[misc]
            found[f"sqlite/{size}"] = lambda w=theirs, n=size: _repeat(w, n, seconds)  # type: ignore[misc]
        found["strict"] = lambda: self._strict(strict, seconds)
        found["two processes"] = lambda: self._shared(seconds)
        return found

    def _sqlite(self) -> sqlite3.Connection:
        place = self._place / "raw.db"
        raw = self._stack.enter_context(
            closing(sqlite3.connect(place, isolation_level=None, check_same_thread=False))
        )
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("CREATE TABLE entries (number INTEGER PRIMARY KEY, entry BLOB NOT NULL)")
        return raw

    def _strict(self, ledger: Ledger, seconds: float) -> dict[str, float]:
        """Threads of which each waits until its own record is durable."""
        counts = [0] * THREADS
        end = time.perf_counter() + seconds

        def reply(number: int) -> None:
            while time.perf_counter() < end:
                waiting = _Waiting()
                ledger.note(self._record, waiting.done)
                waiting.durable.wait()
                counts[number] += 1

        wall, cpu = time.perf_counter(), time.process_time()
        threads = [threading.Thread(target=reply, args=(one,)) for one in range(THREADS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        return {
            "entries": sum(counts),
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
        }

    def _shared(self, seconds: float) -> dict[str, float]:
        """Processes of which each writes batches of 16 into one ledger."""
        command = module("counterseal.bench.scribe", self.home.path, "shared", seconds)
        writers = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env=environment({}),
            )
            for _ in range(WRITERS)
        ]  # fmt: skip
        for one in writers:
            _line(one)  # it is ready
        for one in writers:
            if one.stdin is not None:
                one.stdin.write("go\n")
                one.stdin.flush()
        lines = [_line(one).split() for one in writers]
        for one in writers:
            one.communicate()
        return {
            "entries": sum(int(line[0]) for line in lines),
            "wall": max(float(line[1]) for line in lines),
            "cpu": sum(float(line[2]) for line in lines),
        }


def _repeat(work: Callable[[], None], size: int, seconds: float) -> dict[str, float]:
    count = 0
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        work()
        count += size
        if (took := time.perf_counter() - wall) >= seconds:
            return {"entries": count, "wall": took, "cpu": time.process_time() - cpu}


def _line(process: subprocess.Popen[str]) -> str:
    line = "" if process.stdout is None else process.stdout.readline().strip()
    if not line:
        raise CountersealError("a process that writes a ledger ended without a word")
    return line
