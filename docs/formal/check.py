"""Run ProVerif on the models here, and say where a result is not the one that a model promises.

    python docs/formal/check.py                    all models, variations and controls
    python docs/formal/check.py handshake          one model, with what belongs to it
    python docs/formal/check.py --list             what would be run, and what is expected
    python docs/formal/check.py --show MODEL NAME  a variation as ProVerif gets it
    python docs/formal/check.py --write            also renew results.txt and README.md's tables

ProVerif 2.04 or newer is `proverif` on the PATH, or what PROVERIF names (README.md, "Run it").

A model says in front of each query what must come out and what that proves:

    (* content-secret = true: what is sealed for an honest recipient stays secret *)

`reached` is for the queries that show that a model is not empty. A *variation* is a model with a
few strings exchanged (controls.toml), so that nobody needs to compare two files: in one that
holds, the claims must survive the change; in a control, the change is a fault and the claims
named must fall. A claim `= true in "..."` is asked in that variation only.

Exit: 0 as promised, 1 not, 77 no ProVerif.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE: Final = Path(__file__).resolve().parent
MODELS: Final = ("guessing", "pairing", "handshake", "hiding", "package", "groups")
NO_PROVERIF: Final = 77  # what automake calls "skipped"
SECONDS: Final = 300  # for one run; all of them together take a minute and a half on two cores

CLAIM: Final = re.compile(
    r"\(\* (?P<name>[a-z][a-z0-9-]+) = (?P<expected>true|reached)"
    r'(?: in "(?P<only>[^"]+)")?: (?P<prose>[^*]+?) ?\*\)\s*(?P<text>[^;.]+)'
)
BLOCK: Final = re.compile(
    r"^query(?P<names>[^;]+);\n(?P<claims>.*?)\.\n\n", re.MULTILINE | re.DOTALL
)
USES: Final = re.compile(r"Uses: ([a-z, ]+)\.")
SUMMARY: Final = re.compile(r"Verification summary:(.*?)-----", re.DOTALL)
VERDICT: Final = re.compile(r"(is true|is false|cannot be proved)\.$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Claim:
    """One query. `only`: the variation in which alone it is asked."""

    name: str
    expected: str
    only: str | None
    prose: str


@dataclass(frozen=True, slots=True)
class Run:
    """A model, changed or not, and what must come out of it."""

    model: str
    variation: str  # empty: the model as it is
    because: str
    control: bool
    files: Mapping[str, str]
    expected: Mapping[str, str]  # in the order of ProVerif's results

    @property
    def title(self) -> str:
        return f"{self.model}, {self.variation}" if self.variation else self.model


@dataclass(frozen=True, slots=True)
class Outcome:
    run: Run
    found: Mapping[str, str]
    seconds: float
    trouble: str = ""

    @property
    def as_promised(self) -> bool:
        return not self.trouble and self.found == self.run.expected


def main() -> int:
    wanted = arguments()
    runs = [run for run in all_runs() if not wanted.models or run.model in wanted.models]
    if wanted.show:
        return show(*wanted.show)
    if wanted.list:
        for run in runs:
            print(f"{run.title}: " + ", ".join(f"{k} {v}" for k, v in run.expected.items()))
        return 0
    proverif = find()
    if proverif is None:
        print("no ProVerif: put it on the PATH or name it in PROVERIF", file=sys.stderr)
        return NO_PROVERIF
    outcomes, lines = [], []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for outcome in pool.map(lambda run: prove(run, proverif), runs):
            outcomes.append(outcome)
            lines += report(outcome)
            print("\n".join(report(outcome)), flush=True)
    wrong = [outcome for outcome in outcomes if not outcome.as_promised]
    spent = sum(outcome.seconds for outcome in outcomes)
    last = f"{len(outcomes)} runs, {len(wrong)} not as promised, {spent:.0f} s of ProVerif"
    print(last)
    if wanted.write:
        write(proverif, [*lines, last])
    return 1 if wrong else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="check the formal models with ProVerif")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--list", action="store_true", help="only say what would be run")
    parser.add_argument("--show", nargs=2, metavar=("MODEL", "NAME"), help="print a variation")
    parser.add_argument("--write", action="store_true", help="renew results.txt and README.md")
    found = parser.parse_args()
    if unknown := sorted(set(found.models) - set(MODELS)):
        parser.error(f"no such model: {', '.join(unknown)}")
    if found.write and found.models:
        parser.error("--write is for all models together")
    return found


def find() -> str | None:
    return os.environ.get("PROVERIF") or shutil.which("proverif")


def claims(source: str) -> list[Claim]:
    """In the order in which ProVerif answers: weak secrets, queries, equivalence."""
    found = [
        Claim(match["name"], match["expected"], match["only"], " ".join(match["prose"].split()))
        for match in CLAIM.finditer(source)
    ]
    if len({claim.name for claim in found}) != len(found):
        raise ValueError("two claims of one name")
    return found


def all_runs() -> list[Run]:
    """Every model, then what controls.toml makes of it."""
    variations = tomllib.loads((HERE / "controls.toml").read_text("utf-8"))
    runs = []
    for model in MODELS:
        runs.append(as_it_is(model))
        for kind in ("holds", "control"):
            runs += [
                vary(model, entry, variations["change"], control=kind == "control")
                for entry in variations[kind]
                if model in entry["of"]
            ]
    return runs


def load(model: str) -> dict[str, str]:
    """The model and the libraries it uses, by file name, in ProVerif's order."""
    source = (HERE / f"{model}.pv").read_text("utf-8")
    uses = USES.search(source)
    names = [] if uses is None else [f"{name.strip()}.pvl" for name in uses[1].split(",")]
    return {name: (HERE / name).read_text("utf-8") for name in names} | {f"{model}.pv": source}


def as_it_is(model: str) -> Run:
    files = load(model)
    asked = {c.name: c.expected for c in claims(files[f"{model}.pv"]) if c.only is None}
    return Run(model, "", "", control=False, files=ask(files, model, asked), expected=asked)


def vary(model: str, entry: Mapping[str, Any], shared: Mapping[str, Any], *, control: bool) -> Run:
    name, files = entry["name"], load(model)
    known = claims(files[f"{model}.pv"])
    for change in entry.get("changes", []):
        # A shared change may be about a library that this model does not use, but not all of it.
        if not [pair for pair in shared[change] if exchange(files, *pair)]:
            raise ValueError(f"{model}, {name}: {change} changes nothing")
    for old, new in entry.get("cut", []):
        if not exchange(files, old, new):  # a control that changes nothing would prove nothing
            raise ValueError(f"{model}, {name}: nothing to exchange: {old}")
    if control:
        asked = dict(entry["expect"])
    else:
        asked = {c.name: c.expected for c in known if c.only in {None, name}}
        if "ask" in entry:
            asked = {claim: result for claim, result in asked.items() if claim in entry["ask"]}
    order = [claim.name for claim in known]
    asked = {claim: asked[claim] for claim in sorted(asked, key=order.index)}
    because = " ".join(entry["because"].split())
    return Run(model, name, because, control, ask(files, model, asked), asked)


def exchange(files: dict[str, str], old: str, new: str) -> bool:
    """Wherever it is; whether it was there."""
    hit = [name for name, text in files.items() if old in text]
    for name in hit:
        files[name] = files[name].replace(old, new)
    return bool(hit)


def ask(files: dict[str, str], model: str, asked: Mapping[str, str]) -> dict[str, str]:
    """Leave only these queries in the model: each costs time."""
    source = files[f"{model}.pv"]

    def some(block: re.Match[str]) -> str:
        texts = [m["text"].strip() for m in CLAIM.finditer(block["claims"]) if m["name"] in asked]
        return f"query{block['names']};\n  " + ";\n  ".join(texts) + ".\n\n" if texts else "\n"

    source = BLOCK.sub(some, source)
    for claim in CLAIM.finditer(source):
        if claim["text"].startswith("weaksecret") and claim["name"] not in asked:
            source = source.replace(f"{claim['text']}.", "")
    return files | {f"{model}.pv": source}


def prove(run: Run, proverif: str) -> Outcome:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in run.files.items():
            Path(folder, name).write_text(text, "utf-8")
        command = [proverif]
        for name in run.files:
            command += ["-lib", name] if name.endswith(".pvl") else [name]
        try:
            made = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                encoding="utf-8",
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(run, {}, time.monotonic() - start, f"no answer in {SECONDS} s")
    seconds = time.monotonic() - start
    summary = SUMMARY.search(made.stdout)
    if summary is None:
        return Outcome(run, {}, seconds, made.stdout[-400:].strip() + made.stderr[-400:].strip())
    verdicts = VERDICT.findall(summary[1])
    if len(verdicts) != len(run.expected):
        return Outcome(run, {}, seconds, f"{len(verdicts)} results, {len(run.expected)} queries")
    words = {"is true": "true", "is false": "false", "cannot be proved": "unproved"}
    found = {}
    for (name, expected), verdict in zip(run.expected.items(), verdicts, strict=True):
        # ProVerif answers "event(E)" with "not event(E) is false" if E can happen.
        reached = expected == "reached" and verdict == "is false"
        found[name] = "reached" if reached else words[verdict]
    return Outcome(run, found, seconds)


def report(outcome: Outcome) -> list[str]:
    run = outcome.run
    kind = "control" if run.control else "holds" if run.variation else "model"
    lines = [f"{run.title} ({kind}, {outcome.seconds:.1f} s)"]
    if outcome.trouble:
        return [*lines, f"  WRONG  {outcome.trouble}"]
    for name, expected in run.expected.items():
        found = outcome.found[name]
        mark = "ok   " if found == expected else "WRONG"
        wanted = "" if found == expected else f", and {expected} was promised"
        lines.append(f"  {mark}  {name}: {found}{wanted}")
    return lines


def show(model: str, name: str) -> int:
    for run in all_runs():
        if (run.model, run.variation) == (model, name):
            for file, text in run.files.items():
                print(f"(* ==== {file} ==== *)\n{text}")
            return 0
    print(f"no such variation: {model}, {name}", file=sys.stderr)
    return 1


def tables() -> dict[str, str]:
    """The tables of README.md: of claims and of variations, from the models and controls.toml."""
    rows = ["| model | query | result | what it proves |", "|---|---|---|---|"]
    for model in MODELS:
        for claim in claims(load(model)[f"{model}.pv"]):
            where = f' in "{claim.only}"' if claim.only else ""
            rows.append(f"| {model} | `{claim.name}` | {claim.expected}{where} | {claim.prose} |")
    parts = {"claims": "\n".join(rows)}
    for title, control in (("variations", False), ("controls", True)):
        rows = ["| model | change | so | result |", "|---|---|---|---|"]
        for run in all_runs():
            if run.variation and run.control == control:
                fallen = [f"`{k}` {v}" for k, v in run.expected.items() if v not in CLAIMED]
                result = ", ".join(fallen) if control else f"all {len(run.expected)} as promised"
                rows.append(f"| {run.model} | {run.variation} | {run.because} | {result} |")
        parts[title] = "\n".join(rows)
    return parts


CLAIMED: Final = {"true", "reached"}


def readme(text: str) -> str:
    """README.md with its tables as they must be."""
    for name, table in tables().items():
        mark = f"<!-- {name} -->"
        before, _, rest = text.partition(f"{mark}\n")
        _, _, after = rest.partition(f"{mark}\n")
        text = f"{before}{mark}\n{table}\n{mark}\n{after}"
    return text


def digest() -> str:
    """Of all that decides what ProVerif gets."""
    files = sorted([*HERE.glob("*.pv"), *HERE.glob("*.pvl"), HERE / "controls.toml"])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def write(proverif: str, lines: list[str]) -> None:
    page = HERE / "README.md"
    page.write_text(readme(page.read_text("utf-8")), "utf-8")
    made = subprocess.run([proverif, "-help"], capture_output=True, encoding="utf-8", check=False)
    version = made.stdout.partition(".  ")[0].splitlines()[0].partition(". ")[0]
    head = (
        f"{version}. Written by check.py --write; seconds are wall clock, runs side by side.\n"
        f"Models and controls: sha256 {digest()}"
    )
    (HERE / "results.txt").write_text("\n".join([head, "", *lines, ""]), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
