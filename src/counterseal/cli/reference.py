"""The command reference as Markdown, from the commands themselves: docs/reference/cli.md."""

from __future__ import annotations

import click

from counterseal.cli.main import main
from counterseal.cli.settings import Settings

__all__ = ["markdown"]


def markdown() -> str:
    """Every command's help, in the order of `counterseal --help`."""
    root = click.Context(main, info_name="counterseal", obj=Settings(), max_content_width=100)
    sections = ["# Command reference", "", "Written by `python -m counterseal.cli.reference`.", ""]
    sections += _section(root, main, depth=2)
    return "\n".join(sections).rstrip() + "\n"


def _section(context: click.Context, command: click.Command, *, depth: int) -> list[str]:
    lines = [f"{'#' * depth} {context.command_path}", "", "```text"]
    lines += [command.get_help(context).rstrip(), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                inner = click.Context(child, info_name=name, parent=context, max_content_width=100)
                lines += _section(inner, child, depth=min(depth + 1, 4))
    return lines


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
