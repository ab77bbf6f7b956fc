"""Fuzz the parsers with Atheris (libFuzzer), each in a process of its own.

    python tests/fuzz/run.py --target all --seconds 10
    python tests/fuzz/run.py --target header --seconds 3600 --corpus corpus/

A crash (anything but CountersealError, or more than 2 GiB, or more than 20 s for one input)
ends with exit code 1 and the file that made it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass
class Result:
    target: str
    ok: bool
    runs: int
    output: str


def fuzz(target, seconds, corpus=None):
    """Fuzz one target for some seconds in a child process."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(corpus or folder) / target
        place.mkdir(parents=True, exist_ok=True)
        artifacts = Path(folder) / "crash-"
        command = [sys.executable, str(HERE / "run.py"), "--child", target, str(place)]
        command += [
            f"-max_total_time={seconds}",
            "-max_len=65536",
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            f"-artifact_prefix={artifacts}",
        ]
        paths = [str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False,
            timeout=seconds + 120,
        )  # fmt: skip
        output = done.stdout + done.stderr
        for artifact in Path(folder).glob("crash-*"):
            output += f"\n{artifact.name}: {artifact.read_bytes()[:2000].hex()}"
    output = "\n".join(x for x in output.splitlines() if not x.startswith("INFO: Instr"))
    runs = re.search(r"stat::number_of_executed_units: (\d+)", output)
    return Result(target, done.returncode == 0, int(runs[1]) if runs else 0, output)


def child(target, place, flags):
    import atheris

    with atheris.instrument_imports(include=["counterseal"]):
        sys.path.insert(0, str(HERE))
        import targets
    beginnings = targets.seeds()[target] + targets.BEGINNINGS.get(target, [])
    for number, seed in enumerate(beginnings):
        (Path(place) / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *flags, place], lambda data: targets.call(target, data))
    atheris.Fuzz()


def main():
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4:])
        return 0
    sys.path.insert(0, str(HERE))
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--corpus")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    chosen = list(TARGETS) if arguments.target == "all" else [arguments.target]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(
            pool.map(lambda name: fuzz(name, arguments.seconds, arguments.corpus), chosen)
        )
    for result in results:
        print(f"{result.target:14} {'ok' if result.ok else 'CRASH':6} {result.runs:9} runs")
        if not result.ok:
            print(result.output[-6000:])
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
