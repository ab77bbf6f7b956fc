"""Several workers: started, watched, started again, ended together. Each test forks for itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[3] / "src"
SECONDS = 30

CREW = """
import os, signal, sys, threading, time
from counterseal import errors
from counterseal.jobs.workers import run_workers

def print(*words):  # in one piece: several processes write to one file
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def say(text): print("say", text)
def ready(): print("ready")
def wait(number, ready):
    ready()
    try:
        while True: time.sleep(0.05)
    finally:
        print("left", number)
"""


class Crew:
    def __init__(self, path, script):
        self._out = (path / "out").open("w+b")
        self.mark = path / "mark"
        self.popen = subprocess.Popen(
            [sys.executable, "-c", CREW + script, self.mark],
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(SRC)},
        )

    @property
    def said(self):
        self._out.flush()
        return Path(self._out.name).read_text()

    def until(self, what):
        end = time.monotonic() + SECONDS
        while not what(self.said):
            assert time.monotonic() < end, self.said
            assert self.popen.poll() is None, self.said
            time.sleep(0.02)

    def finish(self):
        self.popen.wait(SECONDS)
        return self.said

    def close(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(SECONDS)
        self._out.close()


@pytest.fixture
def crew(tmp_path):
    made = []

    def start(script):
        made.append(Crew(tmp_path, script))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_all_are_ready_together_and_end_together(crew, how):
    one = crew("run_workers(wait, 3, say=say, ready=ready)")
    one.until(lambda said: "ready" in said)
    one.popen.send_signal(how)
    said = one.finish()
    assert one.popen.returncode == 0
    assert said.count("ready") == 1
    assert sorted(line for line in said.splitlines() if "left" in line) == [
        f"left {number}" for number in range(3)
    ]


def test_one_that_dies_is_replaced(crew):
    one = crew(
        """
def work(number, ready):
    print("begun", number, os.getpid())
    wait(number, ready)
run_workers(work, 2, say=say, ready=ready)
"""
    )
    one.until(lambda said: "ready" in said)
    first = next(line for line in one.said.splitlines() if line.startswith("begun 1"))
    os.kill(int(first.split()[2]), signal.SIGKILL)
    one.until(lambda said: said.count("begun 1") == 2)
    assert "worker 1 ended (-9)" in one.said
    one.popen.terminate()
    one.finish()
    assert one.popen.returncode == 0


def test_one_that_fails_while_it_serves_is_replaced_and_says_why(crew):
    one = crew(
        """
def work(number, ready):
    print("begun", number)
    ready()
    if number == 1:
        time.sleep(0.3)
        raise errors.TrustError("a disk went away")
    wait(number, lambda: None)
run_workers(work, 2, say=say, ready=ready)
"""
    )
    one.until(lambda said: said.count("begun 1") >= 2)
    assert "worker 1 ended (a disk went away)" in one.said
    one.popen.terminate()
    one.finish()
    assert one.popen.returncode == 0


def test_one_that_cannot_start_again_ends_all_with_its_reason(crew):
    one = crew(
        """
def work(number, ready):
    if os.path.exists(sys.argv[1]):
        raise errors.TrustError("the passphrase was changed")
    print("begun", os.getpid())
    wait(number, ready)
try: run_workers(work, 1, say=say, ready=ready)
except errors.CountersealError as error: print(type(error).__name__, error.message)
"""
    )
    one.until(lambda said: "ready" in said)
    one.mark.touch()
    os.kill(int(one.said.split()[1]), signal.SIGKILL)
    assert "TrustError the passphrase was changed" in one.finish()


def test_one_that_cannot_start_ends_all_with_its_reason(crew):
    one = crew(
        """
def work(number, ready):
    if number == 1: raise errors.TrustError("the passphrase is wrong", hint="try again")
    wait(number, ready)
try: run_workers(work, 2, say=say, ready=ready)
except errors.CountersealError as error: print(type(error).__name__, error.message, error.hint)
"""
    )
    said = one.finish()
    assert "TrustError the passphrase is wrong try again" in said
    assert "ready" not in said.replace("already", "")


def test_what_is_no_error_of_ours_is_said_in_one_line(crew):
    one = crew(
        """
def work(number, ready): raise KeyError("x")
try: run_workers(work, 1, say=say, ready=ready)
except errors.CountersealError as error: print(type(error).__name__, error.message)
"""
    )
    assert "CountersealError KeyError: 'x'" in one.finish()


def test_one_that_only_dies_before_it_is_ready_is_said_so(crew):
    one = crew(
        """
def work(number, ready): os._exit(3)
try: run_workers(work, 1, say=say, ready=ready)
except errors.CountersealError as error: print(error.message)
"""
    )
    assert "worker 0 ended before it was ready" in one.finish()


def test_a_worker_that_does_not_leave_is_ended(crew):
    one = crew(
        """
from counterseal.jobs import workers
workers._PATIENCE_SECONDS = 0.3
def work(number, ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready()
    while True: time.sleep(1)
run_workers(work, 1, say=say, ready=ready)
print("over")
"""
    )
    one.until(lambda said: "ready" in said)
    one.popen.terminate()
    assert "over" in one.finish()
