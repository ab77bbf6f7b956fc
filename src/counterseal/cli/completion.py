"""counterseal completion"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from counterseal.cli.settings import Command


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
      counterseal completion bash > ~/.local/share/bash-completion/completions/counterseal
    """
    from counterseal.cli.main import main

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(main, {}, "counterseal", "_COUNTERSEAL_COMPLETE").source())
