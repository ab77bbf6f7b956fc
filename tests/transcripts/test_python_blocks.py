"""Every ```python block of a page runs, in order, in one namespace and an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import counterseal as cs
from counterseal.cli import reference
from counterseal.cli.main import _COMMANDS

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if FENCE.search(page.read_text())
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_python_a_page_shows_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    names: dict[str, object] = {"__name__": "page"}
    for block in FENCE.finditer(text):
        line = text[: block.start(1)].count("\n")
        code = compile("\n" * line + block[1], str(page), "exec")
        exec(code, names)  # noqa: S102 - our own documentation


@pytest.mark.parametrize("name", cs.__all__)
def test_every_public_name_is_in_the_reference(name):
    text = (ROOT / "docs" / "reference" / "python.md").read_text()
    assert re.search(rf"^### {name}$|\*\*{name}\*\*", text, re.MULTILINE)


def test_every_command_is_in_the_reference():
    text = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert [c for c in _COMMANDS if f"## counterseal {c}\n" not in text] == []
    assert text == reference.markdown(), "python -m counterseal.cli.reference > docs/reference/cli.md"


def test_the_one_line_of_each_command_is_its_own_first_line():
    from importlib import import_module

    for name, (module, line) in _COMMANDS.items():
        command = import_module(f"counterseal.cli.{module}").command
        assert command.help.splitlines()[0] == line, name
