"""A charter as people write it: TOML, or YAML, with comments; what is left out is left out.

Rules:
1. What is not known is refused with its path and line: a misspelled limit would be none.
2. An absent field is `null` or an empty list where the document allows that, else missing.
3. Sets are sorted here, so that nobody signs an order; something twice is refused.
4. YAML is read without its surprises (`yamlish`).
"""

from __future__ import annotations

import re
import tomllib
import types
from pathlib import PurePath
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec

from counterseal.charter import document, yamlish
from counterseal.charter.document import Charter
from counterseal.errors import FormatError
from counterseal.wire import canonical, limits

__all__ = ["read"]

_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?\Z", re.DOTALL)
_UNKNOWN: Final = re.compile(r"unknown field `([^`]+)`")
_MISSING: Final = re.compile(r"missing required field `([^`]+)`")
_FORMS: Final = {  # what the patterns of the document ask for
    "^[0-9a-f]{64}": "64 hex digits",
    "^[0-9a-f]{32}": "32 hex digits",
    "^[a-z0-9][a-z0-9._-]{0,63}": "a name: a-z 0-9 . _ -",
    "^[A-Za-z0-9][A-Za-z0-9:/#._-]": "one word, or a URI",
    "[^\\x00-": "one line of text",
}
_TABLE: Final = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\"' -]+?)\s*\]\]?\s*(?:#.*)?\Z")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_-]+(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=")


def read(data: bytes, *, name: str) -> Charter:
    """Raises FormatError that names file, line and path. `name` tells TOML from YAML."""
    if len(data) > limits.CHARTER_BYTES:
        raise FormatError(f"{name} is longer than {limits.CHARTER_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{name} is not UTF-8 text") from None
    yaml = PurePath(name).suffix in {".yaml", ".yml"}
    found, lines = yamlish.load(text, name) if yaml else _toml(text, name)
    try:
        filled = _fill({"kind": "charter", "format": 1, **found}, Charter, "")
        charter = msgspec.convert(filled, Charter, strict=True)
        return document.parse(canonical.encode(charter))
    except _TwiceError as error:
        what, path = "something stands there twice", str(error)
    except msgspec.ValidationError as error:
        what, path = _said(str(error))
    line = _line(lines, path)
    where = f"{name}, line {line}" if line else name
    raise FormatError(
        f"{where}: {path or 'the charter'}: {what}",
        hint="counterseal charter new writes one in which every line is explained",
    )


def _line(lines: yamlish.Lines, path: str) -> int | None:
    """Of the path, or of what it is in."""
    while path:
        if path in lines:
            return lines[path]
        path = re.sub(r"(\.|\A)[^.\[]*\Z|\[[0-9]+\]\Z", "", path)
    return None


def _said(message: str) -> tuple[str, str]:
    """msgspec's words, and the path that they are about."""
    match = _PLACE.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    for pattern, words in (
        (_UNKNOWN, "this version knows no such field"),
        (_MISSING, "this has to be said"),
    ):
        if field := pattern.search(what):
            return words, f"{path}.{field[1]}".removeprefix(".")
    for form, words in _FORMS.items():
        if form in what:
            return f"this has to be {words}", path
    return what[:1].lower() + what[1:], path


class _TwiceError(Exception):
    pass


def _fill(value: Any, kind: Any, path: str) -> Any:
    """Rules 2 and 3; what does not fit is left for msgspec to refuse."""
    kind, optional = _plain(kind)
    if value is None and optional:
        return None
    if isinstance(kind, type) and issubclass(kind, canonical.Message) and isinstance(value, dict):
        filled = dict(value)
        for field, hint in get_type_hints(kind, include_extras=True).items():
            inner, absent = _plain(hint)
            if field in value:
                filled[field] = _fill(value[field], hint, f"{path}.{field}".removeprefix("."))
            elif absent:
                filled[field] = None
            elif get_origin(inner) is tuple and not _at_least_one(hint):
                filled[field] = []
        return filled
    if get_origin(kind) is tuple and isinstance(value, list):
        if value and all(isinstance(one, str) for one in value):
            if len(set(value)) != len(value):
                raise _TwiceError(path)
            return sorted(value)
        item = get_args(kind)[0]
        return [_fill(one, item, f"{path}[{number}]") for number, one in enumerate(value)]
    return value


def _plain(kind: Any) -> tuple[Any, bool]:
    """Without `Annotated`, and whether None is allowed."""
    optional = False
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in {Union, types.UnionType}:
            optional = type(None) in get_args(kind)
            kind = next(one for one in get_args(kind) if one is not type(None))
        else:
            return kind, optional


def _at_least_one(kind: Any) -> bool:
    notes = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return any(isinstance(note, msgspec.Meta) and note.min_length for note in notes)


def _toml(text: str, name: str) -> tuple[dict[str, Any], yamlish.Lines]:
    try:
        return tomllib.loads(text), _toml_lines(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FormatError(f"{name} is not TOML: {error}") from None


def _toml_lines(text: str) -> yamlish.Lines:
    """Where each path is set. Only for messages: a line that is not found is not named."""
    lines: yamlish.Lines = {}
    table, counts, quoted = "", dict[str, int](), False
    for number, line in enumerate(text.splitlines(), 1):
        inside, quoted = quoted, quoted ^ bool((line.count('"""') + line.count("'''")) % 2)
        if inside:
            continue
        if head := _TABLE.match(line):
            table = head[2]
            if head[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}[{counts[table]}]"
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            path = re.sub(r"\s", "", key[1])
            lines.setdefault(f"{table}.{path}".removeprefix("."), number)
    return lines
