"""counterseal open"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from counterseal.cli.journal import journal
from counterseal.cli.output import bytes_text, count_text, emit, progress, say
from counterseal.cli.settings import (
    Command,
    identity_option,
    passphrase_option,
    read_passphrase,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command("open", cls=Command)
@click.argument("package")
@click.option("--from", "sender", required=True, metavar="PARTNER", help="Who must have sealed it.")
@click.option("-o", "--output", metavar="PATH", help="Where to; - is stdout.  [the model's name]")
@click.option("--keep", is_flag=True, help="Keep the key here, so that --again works later.")
@click.option("--again", is_flag=True, help="Open a package that was opened before.")
@click.option("--with-passphrase", is_flag=True, help="It was sealed for a passphrase.")
@click.option(
    "--package-passphrase-file",
    type=click.Path(),
    metavar="FILE",
    help="Read that passphrase from FILE.",
)
@click.option("--force", is_flag=True, help="Replace an existing file (never a folder).")
@identity_option
@passphrase_option
def command(
    package: str,
    sender: str,
    output: str | None,
    keep: bool,  # noqa: FBT001
    again: bool,  # noqa: FBT001
    with_passphrase: bool,  # noqa: FBT001
    package_passphrase_file: str | None,
    force: bool,  # noqa: FBT001
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Open a package that a partner sealed for us.

    \b
      counterseal open model.sealed --from lab
      counterseal open model.sealed --from lab -o models/scan
      counterseal open - --from lab -o - < model.sealed | load.py

    Verified before anything is written; the output appears whole or not at all. A package
    sealed to a one-time prekey can be opened once: --keep keeps its key.
    """
    from counterseal.jobs.open import open_sealed

    if output == "-" and sys.stdout.isatty():
        raise click.UsageError("a model is binary: -o PATH, or redirect stdout")
    if keep and (with_passphrase or package_passphrase_file is not None):
        raise click.UsageError("--keep protects the key with ours: it needs no --with-passphrase")
    current = settings()
    partner = current.partners().get(sender)
    with ExitStack() as stack:
        source = Path(package)
        if package == "-":
            source = stack.enter_context(_spooled())
        elif not source.exists():
            raise FileNotFoundError(2, "no such file", package)
        elif source.is_dir():
            raise IsADirectoryError(21, "is a folder, not a package", package)
        secret = identity = None
        if with_passphrase or package_passphrase_file is not None:
            secret = read_passphrase(
                package_passphrase_file,
                "Passphrase of the package",
                option="--package-passphrase-file FILE",
            )
        else:
            identity = current.identity(as_name, passphrase_file)
        opened = stack.enter_context(
            open_sealed(
                source,
                sender=partner,
                by=identity,
                passphrase=secret,
                keep=keep,
                again=again,
                store=current.home.store,
                ledger=None if identity is None else journal(identity),
            )
        )
        if output == "-":
            opened.write_to(sys.stdout.buffer)
            return
        names = opened.names()
        default = names[0] if opened.manifest.layout == "file" else opened.manifest.model
        target = opened.extract(output or default, replace=force, progress=progress("opening"))
        facts = {
            "output": str(target),
            "package": opened.header.core.package,
            "model": opened.manifest.model,
            "version": opened.manifest.version,
            "digest": opened.digest,
            "sender": opened.sender,
            "owner": opened.owner.name,
            "owner_verified": opened.owner.verified,
            "forward_secret": opened.forward_secret,
            "files": len(names),
            "bytes": sum(entry.bytes for entry in opened.manifest.files),
        }
    emit(facts, str(target))
    say(
        f"sealed by {facts['sender']}: {facts['model']} version {facts['version']}, "
        f"{count_text(len(names), 'file')}, {bytes_text(int(str(facts['bytes'])))}"
    )
    if opened.manifest.statement is not None:
        say(f"owner: {_owner(opened.owner.name, opened.owner.identity)}")


def _owner(name: str | None, identity: str | None) -> str:
    if name is not None:
        return f"{name} (statement verified)"
    return f"not verified: no card of identity {identity or 'unknown'} is pinned"


@contextmanager
def _spooled() -> Iterator[Path]:
    """stdin as a file: opening needs random access. What is spooled is ciphertext."""
    with tempfile.NamedTemporaryFile(prefix="counterseal-") as spool:
        while data := sys.stdin.buffer.read(1 << 20):
            spool.write(data)
        spool.flush()
        yield Path(spool.name)
