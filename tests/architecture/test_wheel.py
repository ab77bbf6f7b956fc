"""The bare wheel, as a user gets it: no extras, a fresh environment, every public name.

A neighbour's release could not be imported, because a library that it had not declared used to
come along with another. The test environment has every library, so only a fresh one notices.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGED = ("LICENSE", "NOTICE", "README.md", "pyproject.toml")
OPTIONAL = ("h5py", "keras", "numpy", "onnx", "sklearn", "skops", "torch", "transformers")

NAMES = """
import counterseal, sys
for name in counterseal.__all__:
    getattr(counterseal, name)
print(counterseal.__file__)
print(len(counterseal.__all__))
"""

MODULES = """
import counterseal, importlib, pkgutil
for module in pkgutil.walk_packages(counterseal.__path__, "counterseal."):
    # What serves HTTP has base classes of Starlette and uvicorn: loaded when a gateway is served.
    if not module.name.endswith("__main__") and ".gateway.http." not in module.name:
        importlib.import_module(module.name)
"""

ABSENT = f"""
import importlib.util
print(*[name for name in {OPTIONAL!r} if importlib.util.find_spec(name)])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: in the checkout, setuptools would leave `build/` and pack it next time."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGED:
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    pip("wheel", "--no-deps", "--wheel-dir", source / "dist", source)
    (built,) = (source / "dist").glob("counterseal-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment that holds the wheel and what it asks for, no more."""
    venv = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    pip("--python", python, "install", "--constraint", ROOT / "constraints.txt", wheel)
    return python


def test_every_public_name_works_without_extras(python, tmp_path):
    place, count = run(python, NAMES, tmp_path).split()
    assert Path(place).is_relative_to(python.parents[1])
    assert int(count) > 0
    assert run(python, ABSENT, tmp_path).split() == []


def test_every_module_can_be_imported_without_extras(python, tmp_path):
    run(python, MODULES, tmp_path)


def test_the_command_is_installed(python, tmp_path):
    script = python.with_name("counterseal")
    for command in ([script, "--help"], [python, "-m", "counterseal", "--help"]):
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env=environment(), check=True
        )
        assert "Usage" in result.stdout


def test_the_wheel_holds_the_package_and_its_licenses_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    ours = [name for name in names if name.startswith("counterseal/")]
    info = [name.partition("/")[2] for name in names if ".dist-info/" in name]
    assert len(ours) + len(info) == len(names)
    assert {"counterseal/py.typed", "counterseal/trust/words.txt"} <= set(ours)
    assert {"licenses/LICENSE", "licenses/NOTICE"} <= set(info)
    source = {f"counterseal/{path.relative_to(ROOT / 'src/counterseal')}" for path in modules()}
    assert {name for name in ours if name.endswith(".py")} == source


def modules() -> list[Path]:
    return list((ROOT / "src" / "counterseal").rglob("*.py"))


def run(python: Path, code: str, folder: Path) -> str:
    """-I: neither the checkout nor the user's own packages are on the path."""
    result = subprocess.run(
        [python, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def environment() -> dict[str, str]:
    """Ours without what would let the checkout in."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


SELF = """
import pathlib, sys
import counterseal as cs
wheel, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
us, them = cs.Identity.create("release"), cs.Identity.create("user", hardware=True)
to_them = cs.Partner.pin(them.card(), key_id=them.key_id)
from_us = cs.Partner.pin(us.card(), key_id=us.key_id)
cs.seal(wheel.parent, by=us, to=to_them, output=folder / "wheel.sealed")
with cs.open_sealed(folder / "wheel.sealed", by=them, sender=from_us) as package:
    package.extract(folder / "opened")
assert (folder / "opened" / wheel.name).read_bytes() == wheel.read_bytes()
"""


def test_the_wheel_seals_and_opens_itself(python, wheel, tmp_path):
    script = tmp_path / "self.py"
    script.write_text(SELF)
    subprocess.run([python, script, wheel, tmp_path], cwd=tmp_path, env=environment(), check=True)
