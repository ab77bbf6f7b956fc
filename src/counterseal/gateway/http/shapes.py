"""What the control plane takes and gives, as its OpenAPI describes it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Model", "Point", "Quota", "Refused", "Revoke", "Session", "Try", "Usage"]


class Quota(BaseModel):
    unit: str
    period: str
    used: int
    count: int
    resets_at: str | None


class Refused(BaseModel):
    policy: str
    times: int
    last: str


class Usage(BaseModel):
    """What was used under a charter, by all sessions and workers. `calls` and `refusals` are of
    the `recent` last published entries of its ledger, where both sides can count them again."""

    charter: str
    version: int
    title: str
    partner: str
    state: str
    ends: str
    rung: str | None
    risk: int
    quotas: list[Quota]
    rate: dict[str, int] | None
    entries: int
    recent: int
    calls: int
    refusals: list[Refused]
    sessions: int


class Session(BaseModel):
    id: str
    charter: str | None
    identity: str
    side: str
    role: str
    purpose: str | None
    opened: str
    until: str
    last: str
    ended: str | None


class Model(BaseModel):
    name: str
    versions: dict[str, str]
    aliases: dict[str, str]
    canary: dict[str, Any] | None


class Revoke(BaseModel):
    model_config = ConfigDict(extra="forbid")
    grain: str
    subject: str
    reason: str | None = None
    lift: bool = False


class Point(BaseModel):
    """`version` null: back to where the alias pointed before."""

    model_config = ConfigDict(extra="forbid")
    model: str
    alias: str = "default"
    version: str | None


class Try(BaseModel):
    """`version` null ends it."""

    model_config = ConfigDict(extra="forbid")
    model: str
    version: str | None
    permille: int = 0
    shadow: bool = False
