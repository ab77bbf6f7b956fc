"""The models in docs/formal speak of what the code does: the same fields, in the same order.

Whether the models hold is ProVerif's to say: `python docs/formal/check.py`.
"""

from __future__ import annotations

import importlib
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


def test_every_claim_stands_in_the_readme():
    readme = (FORMAL / "README.md").read_text()
    for model in FORMAL.glob("*.pv"):
        for claim in CLAIM.findall(model.read_text()):
            assert claim in readme, f"{model.stem}: {claim}"


def test_the_checker_knows_what_must_come_out_of_every_run():
    done = subprocess.run(
        [sys.executable, FORMAL / "check.py", "--list"], capture_output=True, text=True, check=True
    )
    for model in FORMAL.glob("*.pv"):
        assert f"{model.stem}:" in done.stdout
    assert done.stdout.count(" false") > 20  # controls that must fail
