"""counterseal version"""

from __future__ import annotations

import platform
from importlib import metadata

import click

from counterseal.cli.output import emit, table
from counterseal.cli.settings import Command


@click.command("version", cls=Command)
def command() -> None:
    """Print versions."""
    import counterseal

    facts: dict[str, object] = {"counterseal": counterseal.__version__, "package format": 1}
    facts["python"] = platform.python_version()
    for name in ("cryptography", "blake3", "click", "msgspec", "rfc8785"):
        facts[name] = metadata.version(name)
    emit(facts, table(facts))
