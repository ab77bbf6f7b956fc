"""The models in docs/formal speak of what the code does: the same fields, in the same order.

Whether the models hold is ProVerif's to say: `python docs/formal/check.py`.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

FORMAL = Path(__file__).parents[2] / "docs" / "formal"
FIELDS = re.compile(r"\(\* fields of (counterseal[\w.]+):([^*]+?)\*\)", re.DOTALL)
CLAIM = re.compile(r"\(\* ([a-z][a-z0-9-]+) = (?:true|reached)")
SAID = [
    (model.stem, where, tuple(re.findall(r"\w+", names)))
    for model in sorted(FORMAL.glob("*.pv"))
    for where, names in FIELDS.findall(model.read_text())
]


def test_every_protocol_has_its_fields_in_a_model():
    assert {where for _, where, _ in SAID} >= {
        "counterseal.exchange.transcript.TRANSCRIPT_FIELDS",
        "counterseal.trust.pairing.TRANSCRIPT_FIELDS",
        "counterseal.exchange.header.Core",
        "counterseal.exchange.header.Header",
        "counterseal.trust.prekeys.PrekeyBundle",
        "counterseal.exchange.epoch.EpochDocument",
    }


@pytest.mark.parametrize(("model", "where", "names"), SAID, ids=lambda value: str(value)[:60])
def test_the_code_has_the_fields_that_the_model_has(model, where, names):
    module, _, attribute = where.rpartition(".")
    there = getattr(importlib.import_module(module), attribute)
    assert names == tuple(getattr(there, "__struct_fields__", there)), model


@pytest.fixture
def check(monkeypatch):
    spec = importlib.util.spec_from_file_location("formal_check", FORMAL / "check.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "formal_check", module)  # where its dataclasses look
    spec.loader.exec_module(module)
    return module


def test_the_readme_has_the_tables_that_the_models_make(check):
    text = (FORMAL / "README.md").read_text()
    assert check.readme(text) == text
    for model in FORMAL.glob("*.pv"):
        for claim in CLAIM.findall(model.read_text()):
            assert f"`{claim}`" in text, f"{model.stem}: {claim}"


def test_the_last_results_are_of_these_models_and_as_promised(check):
    """A changed model without a new run of ProVerif fails here: `check.py --write`."""
    text = (FORMAL / "results.txt").read_text()
    assert check.digest() in text
    assert "WRONG" not in text
    runs = check.all_runs()
    assert f"\n{len(runs)} runs, 0 not as promised" in text
    for run in runs:
        assert f"\n{run.title} (" in text


def test_the_checker_knows_what_must_come_out_of_every_run():
    done = subprocess.run(
        [sys.executable, FORMAL / "check.py", "--list"], capture_output=True, text=True, check=True
    )
    for model in FORMAL.glob("*.pv"):
        assert f"{model.stem}:" in done.stdout
    assert done.stdout.count(" false") > 20  # controls that must fail
