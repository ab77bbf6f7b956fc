"""counterseal seal"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from counterseal.cli.journal import journal
from counterseal.cli.output import bytes_text, count_text, emit, progress, say
from counterseal.cli.settings import (
    STALE,
    Command,
    identity_option,
    passphrase_option,
    read_passphrase,
    settings,
    stale_option,
)

if TYPE_CHECKING:
    from counterseal.jobs.seal import Receipt


@click.command("seal", cls=Command)
@click.argument("model", required=False)
@click.option("--to", "to", multiple=True, metavar="PARTNER", help="Who may open it. Repeatable.")
@click.option("-o", "--output", metavar="FILE", help="The package; - is stdout.  [MODEL.sealed]")
@click.option("--add-to", metavar="PACKAGE", help="Add the --to partners to PACKAGE instead.")
@click.option("--to-passphrase", is_flag=True, help="For whoever knows a passphrase; stands alone.")
@click.option(
    "--package-passphrase-file",
    type=click.Path(),
    metavar="FILE",
    help="Read the passphrase of --to-passphrase from FILE.",
)
@click.option("--file-name", metavar="NAME", default="model", help="What stdin is called inside.")
@click.option("--model-name", metavar="NAME", help="The model's name.  [from MODEL]")
@click.option("--model-version", type=click.IntRange(min=1), help="[the next one]")
@click.option("--expires", metavar="WHEN", help="30d, 12h or 2027-01-31: not to be opened after.")
@click.option("--charter", metavar="ID", help="The charter under which it is shared.")
@click.option("--no-oms", is_flag=True, help="Without the OpenSSF model statement: faster.")
@click.option("--forget-key", is_flag=True, help="Keep no key: no recipient can be added later.")
@stale_option
@click.option("--force", is_flag=True, help="Replace an existing output.")
@identity_option
@passphrase_option
def command(
    model: str | None,
    to: tuple[str, ...],
    output: str | None,
    add_to: str | None,
    to_passphrase: bool,  # noqa: FBT001
    package_passphrase_file: str | None,
    file_name: str,
    model_name: str | None,
    model_version: int | None,
    expires: str | None,
    charter: str | None,
    no_oms: bool,  # noqa: FBT001
    forget_key: bool,  # noqa: FBT001
    stale_directory: bool,  # noqa: FBT001
    force: bool,  # noqa: FBT001
    as_name: str | None,
    passphrase_file: str | None,
) -> None:
    """Seal a model so that only the partners named can open it.

    \b
      counterseal seal model/ --to clinic
      counterseal seal model/ --to clinic --to bank --expires 30d
      counterseal seal --add-to model.sealed --to bank
      train.py | counterseal seal - --file-name model.safetensors --to clinic -o model.sealed

    MODEL is a file, a folder or - for stdin. Files that could run code when loaded (pickles)
    are refused.
    """
    from counterseal.jobs.seal import seal

    if add_to is not None:
        if model is not None or not to:
            raise click.UsageError("--add-to PACKAGE goes with --to PARTNER and no MODEL")
        _add(add_to, to, as_name, passphrase_file)
        return
    if model is None:
        raise click.UsageError("which model? counterseal seal MODEL --to PARTNER")
    target = output or ("-" if model == "-" else f"{Path(model).resolve().name}.sealed")
    if target == "-" and sys.stdout.isatty():
        raise click.UsageError("a package is binary: -o FILE, or redirect stdout")
    _check_recipients(to, to_passphrase, package_passphrase_file)
    until = _until(expires)
    if model != "-" and not Path(model).exists():
        raise FileNotFoundError(2, "no such file or folder", model)
    if target != "-" and not force and Path(target).exists():
        raise FileExistsError(17, "exists", target)
    partners = [settings().partners().get(name) for name in to]
    identity = settings().identity(as_name, passphrase_file)
    secret = None
    if to_passphrase:
        secret = read_passphrase(
            package_passphrase_file,
            "Passphrase of the package",
            confirm=True,
            option="--package-passphrase-file FILE",
        )
    receipt = seal(
        sys.stdin.buffer if model == "-" else Path(model),
        by=identity,
        to=partners,
        passphrase=secret,
        output=sys.stdout.buffer if target == "-" else Path(target),
        file_name=file_name,
        model=model_name,
        version=model_version,
        expires=until,
        charter=_charter(charter),
        statement=not no_oms,
        keep_key=not forget_key,
        replace=force,
        overdue=STALE if stale_directory else timedelta(0),
        progress=progress("sealing"),
        ledger=journal(identity),
    )
    _report(receipt)


def _check_recipients(to: tuple[str, ...], to_passphrase: bool, file: str | None) -> None:  # noqa: FBT001
    if not to and not to_passphrase:
        raise click.UsageError("for whom? --to PARTNER, or --to-passphrase")
    if to and to_passphrase:
        raise click.UsageError("--to-passphrase stands alone: it would be the weakest recipient")
    if file is not None and not to_passphrase:
        raise click.UsageError("--package-passphrase-file goes with --to-passphrase")


def _charter(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[\x21-\x7e]{1,128}", text):
        raise click.UsageError("--charter ID: 1 to 128 printable ASCII characters, no spaces")
    return text


def _report(receipt: Receipt) -> None:
    if receipt.output is not None:
        emit(receipt, receipt.output)
    for name in receipt.skipped:
        say(f"left out: {name}")
    whom = ", ".join(receipt.recipients) or "whoever knows the passphrase"
    say(
        f"sealed {receipt.model} version {receipt.version} ({bytes_text(receipt.bytes)}, "
        f"{count_text(receipt.files, 'file')}) for {whom}"
    )
    if receipt.last_resort:
        say(
            f"forward secrecy for {', '.join(receipt.last_resort)} only in three weeks: their "
            "one-time prekeys are used up, the last-resort prekey is deleted then"
        )
    without = [
        name
        for name in receipt.recipients
        if name not in receipt.forward_secret and name not in receipt.last_resort
    ]
    if without:
        say(
            f"no forward secrecy for {', '.join(without)}: no one-time prekey is at hand "
            "(counterseal id prekeys on their side)"
        )


def _add(
    package: str, to: tuple[str, ...], as_name: str | None, passphrase_file: str | None
) -> None:
    from counterseal.jobs.recipients import add_recipient
    from counterseal.ledger.entry import Record

    if Path(package).is_dir():
        raise IsADirectoryError(21, "is a folder, not a package", package)
    partners = [settings().partners().get(name) for name in to]
    identity = settings().identity(as_name, passphrase_file)
    for partner in partners:
        header = add_recipient(package, by=identity, to=partner)
        emit(
            {
                "package": header.core.package,
                "added": partner.name,
                "recipients": header.recipients,
            },
            package,
        )
        say(f"{partner.name} can open {package} now; it has {header.recipients} recipients")
        journal(identity).record_all(
            [
                Record(
                    event="sealed",
                    actor=identity.history.identity,
                    partner=partner.identity,
                    action="add-recipient",
                    package=header.core.package,
                )
            ]
        )


def _until(text: str | None) -> datetime | None:
    if text is None:
        return None
    now = datetime.now(UTC)
    units = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
    try:
        if text[-1:] in units and text[:-1].isdigit():
            return now + int(text[:-1]) * units[text[-1]]
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise click.UsageError(f"--expires {text!r}: write 30d, 12h or 2027-01-31") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= now:
        raise click.UsageError(f"--expires {text!r} is in the past")
    return moment
