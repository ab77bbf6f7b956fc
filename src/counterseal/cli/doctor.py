"""counterseal doctor"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from counterseal.cli.output import emit
from counterseal.cli.settings import Command, settings

if TYPE_CHECKING:
    from counterseal.jobs.doctor import Finding


@click.command("doctor", cls=Command)
def command() -> int:
    """Check this installation, home folder and keys.

    Ends with 1 if something needs attention. Changes nothing.
    """
    from counterseal.jobs.doctor import examine

    findings = examine(settings().home, at=datetime.now(UTC))
    emit(
        [{"what": f.what, "state": f.state, "detail": f.detail} for f in findings],
        "\n".join(_line(finding) for finding in findings),
    )
    return 1 if any(finding.state == "bad" for finding in findings) else 0


def _line(finding: Finding) -> str:
    mark = {"good": "ok ", "note": "-- ", "bad": "BAD"}[finding.state]
    return f"{mark}  {finding.what}: {finding.detail}"
