"""A charter with every section filled in, for tests to change: `a_charter(limits={...})`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from counterseal.charter import document
from counterseal.charter.document import Charter
from counterseal.charter.request import Request, Usage

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)  # a Monday
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = datetime(2027, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LAB, CLINIC, RIVAL = "11" * 32, "22" * 32, "33" * 32
DIGEST, OTHER_DIGEST = "d1" * 32, "d2" * 32

CHARTER = Charter(
    kind="charter",
    format=1,
    id="c0" * 16,
    version=1,
    previous=None,
    title="Scan triage for the clinic",
    language="en",
    created=BEGINS - DAY,
    begins=BEGINS,
    ends=ENDS,
    owner=document.Party(
        name="lab", identity=LAB, roles=("owner", "steward"), contact="charter@lab.example"
    ),
    partner=document.Party(
        name="clinic",
        identity=CLINIC,
        roles=("analyst", "auditor"),
        contact="models@clinic.example",
    ),
    assets=(
        document.Asset(name="scan", versions="~1.4", digests=(DIGEST,)),
        document.Asset(name="triage", versions=">=1.2,<2", digests=None),
    ),
    purpose=document.Purpose(
        allowed=("diagnosis", "research"),
        prohibited=("advertising", "credit-scoring"),
        prose="Second reading of chest scans, and research that the ethics board approved.",
        basis="GDPR 9(2)(h)",
    ),
    permissions=(
        document.Permission(
            action="predict", assets=("scan", "triage"), roles=("analyst",), purposes=None
        ),
        document.Permission(
            action="explain",
            assets=("scan",),
            roles=("analyst", "auditor"),
            purposes=("diagnosis",),
        ),
    ),
    limits=document.Limits(
        rows_per_request=256,
        bytes_per_request=1 << 20,
        concurrency=4,
        rate=document.Rate(count=60, seconds=60, burst=10),
        quotas=(
            document.Quota(unit="requests", count=10_000, period="day"),
            document.Quota(unit="rows", count=100_000, period="month"),
        ),
        hours=(
            document.Hours(days=("fri", "mon", "thu", "tue", "wed"), begin=6 * 60, end=20 * 60),
        ),
        networks=("192.0.2.0/24", "2001:db8::/32"),
    ),
    session=document.Session(max_seconds=8 * 3600, idle_seconds=900, proof="mtls"),
    output=document.Output(top=5, decimals=3, noise_permille=None),
    data=document.DataHandling(keep_inputs_days=0, payload_log="digest", train_on_inputs=False),
    monitoring=document.Monitoring(
        detectors=(
            document.Detector(name="novelty", threshold_permille=5000),
            document.Detector(name="similarity", threshold_permille=4000),
        ),
        ladder=(
            document.Rung(at=40, do="flag"),
            document.Rung(at=60, do="throttle"),
            document.Rung(at=80, do="suspend"),
            document.Rung(at=95, do="revoke"),
        ),
    ),
    audit=document.Audit(
        durability="strict", readers=("auditor", "owner", "steward"), checkpoint_seconds=60
    ),
    incident=document.Incident(
        severities=(
            document.Severity(level="low", what="a limit reached often", notice_hours=72),
            document.Severity(level="critical", what="the model left the gateway", notice_hours=4),
        ),
        contacts=("security@clinic.example", "security@lab.example"),
    ),
    exit=document.Exit(
        triggers=("breach", "notice", "term"),
        wind_down_days=30,
        shred=("copies", "inputs", "keys"),
        survival=("audit", "confidentiality"),
        outputs="partner",
    ),
    compliance=(
        document.Pointer(name="DPIA", where="https://clinic.example/dpia/17", digest="d9" * 32),
    ),
    prose="ab" * 32,
)


def a_charter(**changes):
    """The charter above with `changes`. A dict changes fields of a section and leaves the rest:
    `a_charter(version=2, previous="..", limits={"rows_per_request": 10})`.
    """
    return changed(CHARTER, **changes)


def changed(value, **changes):
    fields = {
        name: changed(getattr(value, name), **change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    return msgspec.structs.replace(value, **fields)


def amended(charter, **changes):
    """The next version of `charter`."""
    return changed(charter, version=charter.version + 1, previous=charter.digest, **changes)


def a_request(**changes):
    """One that `a_charter()` allows at `AT`."""
    return Request(
        **{
            "party": CLINIC,
            "role": "analyst",
            "action": "predict",
            "asset": "scan",
            "version": (1, 4, 2),
            "digest": DIGEST,
            "session_purpose": "diagnosis",
            "purpose": "diagnosis",
            "address": "192.0.2.7",
            "proof": "mtls",
            "rows": 3,
            "bytes": 1000,
            **changes,
        }
    )


def a_usage(**changes):
    """Of the first request."""
    used = {("requests", "day"): 1, ("rows", "month"): 3}
    return Usage(**{"concurrent": 1, "risk": 0, "used": used, **changes})
