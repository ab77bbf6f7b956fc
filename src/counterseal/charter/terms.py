"""The terms of a charter that no single request is judged on: does a change loosen them?

Three kinds (SPEC 16.6). `PROVED` is what the conditions of a request say, and is compared by
proof. `ORDERED` can be looser or stricter. Everything else has no order: a new field of a charter
is there unless somebody decides otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from counterseal.wire.canonical import Message

if TYPE_CHECKING:
    from counterseal.charter.document import Charter, Rate

__all__ = ["FREE", "ORDERED", "PROVED", "moved", "other_terms", "paths_of"]

Looser: TypeAlias = Callable[[Any, Any], bool]  # does the second allow anything the first did not?

PROVED: Final = frozenset(
    {
        "assets",
        "begins",
        "ends",
        "limits.bytes_per_request",
        "limits.concurrency",
        "limits.hours",
        "limits.networks",
        "limits.quotas",
        "limits.rows_per_request",
        "partner.identity",
        "permissions",
        "purpose.allowed",
        "session.proof",
    }
)
FREE: Final = frozenset({"created", "format", "kind", "previous", "version"})  # every version


def _more(old: int, new: int) -> bool:
    return new > old


def _more_or_all(old: int | None, new: int | None) -> bool:
    return old is not None and (new is None or new > old)


def _less_or_none(old: int | None, new: int | None) -> bool:
    return (new or 0) < (old or 0)


def _added(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    return not set(new) <= set(old)


def _removed(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    return _added(new, old)


def _faster(old: Rate | None, new: Rate | None) -> bool:
    """A bucket that is smaller and fills more slowly lets through a part of what the other does."""
    if old is None or new is None:
        return old is not None
    return new.burst > old.burst or new.count * old.seconds > old.count * new.seconds


ORDERED: Final[dict[str, Looser]] = {
    "limits.rate": _faster,
    "output.decimals": _more_or_all,
    "output.noise_permille": _less_or_none,
    "output.top": _more_or_all,
    "partner.roles": _added,
    "purpose.prohibited": _removed,  # decides nothing beside `allowed`, but it is a promise
    "session.idle_seconds": _more,
    "session.max_seconds": _more,
}


def paths_of(charter: Charter) -> tuple[str, ...]:
    """Every term, by its path: fields, and fields of sections."""
    paths = []
    for name in charter.__struct_fields__:
        section = getattr(charter, name)
        if isinstance(section, Message):
            paths += [f"{name}.{field}" for field in section.__struct_fields__]
        else:
            paths.append(name)
    return tuple(paths)


def moved(old: Charter, new: Charter) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which ordered terms became looser, and which stricter; a rate can be both."""
    wider, narrower = [], []
    for path, looser in ORDERED.items():
        before, after = at(old, path), at(new, path)
        if looser(before, after):
            wider.append(path)
        if looser(after, before):
            narrower.append(path)
    return tuple(wider), tuple(narrower)


def other_terms(old: Charter, new: Charter) -> tuple[str, ...]:
    return tuple(
        path
        for path in paths_of(old)
        if path not in PROVED | FREE | ORDERED.keys() and at(old, path) != at(new, path)
    )


def at(charter: Charter, path: str) -> Any:
    return reduce(getattr, path.split("."), charter)
