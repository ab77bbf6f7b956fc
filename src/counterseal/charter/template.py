"""Commented charters to begin with."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["TEMPLATES", "fill"]

TEMPLATES: Final = ("predict-only", "fine-tune", "research")


def fill(
    template: str,
    *,
    owner: tuple[str, str],
    partner: tuple[str, str],
    asset: str,
    identifier: str,
    created: datetime,
    begins: datetime,
    ends: datetime,
) -> str:
    """The text of a template. `owner`, `partner`: name and identity."""
    text = resources.files("counterseal.charter").joinpath(f"templates/{template}.toml").read_text()
    words = {
        "OWNER": owner[0],
        "OWNER_ID": owner[1],
        "PARTNER": partner[0],
        "PARTNER_ID": partner[1],
        "ASSET": asset,
        "ID": identifier,
        "CREATED": _time(created),
        "BEGINS": _time(begins),
        "ENDS": _time(ends),
    }
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
