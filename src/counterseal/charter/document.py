"""What a charter says: who may do what with which model, for what, how much, and how it ends.

One document that both sides sign (SPEC 16). Everything in it is either enforced (parties to
output), kept to (data to incident) or pointed at (compliance, prose). A field, action or unit
that this version does not know is refused, never dropped: what nobody enforces must not look
agreed. Whole numbers only, so that it has one canonical form.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal

import msgspec

from counterseal.charter.versions import VersionRule
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Name, Timestamp

__all__ = [
    "ACTIONS",
    "CHARTER_TYPE",
    "Action",
    "Asset",
    "Audit",
    "Charter",
    "DataHandling",
    "Detector",
    "Exit",
    "Hours",
    "Incident",
    "Limits",
    "Monitoring",
    "Output",
    "Party",
    "Permission",
    "Pointer",
    "Purpose",
    "Quota",
    "Rate",
    "Role",
    "Rung",
    "Session",
    "Severity",
    "Unit",
    "parse",
]

CHARTER_TYPE: Final = "application/vnd.counterseal.charter.v1+json"

Action = Literal[
    "predict", "explain", "embed", "evaluate", "fine-tune", "download-sealed", "delegate"
]
ACTIONS: Final[tuple[Action, ...]] = (
    "predict", "explain", "embed", "evaluate", "fine-tune", "download-sealed", "delegate",
)  # fmt: skip
Role = Literal["owner", "steward", "analyst", "auditor"]
Unit = Literal["requests", "rows", "tokens"]
Period = Literal["hour", "day", "month", "term"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

CharterId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
# Own words, or a URI of a vocabulary (DPV, ODRL).
PurposeCode = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9:/#._-]{0,199}\Z", max_length=200)
]
Count = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=366 * 86_400)]
Minute = Annotated[int, msgspec.Meta(ge=0, le=1440)]
Risk = Annotated[int, msgspec.Meta(ge=0, le=100)]
Some = msgspec.Meta(min_length=1, max_length=64)
Few = msgspec.Meta(max_length=64)


class Party(Message, frozen=True):
    """One side. `roles`: as what its sessions may come."""

    name: Name
    identity: Hex32
    roles: Annotated[tuple[Role, ...], Some]
    contact: Line | None


class Asset(Message, frozen=True):
    """A model. `versions`: "*", "=1.4.2", "~1.4" or ">=1.2,<2"; `digests`: none of others."""

    name: Name
    versions: Annotated[str, msgspec.Meta(max_length=64)]
    digests: Annotated[tuple[Hex32, ...], Few] | None

    def __post_init__(self) -> None:
        VersionRule.parse(self.versions)


class Purpose(Message, frozen=True):
    """A session and each request declare one of `allowed`."""

    allowed: Annotated[tuple[PurposeCode, ...], Some]
    prohibited: Annotated[tuple[PurposeCode, ...], Few]
    prose: Text | None
    basis: Line | None


class Permission(Message, frozen=True):
    """`purposes` narrows those of the charter; none: all of them."""

    action: Action
    assets: Annotated[tuple[Name, ...], Some]
    roles: Annotated[tuple[Role, ...], Some]
    purposes: Annotated[tuple[PurposeCode, ...], Some] | None


class Rate(Message, frozen=True):
    """`count` requests in `seconds`, evenly; up to `burst` at once (GCRA)."""

    count: Count
    seconds: Seconds
    burst: Count


class Quota(Message, frozen=True):
    """At most `count` in each period of UTC, or in the whole term."""

    unit: Unit
    count: Count
    period: Period


class Hours(Message, frozen=True):
    """From minute `begin` to before minute `end` of these days, UTC."""

    days: Annotated[tuple[Day, ...], Some]
    begin: Minute
    end: Minute

    def __post_init__(self) -> None:
        if self.begin >= self.end:
            raise ValueError("`begin` is not before `end`; a night is two entries")


class Limits(Message, frozen=True):
    rows_per_request: Count
    bytes_per_request: Count
    concurrency: Count
    rate: Rate | None
    quotas: Annotated[tuple[Quota, ...], Few]
    hours: Annotated[tuple[Hours, ...], Some] | None
    networks: Annotated[tuple[Line, ...], Some] | None

    def __post_init__(self) -> None:
        if len({(quota.unit, quota.period) for quota in self.quotas}) != len(self.quotas):
            raise ValueError("two quotas of one unit for one period")
        for network in self.networks or ():
            # A zone is a name on one machine: it would say nothing on another.
            if "%" in network or str(ipaddress.ip_network(network)) != network:
                raise ValueError(f"{network} is not how this network is written")


class Session(Message, frozen=True):
    """`proof`: how each request shows whose it is."""

    max_seconds: Seconds
    idle_seconds: Seconds
    proof: Literal["mtls"]


class Output(Message, frozen=True):
    """What of an answer leaves. `top`: so many classes; `decimals`: rounded; `noise_permille`:
    Laplace noise of that scale in thousandths. None of them prevents theft (governance)."""

    top: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None
    decimals: Annotated[int, msgspec.Meta(ge=0, le=17)] | None
    noise_permille: Annotated[int, msgspec.Meta(ge=1, le=10**6)] | None


class DataHandling(Message, frozen=True):
    """What the owner does with what the partner sends in."""

    keep_inputs_days: Annotated[int, msgspec.Meta(ge=0, le=3660)]
    payload_log: Literal["none", "digest", "sealed"]
    train_on_inputs: bool


class Detector(Message, frozen=True):
    """`threshold`: of its CUSUM, in thousandths."""

    name: Literal["novelty", "similarity"]
    threshold_permille: Annotated[int, msgspec.Meta(ge=1, le=10**9)]


class Rung(Message, frozen=True):
    """From risk `at` on, this is done."""

    at: Risk
    do: Literal["flag", "tighten", "throttle", "suspend", "revoke"]


RUNGS: Final = ("flag", "tighten", "throttle", "suspend", "revoke")


class Monitoring(Message, frozen=True):
    detectors: Annotated[tuple[Detector, ...], Few]
    ladder: Annotated[tuple[Rung, ...], Few]

    def __post_init__(self) -> None:
        risks = [rung.at for rung in self.ladder]
        steps = [RUNGS.index(rung.do) for rung in self.ladder]
        if risks != sorted(set(risks)) or steps != sorted(set(steps)):
            raise ValueError("the ladder does not rise")


class Audit(Message, frozen=True):
    """`durability`: whether an entry is on disk before the answer leaves, or soon after."""

    durability: Literal["strict", "group"]
    readers: Annotated[tuple[Role, ...], Some]
    checkpoint_seconds: Seconds


class Severity(Message, frozen=True):
    level: Literal["low", "medium", "high", "critical"]
    what: Line
    notice_hours: Annotated[int, msgspec.Meta(ge=0, le=8784)]


class Incident(Message, frozen=True):
    severities: Annotated[tuple[Severity, ...], Some]
    contacts: Annotated[tuple[Line, ...], Some]


class Exit(Message, frozen=True):
    """`shred`: what is made unreadable; `outputs`: whose the answers are afterwards."""

    triggers: Annotated[tuple[Literal["term", "notice", "breach", "insolvency", "law"], ...], Some]
    wind_down_days: Annotated[int, msgspec.Meta(ge=0, le=3660)]
    shred: Annotated[tuple[Literal["keys", "inputs", "copies", "outputs"], ...], Few]
    survival: Annotated[tuple[Line, ...], Few]
    outputs: Literal["owner", "partner"]


class Pointer(Message, frozen=True):
    """Where something that the charter does not hold can be found, and its SHA-256."""

    name: Line
    where: Line
    digest: Hex32 | None


class Charter(Message, frozen=True):
    """`previous`: digest of the version before; `prose`: SHA-256 of the text that was signed."""

    kind: Literal["charter"]
    format: Literal[1]
    id: CharterId
    version: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    previous: Hex32 | None
    title: Line
    language: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")]
    created: Timestamp
    begins: Timestamp
    ends: Timestamp
    owner: Party
    partner: Party
    assets: Annotated[tuple[Asset, ...], Some]
    purpose: Purpose
    permissions: Annotated[tuple[Permission, ...], Some]
    limits: Limits
    session: Session
    output: Output
    data: DataHandling
    monitoring: Monitoring
    audit: Audit
    incident: Incident
    exit: Exit
    compliance: Annotated[tuple[Pointer, ...], Few]
    prose: Hex32 | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.version == 1) != (self.previous is None):
            raise ValueError("every version but the first names the one before it")
        if not self.begins < self.ends:
            raise ValueError("the term ends before it begins")
        if self.owner.identity == self.partner.identity:
            raise ValueError("a charter is between two")
        self._check_names()

    def _check_names(self) -> None:
        names = [asset.name for asset in self.assets]
        if len(set(names)) != len(names):
            raise ValueError("two assets of one name")
        both = set(self.purpose.allowed) & set(self.purpose.prohibited)
        if both:
            raise ValueError(f"a purpose is allowed and prohibited: {min(both)}")
        roles = set(self.partner.roles)
        for permission in self.permissions:
            for what, asked, known in (
                ("an asset that is none", set(permission.assets), set(names)),
                ("a role that the partner has not", set[str](permission.roles), set[str](roles)),
                ("another purpose", set(permission.purposes or ()), set(self.purpose.allowed)),
            ):
                if asked - known:
                    raise ValueError(f"a permission for {what}: {min(asked - known)}")

    @property
    def digest(self) -> str:
        """What the next version, sessions and ledger entries name this version by."""
        return sha256(bind("charter", canonical.encode(self))).hex()

    def asset(self, name: str) -> Asset | None:
        return next((asset for asset in self.assets if asset.name == name), None)


def parse(data: bytes) -> Charter:
    """A charter in its canonical form. Raises FormatError."""
    charter = canonical.decode(data, Charter, limit=limits.CHARTER_BYTES, what="charter")
    for name in charter.__struct_fields__:
        _check_sets(getattr(charter, name), name)
    return charter


def _check_sets(value: object, path: str) -> None:
    """What is a set has no order and nothing twice: else one agreement would have two digests."""
    if isinstance(value, Message):
        for name in value.__struct_fields__:
            _check_sets(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, tuple):
        if value and all(isinstance(one, str) for one in value) and not _is_set(value):
            raise FormatError(f"`{path}` is not sorted, or has something twice")
        for number, one in enumerate(value):
            _check_sets(one, f"{path}[{number}]")


def _is_set(value: tuple[object, ...]) -> bool:
    return list(value) == sorted(set(map(str, value)))
