"""What a person at a terminal sees: prompts, questions, progress, Ctrl-C. A real pty each."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time

import pytest

SECRET = "correct horse battery"


class Terminal:
    """One command on a terminal of its own."""

    def __init__(self, folder, home, *arguments, environment=None) -> None:
        self.seen = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            variables = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSEAL")}
            variables |= {"COUNTERSEAL_HOME": str(folder / home), **(environment or {})}
            command = [sys.executable, "-m", "counterseal", *arguments]
            os.execve(sys.executable, command, variables)  # noqa: S606 - after fork on a pty

    def wait_for(self, pattern: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            assert self._read(end), f"{pattern!r} did not come:\n{self.seen}"

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def end(self, seconds: float = 30) -> int:
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def at(tmp_path):
    def start(home, *arguments, **environment):
        return Terminal(tmp_path, home, *arguments, environment=environment)

    return start


def make(at, name):
    terminal = at(name, "init", name)
    terminal.wait_for(f"New passphrase for {name}:")
    terminal.type(f"{SECRET}\n")
    terminal.wait_for("[Rr]epeat for confirmation:")
    terminal.type(f"{SECRET}\n")
    assert terminal.end() == 0, terminal.seen
    assert SECRET not in terminal.seen
    return re.search(r"[a-z]+(-[a-z]+){7}", terminal.seen)[0]


def test_two_people_meet_by_reading_words_to_each_other(at, tmp_path):
    words = make(at, "clinic")
    make(at, "lab")
    terminal = at("lab", "partner", "add", "clinic.card")
    terminal.wait_for("read the same words or digits to you")
    assert words in terminal.seen
    terminal.type("n\n")
    assert terminal.end() == 130
    assert "nothing was changed" in terminal.seen
    terminal = at("lab", "partner", "add", "clinic.card")
    terminal.wait_for("read the same words")
    terminal.type("y\n")
    assert terminal.end() == 0

    (tmp_path / "model").mkdir()
    with (tmp_path / "model" / "weights.bin").open("wb") as file:
        file.truncate(1 << 30)
    terminal = at("lab", "seal", "model", "--to", "clinic", "-o", "m.sealed")
    terminal.wait_for("Passphrase of lab:")
    terminal.type(f"{SECRET}\n")
    assert terminal.end(120) == 0, terminal.seen
    assert re.search(r"sealing +\d+ %", terminal.seen)
    (tmp_path / "m.sealed").unlink()

    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    quiet = {"COUNTERSEAL_PASSPHRASE_FILE": str(secret)}
    terminal = at(
        "lab", "seal", "model", "--to", "clinic", "-o", "q.sealed", "--no-progress", **quiet
    )
    assert terminal.end(120) == 0
    assert "%" not in terminal.seen
    (tmp_path / "q.sealed").unlink()

    terminal = at("lab", "seal", "model", "--to", "clinic", "-o", "c.sealed", **quiet)
    terminal.wait_for(r"sealing +\d+ %", 60)
    os.kill(terminal.pid, signal.SIGINT)
    assert terminal.end(60) == 130
    assert "nothing was changed" in terminal.seen
    assert not [p for p in tmp_path.iterdir() if "c.sealed" in p.name]


def test_a_wrong_passphrase_and_a_binary_on_the_terminal_are_refused(at, tmp_path):
    make(at, "lab")
    terminal = at("lab", "id", "rotate")
    terminal.wait_for("Passphrase of lab:")
    terminal.type("wrong\n")
    assert terminal.end() == 3
    assert "wrong passphrase" in terminal.seen
    terminal = at("lab", "seal", "-", "--to", "lab")
    assert terminal.end() == 2
    assert "a package is binary" in terminal.seen
