"""What every command shares: global options, passphrases, the identity to act as."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import PartnerBook

__all__ = [
    "Command",
    "Group",
    "Settings",
    "identity_option",
    "passphrase_option",
    "settings",
    "stale_option",
]


@dataclass(slots=True)
class Settings:
    """Global options; they may stand before or after the command's name."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    yes: bool = False
    progress: bool = True
    home_path: str | None = None
    _home: Home | None = None

    @property
    def home(self) -> Home:
        """One object for the whole command: two would be two connections to one store."""
        from counterseal.trust.home import Home

        if self._home is None:
            self._home = Home.locate(self.home_path)
        return self._home

    def partners(self) -> PartnerBook:
        from counterseal.trust.partner import PartnerBook

        return PartnerBook(self.home.store)

    def identity(self, name: str | None, passphrase_file: str | None) -> Identity:
        """Unlock the identity to act as: `--as`, or the only one there is."""
        from counterseal.trust.identity import Identity

        home = self.home
        chosen = name or home.only_identity()
        Identity.load_history(chosen, home=home)  # a wrong name must not ask for a passphrase
        secret = read_passphrase(passphrase_file, secret_of(chosen))
        return Identity.load(chosen, home=home, passphrase=secret)


def settings() -> Settings:
    """The settings of the running command."""
    root = click.get_current_context().find_root()
    return root.ensure_object(Settings)


def secret_of(name: str) -> str:
    """What to ask for: the PIN of a token is not the passphrase of a file."""
    from counterseal.trust.identity import Identity

    asked = Identity.keystore_of(name, home=settings().home).asks_for
    return f"{asked[:1].upper()}{asked[1:]} of {name}"


def place_of(name: str) -> str:
    """Where the keys of one of our identities are."""
    from counterseal.trust.identity import Identity

    return Identity.keystore_of(name, home=settings().home).place


def read_new_secret(
    file: str | None,
    name: str,
    keystore: str | None,
    *,
    option: str = "--passphrase-file FILE [env COUNTERSEAL_PASSPHRASE_FILE]",
) -> bytes:
    """A passphrase for new keys, a PIN for new keys in a TPM, or the PIN that a token has."""
    from counterseal.trust.keystores import uri

    if keystore in {None, "file"}:
        return read_passphrase(file, f"New passphrase for {name}", confirm=True, option=option)
    where = uri.parse(str(keystore))  # what is wrong with it should show before a PIN is typed
    if isinstance(where, uri.Pkcs11Uri):
        return read_passphrase(file, f'PIN of the token "{where.token}"', option=option)
    return read_passphrase(file, f"New PIN for {name}", confirm=True, option=option)


def read_passphrase(
    file: str | None,
    prompt: str,
    *,
    confirm: bool = False,
    option: str = "--passphrase-file FILE [env COUNTERSEAL_PASSPHRASE_FILE]",
) -> bytes:
    """From a file that only its owner can read, or from the terminal; never from argv."""
    if file is not None:
        from counterseal.trust import atomic

        return atomic.read_secret(Path(file), what="passphrase file")
    if not sys.stdin.isatty():
        raise CountersealError(
            "a passphrase is needed and there is no terminal to ask on",
            hint=option,
        )
    text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return text.encode()


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            setattr(context.find_root().ensure_object(Settings), name, value)

    return callback


def _globals(*, hidden: bool) -> list[click.Parameter]:
    def flag(*names: str, to: str, text: str, value: bool = True) -> click.Option:
        return click.Option(
            [*names, f"_{to}"],
            is_flag=True,
            flag_value=value,
            default=None,
            expose_value=False,
            hidden=hidden,
            help=text,
            callback=_set(to),
        )

    home = click.Option(
        ["--home", "_home"],
        type=click.Path(),
        metavar="DIR",
        expose_value=False,
        hidden=hidden,
        help="Where identities and partners are kept.  [env: COUNTERSEAL_HOME]",
        callback=_set("home_path"),
    )
    return [
        flag("--json", to="json", text="Print data and errors as JSON."),
        flag("-q", "--quiet", to="quiet", text="Say nothing but data and errors."),
        flag("-v", "--verbose", to="verbose", text="Show tracebacks of unexpected errors."),
        flag("--yes", to="yes", text="Answer yes to questions that may be answered so."),
        flag("--no-progress", to="progress", text="No progress bar.", value=False),
        home,
    ]


class Command(click.Command):
    """A command that also takes the global options, so that they may stand at the end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _globals(hidden=True)


class Group(click.Group):
    """A noun with its verbs."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _globals(hidden=True)


Group.group_class = Group


identity_option = click.option(
    "--as", "as_name", metavar="NAME", help="Our identity, if there are several."
)
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(),
    metavar="FILE",
    envvar="COUNTERSEAL_PASSPHRASE_FILE",
    help="Read the identity's passphrase or PIN from FILE.  [env: COUNTERSEAL_PASSPHRASE_FILE]",
)


keystore_option = click.option(
    "--keystore",
    metavar="TOKEN",
    help="Where the private keys live: `pkcs11:token=NAME`, `tpm:`, or `file`.",
)


STALE: Final = timedelta(days=3650)  # how overdue `--stale-directory` lets news be
stale_option = click.option(
    "--stale-directory",
    is_flag=True,
    help="Go on although their directory has ended: a revocation may be held back.",
)


def confirm(question: str) -> None:
    """Ask before what cannot be undone; `--yes` has answered."""
    if settings().yes:
        return
    if not sys.stdin.isatty():
        raise CountersealError(
            "this cannot be undone, and there is no terminal to ask on", hint="--yes"
        )
    click.confirm(question, abort=True, err=True)


def check_output_exists(path: str) -> None:
    """Fail before long work rather than after it."""
    if os.path.lexists(path):
        raise CountersealError(f"{path} exists", hint="choose another place")
    check_folder_exists(path)


def check_folder_exists(path: str) -> None:
    """The error of a writer would name its temporary file."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
