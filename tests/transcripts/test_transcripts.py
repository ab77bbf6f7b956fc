"""Sessions as users type them, and every command that a page shows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SESSIONS = sorted(HERE.glob("*.txt"))
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if page.exists() and "```console\n" in page.read_text()
)


PROGRAMS = ("mosquitto", "openssl", "softhsm2-util")


@pytest.fixture(autouse=True)
def _programs(request):
    """A page may use programs that `dev.py test` installs where it may."""
    page = next(iter(request.node.callspec.params.values()))
    for program in PROGRAMS:
        there = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if f"$ {program}" in page.read_text() and there is None:
            pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("session", SESSIONS, ids=lambda p: p.stem)
def test_the_session_goes_as_written(session, play_page):
    assert play_page(session) > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_command_a_page_shows_does_what_it_shows(page, play_page):
    assert play_page(page) > 0
