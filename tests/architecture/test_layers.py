"""The house rules that a machine can keep: who imports whom, and what no file may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "counterseal"
MOST_LINES = 400

EDGE = "cli/main.py"  # where a defect may become an exit code instead of a traceback
# Other handlers that catch everything, each with its reason. An entry no longer needed fails.
CATCHES_ALL = {
    "exchange/workers.py": "hands what a thread raised to the thread that waits",
    "exchange/transports/https/lanes.py": "hands what a thread raised to the thread that waits",
    "models/formats/transformers.py": "tokenizers raises the bare Exception class for bad input",
    "gateway/pipeline.py": "whatever a model raises becomes a refusal that says nothing of it",
    "gateway/desk.py": "whatever a shadow raises is reported: nobody waits for it",
    "gateway/observer.py": "one bad row is reported, and must not end the watch",
    "gateway/http/server.py": "what a poll raises is reported; the next one may work",
    "jobs/workers.py": "the edge of a worker's process: it tells its parent why it ended",
}
UNPICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
PRIVATE_BYTES = {"seeds", "scalar", "pq_seed"}  # methods that hand out private keys in the clear
MAY_SEE_PRIVATE_BYTES = ("crypto/", "trust/")


class Module(NamedTuple):
    path: str  # relative to the package, with forward slashes
    text: str
    tree: ast.Module


Rule = Callable[[Module], Iterator[tuple[int, str]]]


def modules() -> list[Module]:
    texts = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    return [
        Module(path.relative_to(PACKAGE).as_posix(), text, ast.parse(text, path))
        for path, text in texts.items()
    ]


def says_what_it_is(module: Module) -> Iterator[tuple[int, str]]:
    if len((ast.get_docstring(module.tree) or "").strip(" .")) == 0:
        yield 1, "has no docstring"


def fits_in_one_reading(module: Module) -> Iterator[tuple[int, str]]:
    lines = module.text.count("\n")
    if lines > MOST_LINES:
        yield lines, f"has more than {MOST_LINES} lines"


def lets_defects_through(module: Module) -> Iterator[tuple[int, str]]:
    """Catching all is for cleaning up: the handler ends with `raise`."""
    if module.path not in {EDGE, *CATCHES_ALL}:
        for handler in catching_all(module.tree):
            yield handler.lineno, "catches everything and does not end with `raise`"


def cannot_unpickle(module: Module) -> Iterator[tuple[int, str]]:
    """The name of an error class is all that may be had from an unpickler."""
    for node, name in imports(module.tree):
        if name.partition(".")[0] in UNPICKLERS:
            uses = [*attributes_of("pickle", module.tree)]
            if name != "pickle" or isinstance(node, ast.ImportFrom) or not uses:
                yield node.lineno, f"imports {name}"
            for use in uses:
                if not use.attr.endswith("Error"):
                    yield use.lineno, f"uses pickle.{use.attr}"
    for node in ast.walk(module.tree):
        if is_call(node, "require") or is_call(node, "import_module"):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and argument.value in UNPICKLERS:
                    yield node.lineno, f"imports {argument.value}"


def leaves_private_bytes_alone(module: Module) -> Iterator[tuple[int, str]]:
    if module.path.startswith(MAY_SEE_PRIVATE_BYTES):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE_BYTES:
            yield node.lineno, f"uses .{node.attr}"
    for use in attributes_of("keyring", module.tree):
        if use.attr == "pack":
            yield use.lineno, "uses keyring.pack"
    for node, name in imports(module.tree):
        if name.endswith("keyring.pack"):
            yield node.lineno, "imports keyring.pack"


RULES: dict[str, Rule] = {
    "every module says what it is": says_what_it_is,
    "no module is too long to read at once": fits_in_one_reading,
    "no handler swallows what it does not know": lets_defects_through,
    "nothing can unpickle": cannot_unpickle,
    "private key bytes stay within trust and crypto": leaves_private_bytes_alone,
}


@pytest.mark.parametrize("sentence", RULES)
def test_rule(sentence):
    offences = [
        f"src/counterseal/{module.path}:{line}: {offence}"
        for module in modules()
        for line, offence in RULES[sentence](module)
    ]
    assert not offences, "\n".join([sentence, *offences])


BROKEN = {
    "a module without a docstring": (says_what_it_is, "x = 1"),
    "a docstring without a word": (says_what_it_is, '"""."""'),
    "a module of 401 lines": (fits_in_one_reading, "x = 1\n" * 401),
    "a bare except": (lets_defects_through, "try: f()\nexcept: pass"),
    "except Exception": (lets_defects_through, "try: f()\nexcept Exception: g()"),
    "Exception in a tuple": (lets_defects_through, "try: f()\nexcept (OSError, Exception): g()"),
    "re-raising only sometimes": (
        lets_defects_through,
        "try: f()\nexcept Exception as e:\n    if e.args: raise\n    g()",
    ),
    "importing pickle": (cannot_unpickle, "import pickle"),
    "importing from pickle": (cannot_unpickle, "from pickle import loads"),
    "using pickle": (cannot_unpickle, "import pickle\npickle.loads(b)\npickle.PickleError"),
    "another unpickler": (cannot_unpickle, "import joblib"),
    "an unpickler by its name": (cannot_unpickle, "require('joblib', extra='sklearn')"),
    "taking the seeds": (leaves_private_bytes_alone, "key.seeds()"),
    "taking the scalar later": (leaves_private_bytes_alone, "f = key.scalar"),
    "packing a key ring": (leaves_private_bytes_alone, "keyring.pack(ring)"),
    "importing pack": (
        leaves_private_bytes_alone,
        "from counterseal.trust.keystores.keyring import pack",
    ),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_the_rule_notices(sentence):
    rule, text = BROKEN[sentence]
    assert list(rule(Module("jobs/seal.py", text, ast.parse(text))))


def test_cleaning_up_and_raising_again_is_no_offence():
    text = "try: f()\nexcept BaseException:\n    undo()\n    raise"
    assert not list(lets_defects_through(Module("jobs/seal.py", text, ast.parse(text))))


def test_each_exemption_is_needed():
    needed = {module.path for module in modules() if any(catching_all(module.tree))}
    assert sorted(needed & CATCHES_ALL.keys()) == sorted(CATCHES_ALL)


def test_the_import_contracts_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [linter, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def catching_all(tree: ast.Module) -> Iterator[ast.ExceptHandler]:
    """Handlers of everything that do not end with a bare `raise`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            types = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {type_.id if isinstance(type_, ast.Name) else "" for type_ in types if type_}
            last = node.body[-1]
            raises = isinstance(last, ast.Raise) and last.exc is None
            if (node.type is None or names & {"Exception", "BaseException"}) and not raises:
                yield node


def imports(tree: ast.Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Each import with the full name of what it brings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def attributes_of(name: str, tree: ast.Module) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith(name):
            yield node


def is_call(node: ast.AST, name: str) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    return name == (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
