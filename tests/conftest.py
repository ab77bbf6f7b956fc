"""`tests/support` becomes importable (`import workshop`), and a cast of identities for each test."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "support"))

import workshop
from postgres import postgres, postgres_cluster  # noqa: F401 - fixtures
from tokens import softhsm, token, tpm  # noqa: F401 - fixtures

# A busy machine is slow, not wrong: no test here asserts a time.
settings.register_profile(
    "counterseal", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("counterseal")


@pytest.fixture
def cast():
    """lab (sender), clinic and bank (recipients), rival (a third party with keys of its own)."""
    return workshop.Cast()


@pytest.fixture
def bench(cast, tmp_path):
    """The cast with a folder to work in."""
    return workshop.Bench(cast, tmp_path)
