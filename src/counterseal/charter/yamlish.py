"""YAML without its surprises: for people who write it, not for programs that hide things in it.

No anchors, aliases or tags (one name could stand for many things), no name twice, no depth
without end. Only `true`, `false`, `null`, whole numbers and RFC 3339 times are not text: `no` is
a word and 12:30 a time of day, not false and 750.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, TypeAlias

from counterseal._extras import require
from counterseal.errors import FormatError

__all__ = ["Lines", "load"]

Lines: TypeAlias = dict[str, int]

DEPTH: Final = 16
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})\Z")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})\Z")
_WORDS: Final = {"true": True, "false": False, "null": None, "~": None, "": None}


def load(text: str, name: str) -> tuple[dict[str, Any], Lines]:
    """The mapping, and the line of each path. Raises FormatError."""
    yaml = require("yaml", extra="charter")
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise FormatError(f"{_at(name, event)}: no anchors, aliases or tags in a charter")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise FormatError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(node, yaml.MappingNode):
        raise FormatError(f"{name} is not a charter: it has to begin with names")
    lines: Lines = {}
    return _Reader(name, lines).value(node, "", 0), lines


class _Reader:
    def __init__(self, name: str, lines: Lines) -> None:
        self._name, self._lines = name, lines

    def value(self, node: Any, path: str, depth: int) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if depth > DEPTH:
            raise FormatError(f"{_at(self._name, node)}: too deep")
        if node.id == "mapping":
            return self._mapping(node, path, depth)
        if node.id == "sequence":
            return [
                self.value(one, f"{path}[{at}]", depth + 1) for at, one in enumerate(node.value)
            ]
        return _scalar(node.value) if node.style is None else node.value

    def _mapping(self, node: Any, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, inner in node.value:
            if key.id != "scalar" or key.value in found:
                raise FormatError(f"{_at(self._name, key)}: not a name, or a name twice")
            place = f"{path}.{key.value}".removeprefix(".")
            self._lines[place] = key.start_mark.line + 1
            found[key.value] = self.value(inner, place, depth + 1)
        return found


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _TIME.match(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return text
    return text


def _at(name: str, node: Any) -> str:
    return f"{name}, line {node.start_mark.line + 1}"
