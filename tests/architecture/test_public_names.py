"""The front door: `counterseal.__all__` is the public interface, loaded on first use (PEP 562)."""

from __future__ import annotations

import subprocess
import sys

import pytest

import counterseal

HEAVY = ("numpy", "torch", "onnx", "sklearn", "keras", "cryptography", "click")


@pytest.mark.parametrize("name", counterseal.__all__)
def test_name_is_there(name):
    assert getattr(counterseal, name) is not None


def test_names_are_sorted_and_said_once():
    assert list(counterseal.__all__) == sorted(set(counterseal.__all__))


def test_dir_shows_every_name_before_it_was_used():
    said = fresh("print(*dir(counterseal))")
    assert set(counterseal.__all__) <= set(said.split())


def test_an_unknown_name_is_an_attribute_error_that_says_the_name():
    with pytest.raises(AttributeError, match="unseal"):
        _ = counterseal.unseal


def test_star_brings_exactly_the_public_names():
    said = fresh("names = {}; exec('from counterseal import *', names); print(*sorted(names))")
    assert set(said.split()) - {"__builtins__"} == set(counterseal.__all__)


def test_the_front_door_alone_loads_nothing_heavy():
    said = fresh(f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])")
    assert said.split() == []


def test_a_name_is_the_same_object_each_time():
    for name in counterseal.__all__:
        assert getattr(counterseal, name) is getattr(counterseal, name), name


def fresh(code: str) -> str:
    """What `code` prints in an interpreter that has just imported counterseal."""
    return subprocess.run(
        [sys.executable, "-c", f"import counterseal; {code}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
