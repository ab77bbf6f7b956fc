"""Charters for the bench: every section filled in, and few things in the way of calls."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from counterseal.charter import document
from counterseal.charter.document import Charter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from counterseal.charter.document import Asset, Permission, Quota

__all__ = ["DETECTORS", "PLENTY", "PURPOSE", "a_charter"]

PURPOSE: Final = "diagnosis"
_DAY: Final = timedelta(days=1)
PLENTY: Final = (
    document.Quota(unit="requests", count=10**9, period="day"),
    document.Quota(unit="rows", count=10**12, period="month"),
)
DETECTORS: Final = (
    document.Detector(name="novelty", threshold_permille=10**9),
    document.Detector(name="similarity", threshold_permille=10**9),
)


def a_charter(
    *,
    owner: str,
    partner: str,
    at: datetime,
    identifier: str,
    assets: Sequence[Asset],
    permissions: Sequence[Permission],
    version: int = 1,
    previous: str | None = None,
    rows: int = 256,
    quotas: Sequence[Quota] = PLENTY,
    detectors: bool = False,
    strict: bool = False,
) -> Charter:
    """A draft between two identities that began yesterday. `identifier`: 32 hex digits.

    Detectors have a threshold that nothing reaches: what they cost is measured, not what they do.
    """
    at = at.replace(microsecond=0)
    return Charter(
        kind="charter",
        format=1,
        id=identifier,
        version=version,
        previous=previous,
        title="Bench",
        language="en",
        created=at - _DAY,
        begins=at - _DAY,
        ends=at + 365 * _DAY,
        owner=document.Party(
            name="lab", identity=owner, roles=("owner", "steward"), contact="lab@lab.example"
        ),
        partner=document.Party(
            name="clinic",
            identity=partner,
            roles=("analyst", "auditor"),
            contact="clinic@clinic.example",
        ),
        assets=tuple(assets),
        purpose=document.Purpose(
            allowed=(PURPOSE, "research"),
            prohibited=("advertising",),
            prose="Second reading of scans.",
            basis=None,
        ),
        permissions=tuple(permissions),
        limits=document.Limits(
            rows_per_request=rows,
            bytes_per_request=1 << 22,
            concurrency=64,
            rate=None,
            quotas=tuple(quotas),
            hours=None,
            networks=None,
        ),
        session=document.Session(max_seconds=8 * 3600, idle_seconds=8 * 3600, proof="mtls"),
        output=document.Output(top=None, decimals=None, noise_permille=None),
        data=document.DataHandling(keep_inputs_days=0, payload_log="digest", train_on_inputs=False),
        monitoring=document.Monitoring(
            detectors=DETECTORS if detectors else (),
            ladder=(document.Rung(at=100, do="flag"),) if detectors else (),
        ),
        audit=document.Audit(
            durability="strict" if strict else "group",
            readers=("auditor", "owner", "steward"),
            checkpoint_seconds=60,
        ),
        incident=document.Incident(
            severities=(
                document.Severity(level="critical", what="the model left", notice_hours=4),
            ),
            contacts=("security@lab.example",),
        ),
        exit=document.Exit(
            triggers=("breach", "notice", "term"),
            wind_down_days=30,
            shred=("copies", "inputs", "keys"),
            survival=("audit", "confidentiality"),
            outputs="partner",
        ),
        compliance=(),
        prose="ab" * 32,
    )
