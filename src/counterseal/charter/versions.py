"""Which versions of a model a charter covers: "*", "=1.4.2", "~1.4" or ">=1.2,<2"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["Version", "VersionRule", "version"]

Version: TypeAlias = tuple[int, int, int]

MOST: Final = 10**6  # of a part: it fits wherever it is compared
_NUMBER: Final = r"(0|[1-9][0-9]{0,5})"
_VERSION: Final = re.compile(rf"{_NUMBER}(?:\.{_NUMBER})?(?:\.{_NUMBER})?\Z")


def version(text: str) -> Version:
    """ "1.4" is 1.4.0. Raises ValueError."""
    match = _VERSION.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a version: 1, 1.4 or 1.4.2")
    major, minor, patch = (int(part or 0) for part in match.groups())
    return major, minor, patch


@dataclass(frozen=True, slots=True)
class VersionRule:
    """From `first` on, and before `end`."""

    first: Version
    end: Version

    @classmethod
    def parse(cls, text: str) -> VersionRule:
        """Raises ValueError for anything that is not one of the four forms, or covers nothing."""
        if text == "*":
            return cls((0, 0, 0), (MOST, 0, 0))
        if text.startswith("="):
            major, minor, patch = version(text[1:])
            return cls((major, minor, patch), (major, minor, patch + 1))
        if text.startswith("~"):
            major, minor, patch = version(text[1:])
            dots = text.count(".")
            return cls((major, minor, patch), (major, minor + 1, 0) if dots else (major + 1, 0, 0))
        match = re.match(r">=([0-9.]+),<([0-9.]+)\Z", text)
        if match is None:
            raise ValueError(f'{text!r} is no version rule: "*", "=1.4.2", "~1.4", ">=1.2,<2"')
        rule = cls(version(match[1]), version(match[2]))
        if not rule.first < rule.end:
            raise ValueError(f"{text!r} covers no version")
        return rule

    def covers(self, number: Version) -> bool:
        return self.first <= number < self.end
