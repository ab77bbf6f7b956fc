"""Play transcripts: what a reader would type, with what they would see.

In a transcript (a `.txt` here, or a ```console block in any Markdown page)

    lab$ counterseal init lab          a command typed at the lab; every name is an
    $ ls                               organisation with a home of its own, `$` alone is "me"
    some output                        what stdout and stderr show, in order
    ...                                alone: any number of lines; inside a line: anything
    [3]                                the exit code, if it is not 0
    > more                             goes on with the command above
    lab$ counterseal receive --follow &    one program that goes on beside the others; what is shown
                                       below it is what it had printed when the next command was
                                       typed

All blocks of a page are one session in one folder. Key ids, digests, dates, sizes of speed and
the like differ from run to run: they only have to look alike, and a key id that the page shows
is translated, wherever a later command uses it, into the one that really came out. The same
goes for the ports 8443 and 8883: several pages are played at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

FENCE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^(?P<who>[a-z]*)\$ (?P<command>.*)$")
SENTINEL = "--- end of command, exit "
CHANGING = (
    (re.compile(r"\b[a-z]{3,8}(?:-[a-z]{3,8}){7}\b"), "<words>"),
    (re.compile(r"\b\d{5}(?: \d{5}){5}\b"), "<digits>"),
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "<hex>"),
    (re.compile(r"\b\d{1,4}(?:-[a-z]{3,8}){3,4}\b"), "<code>"),  # of a pairing
    (re.compile(r"\b20\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?"), "<date>"),
)


@dataclass
class Step:
    who: str
    command: str
    line: int
    expected: list[str] = field(default_factory=list)
    code: int = 0


def steps_of(text: str, first_line: int = 1) -> list[Step]:
    steps: list[Step] = []
    for number, line in enumerate(text.splitlines(), first_line):
        prompt = PROMPT.match(line)
        if prompt:
            steps.append(Step(prompt["who"] or "me", prompt["command"], number))
        elif not steps:
            assert not line.strip(), f"line {number}: output before any command"
        elif line.startswith("> ") and not steps[-1].expected:
            steps[-1].command += "\n" + line[2:]
        elif re.fullmatch(r"\[\d+\]", line):
            steps[-1].code = int(line[1:-1])
        else:
            steps[-1].expected.append(line)
    for step in steps:
        while step.expected and not step.expected[-1].strip():
            step.expected.pop()
    return steps


def steps_of_page(page: Path) -> list[Step]:
    text = page.read_text()
    if page.suffix == ".txt":
        return steps_of(text)
    found: list[Step] = []
    for block in FENCE.finditer(text):
        found += steps_of(block[1], text[: block.start(1)].count("\n") + 1)
    return found


class Player:
    """One shell session in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, str] = {}
        self.ports = {"8443": free_port(), "8883": free_port()}
        self.beside = 0
        self.secret = folder / ".passphrase"
        self.secret.write_text("correct horse battery staple\n")
        self.secret.chmod(0o600)
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("COUNTERSEAL_", "PYTEST"))
        }
        environment |= {
            "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}:/usr/sbin",
            "HF_HUB_OFFLINE": "1",
            "KERAS_BACKEND": "torch",
            "TOKENIZERS_PARALLELISM": "false",
            "COLUMNS": "80",
        }
        self.shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            text=True,
        )

    def play(self, step: Step) -> None:
        command = self.translated(step.command)
        for shown, real in self.seen.items():
            command = command.replace(shown, real)
        if command.endswith(" &"):
            self.play_beside(step, command)
            return
        code, lines = self.run(step, command)
        where = f"line {step.line}: {step.who}$ {step.command}"
        shown = "\n".join(lines)
        assert code == step.code, f"{where}\nexit code {code}, not {step.code}\n{shown}"
        expected = [self.translated(line) for line in step.expected]
        assert self.matches(expected, lines), (
            f"{where}\n--- the page says\n" + "\n".join(step.expected) + f"\n--- came out\n{shown}"
        )

    def play_beside(self, step: Step, command: str) -> None:
        """Start it, and go on when it has printed what the page shows."""
        self.beside += 1
        output = self.folder / f".beside-{self.beside}"
        inner = command.removesuffix(" &")
        # `exec`: the job is the program itself, and no shell that would outlive or outdie it.
        code, lines = self.run(step, f"exec {inner} > {output} 2>&1 &")
        assert code == 0, lines
        expected = [self.translated(line) for line in step.expected]
        deadline = time.monotonic() + 30
        while True:
            lines = output.read_text().splitlines() if output.exists() else []
            if self.matches(expected, [line.rpartition("\r")[2] for line in lines]):
                return
            assert time.monotonic() < deadline, (
                f"line {step.line}: {step.who}$ {step.command}\n--- came out\n" + "\n".join(lines)
            )
            time.sleep(0.05)

    def translated(self, text: str) -> str:
        for shown, real in self.ports.items():
            text = re.sub(rf"\b{shown}\b", str(real), text)  # not in the middle of a digest
        return text

    def run(self, step: Step, command: str) -> tuple[int, list[str]]:
        """Type a command; its exit code and what it printed."""
        home = self.folder / f".home-{step.who}"
        script = (
            f"export COUNTERSEAL_HOME={home} COUNTERSEAL_PASSPHRASE_FILE={self.secret}\n"
            f"{command}\n"
            f'echo; echo "{SENTINEL}$?"\n'
        )
        # `$?` must be the command's: keep it before the empty echo.
        script = script.replace('echo; echo "', 'code=$?; echo; echo "').replace('$?"', '$code"')
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        self.shell.stdin.write(script)
        self.shell.stdin.flush()
        lines: list[str] = []
        for line in self.shell.stdout:
            if line.startswith(SENTINEL):
                code = int(line[len(SENTINEL) :])
                break
            lines.append(line.rstrip("\n").rpartition("\r")[2])
        else:
            pytest.fail(f"line {step.line}: the shell ended")
        while lines and not lines[-1].strip():
            lines.pop()
        return code, lines

    def matches(self, expected: list[str], actual: list[str]) -> bool:
        if not expected:
            return not actual
        if expected[0].strip() == "...":
            return any(self.matches(expected[1:], actual[n:]) for n in range(len(actual) + 1))
        return (
            bool(actual)
            and self.line_matches(expected[0], actual[0])
            and self.matches(expected[1:], actual[1:])
        )

    def line_matches(self, expected: str, actual: str) -> bool:
        pattern = ".*".join(re.escape(part) for part in _general(expected).split("..."))
        if not re.fullmatch(pattern, _general(actual).rstrip()):
            return False
        for kind, _ in CHANGING[:4]:
            shown, real = kind.findall(expected), kind.findall(actual)
            if len(shown) == len(real):
                self.seen.update(zip(shown, real, strict=True))
        return True

    def close(self) -> None:
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.shell.stdin.write("kill $(jobs -p) 2>/dev/null; wait\n")
        self.shell.stdin.close()
        self.shell.stdout.close()
        self.shell.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _general(line: str) -> str:
    for kind, name in CHANGING:
        line = kind.sub(name, line)
    return line.rstrip()


@pytest.fixture
def play_page(tmp_path):
    """Play every console block of a page, in order, in one session."""
    player = Player(tmp_path)

    def play(page: Path) -> int:
        steps = steps_of_page(page)
        for step in steps:
            player.play(step)
        return len(steps)

    yield play
    player.close()
