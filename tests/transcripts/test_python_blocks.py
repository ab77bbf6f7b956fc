"""The Python on our pages runs, and the reference pages leave nothing out."""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path

import click
import pytest

import counterseal
from counterseal.cli.main import main

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SIGNATURE = re.compile(r"^### (\w+)\n\n```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "```python\n" in page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_python_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        # As many empty lines before it as there are in the page: errors name the page's line.
        before = "\n" * text[: block.start(1)].count("\n")
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # foreign libraries warn when they load
            exec(compile(before + block[1], str(page), "exec"), namespace)  # noqa: S102


def test_every_public_name_has_a_section():
    headings = re.findall(
        r"^### (\w+)$", (ROOT / "docs/reference/python.md").read_text(), re.MULTILINE
    )
    assert sorted(headings) == sorted(counterseal.__all__)


def test_every_attribute_the_python_reference_names_is_there():
    """`identity.name  .key_id` in the signatures: the names must exist."""
    text = (ROOT / "docs/reference/python.md").read_text()
    for name, block in SIGNATURE.findall(text):
        thing = getattr(counterseal, name)
        if not isinstance(thing, type):
            continue
        code = re.sub(r"#.*", "", block)
        code = re.sub(r"\([^()]*(\([^()]*\))?[^()]*\)", "", code)
        for attribute in re.findall(r"(?<=\w)\.(\w+)|(?<=\s)\.(\w+)", code):
            wanted = attribute[0] or attribute[1]
            known = hasattr(thing, wanted) or wanted in getattr(thing, "__annotations__", {})
            source = Path(__import__(thing.__module__, fromlist=["x"]).__file__).read_text()
            assert known or f"self.{wanted} " in source, f"{name} has no {wanted}"


def test_every_parameter_of_a_function_is_in_its_signature():
    text = (ROOT / "docs/reference/python.md").read_text()
    unusual = {"cost"}  # of Argon2id: for tests
    for name, block in SIGNATURE.findall(text):
        thing = getattr(counterseal, name)
        if isinstance(thing, type):
            continue
        for parameter in inspect.signature(thing).parameters:
            assert parameter in unusual or re.search(rf"\b{parameter}\b", block), (
                f"{name}({parameter}) is not in the reference"
            )


def _commands(command: click.Command, context: click.Context) -> list[str]:
    found = [context.command_path]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found += _commands(child, click.Context(child, info_name=name, parent=context))
    return found


def test_every_command_is_in_the_command_reference():
    page = (ROOT / "docs/reference/cli.md").read_text()
    for path in _commands(main, click.Context(main, info_name="counterseal")):
        assert re.search(rf"^#+ {re.escape(path)}$", page, re.MULTILINE), f"{path} is missing"


def test_every_error_is_on_the_page_of_errors():
    page = (ROOT / "docs/reference/exit-codes-and-errors.md").read_text()
    for name in counterseal.__all__:
        thing = getattr(counterseal, name)
        if isinstance(thing, type) and issubclass(thing, counterseal.CountersealError):
            assert re.search(rf"\b{name}\b", page), f"{name} is missing"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text()
    for folder in ("tutorials", "how-to", "explanation"):
        for page in (ROOT / "docs" / folder).glob("*.md"):
            assert f"({folder}/{page.name})" in index, f"{page.name} is missing"
