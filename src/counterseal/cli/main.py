"""The root command. Commands load when they are called; `--help` loads none of them."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from counterseal.cli.output import fail
from counterseal.cli.settings import Group, Settings, _globals
from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]

# name -> (module, one line for --help); tests hold the line against the command's own.
_COMMANDS: Final = {
    "init": ("init", "Make an identity and its card."),
    "seal": ("seal", "Seal a model so that only the partners named can open it."),
    "open": ("open", "Open a package that a partner sealed for us."),
    "send": ("send", "Send a sealed package to a partner."),
    "receive": ("receive", "Receive packages, and receipts for what we sent."),
    "mailbox": ("mailbox", "Store and forward for partners who cannot reach each other."),
    "inspect": ("inspect", "Say what a package or card is; needs no key."),
    "id": ("id", "Our identity: show, rotate, revoke, back up."),
    "partner": ("partner", "Partners: meet one, pin a card, refresh it, list."),
    "charter": ("charter", "Charters: write, sign and compare what a partner may do."),
    "serve": ("serve", "Offer models by API under charters that both sides signed."),
    "session": ("session", "Sessions at a partner's gateway: open, show, close."),
    "call": ("call", "Call a partner's model within a session."),
    "gateway": ("gateway", "Our gateway: usage, revocation, versions."),
    "ledger": ("ledger", "Ledgers: show, verify, prove and export what happened."),
    "bench": ("bench", "Measure this machine against peers and baselines."),
    "doctor": ("doctor", "Check this installation, home folder and keys."),
    "version": ("version", "Print versions."),
    "completion": ("completion", "Print the completion script of a shell."),
}


class _Lazy(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"counterseal.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS:
            from difflib import get_close_matches

            close = get_close_matches(args[0], _COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.pass_context
def main(context: click.Context) -> None:
    """Share AI models with partners without giving them away.

    \b
      counterseal init lab                          make an identity, write lab.card
      counterseal partner add clinic.card           pin a partner's card
      counterseal seal model/ --to clinic           only the clinic can open it
      counterseal open model.sealed --from lab      verified before anything is used

    \b
    Exit codes: 0 done, 1 failed, 2 usage, 3 not trusted, 4 tampered, 5 charter refused,
    6 extra missing, 7 peer misbehaved, 130 interrupted.
    """
    context.ensure_object(Settings)


main.params = [p for p in main.params if not getattr(p, "hidden", False)] + _globals(hidden=False)


def run(arguments: Sequence[str] | None = None) -> None:
    """The entry point: run a command and end the process with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: list[str]) -> int:
    # Before parsing, so that usage errors are JSON as well when asked for.
    as_json = "--json" in arguments
    state = Settings(json=as_json)
    try:
        code: Any = main.main(arguments, "counterseal", standalone_mode=False, obj=state)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as no_arguments:
        click.echo(no_arguments.format_message(), err=True)
        return no_arguments.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("\ncounterseal: interrupted; nothing was changed", err=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # the process edge: nobody sees a traceback unless asked
        if state.verbose:
            raise
        known = _known(error)
        fail(known, as_json=as_json)
        return known.exit_code
    return code if isinstance(code, int) else 0


def _known(error: Exception) -> CountersealError:
    """Any error as one of ours: a message, a hint, an exit code."""
    if isinstance(error, CountersealError):
        return error
    if isinstance(error, click.UsageError):
        usage = error.ctx.get_usage() if error.ctx else None
        return UsageError(error.format_message(), hint=usage)
    if isinstance(error, OSError):
        return _from_os(error)
    return CountersealError(
        f"unexpected {type(error).__name__}: {error}",
        hint="this is a bug in counterseal; -v shows where",
    )


class UsageError(CountersealError):
    exit_code = 2


def _from_os(error: OSError) -> CountersealError:
    """What the system refused, as a sentence."""
    hints = {
        errno.EEXIST: "choose another output, or --force to replace a file",
        errno.ENOSPC: "nothing was left behind; free some space and try again",
        errno.EACCES: "check the permissions",
        errno.ENOENT: None,
    }
    reason = error.strerror or str(error)
    message = f"{error.filename}: {reason.lower()}" if error.filename else reason
    number = errno.EEXIST if isinstance(error, FileExistsError) else error.errno
    return CountersealError(message, hint=hints.get(number or 0))
