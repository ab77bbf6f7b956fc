"""What a receiver remembers, and what follows from it: replay, rollback, equivocation.

Rules, in order (SPEC 4.3), for a package whose manifest is verified:
1. A package id that was opened before is a replay, unless the caller asks for it `again`.
2. A version below the highest seen from this sender for this model is a rollback.
3. The same version with other contents is a contradiction, refused like a rollback.
4. Otherwise the marks move up.

Pure: marks in, marks out; `SeenBook` keeps them in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from counterseal.errors import ReplayedMessage, RolledBack
from counterseal.wire import canonical
from counterseal.wire.canonical import Hex32, Message, Timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.exchange.header import Core, Header
    from counterseal.models.manifest import Manifest
    from counterseal.trust.store import Store

__all__ = ["Mark", "Opened", "SeenBook", "decide"]

_SEEN: Final = "seen"
_OPENED: Final = "opened"
_KEPT: Final = "kept-key"  # apart from the marks: a backup takes those along and never a key
_LIMIT: Final = 64 * 1024


class Mark(Message, frozen=True):
    """The highest version seen of one model of one sender."""

    version: Annotated[int, msgspec.Meta(ge=1)]
    content: Hex32


class Opened(Message, frozen=True):
    """When a package was opened."""

    at: Timestamp


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the rules look at."""

    sender: str
    model: str
    version: int
    content: str
    package: str

    @classmethod
    def of(cls, header: Header, manifest: Manifest) -> Arrival:
        return cls(
            sender=header.core.sender,
            model=manifest.document.model,
            version=manifest.document.version,
            content=manifest.content,
            package=header.core.package,
        )

    @property
    def key(self) -> str:
        return f"{self.sender}/{self.model}"


def decide(arrival: Arrival, *, mark: Mark | None, opened: Opened | None, again: bool) -> Mark:
    """Return the new mark, or raise by the rules above."""
    _check_replay(opened, again=again)
    if mark is not None and arrival.version < mark.version:
        raise RolledBack(
            f'version {arrival.version} of "{arrival.model}" is older than version '
            f"{mark.version}, which was opened before",
            hint="ask the sender for the newest version; someone may be replaying an old one",
        )
    if mark is not None and arrival.version == mark.version and arrival.content != mark.content:
        raise RolledBack(
            f'version {arrival.version} of "{arrival.model}" was seen with other contents',
            hint="a version is given out once: talk to the sender",
        )
    return Mark(version=arrival.version, content=arrival.content)


def _check_replay(opened: Opened | None, *, again: bool) -> None:
    if opened is not None and not again:
        raise ReplayedMessage(
            f"this package was opened before, on {opened.at:%Y-%m-%d %H:%M} UTC",
            hint="--again opens it once more",
        )


def _place(sender: str, package: str) -> str:
    # With the sender: the id is public, and a rival who seals a package of its own under the
    # same id would otherwise have the real one refused as a replay.
    return f"{sender}/{package}"


class SeenBook:
    """The marks in a store."""

    def __init__(self, store: Store, *, owner: str = "") -> None:
        """`owner`: our identity, because several may share a store and receive the same."""
        self._store = store
        self._prefix = f"{owner}/"

    def check_package(self, core: Core, *, again: bool) -> None:
        """Rule 1 alone, as soon as the signature over the package id is verified."""
        _check_replay(self.opened(core.sender, core.package), again=again)

    def kept_key(self, core: Core) -> bytes | None:
        """The protected content key of a package that was opened to be opened again."""
        return self._store.get(_KEPT, self._prefix + _place(core.sender, core.package))

    def check(self, arrival: Arrival, *, again: bool) -> None:
        """Raise what `commit` would raise, changing nothing."""
        self._decide(arrival, again=again)

    def commit(
        self, arrival: Arrival, *, at: datetime, again: bool, kept: bytes | None = None
    ) -> None:
        """Move the marks; `kept` is the content key, protected, if it is to be kept.

        Must run inside `store.exclusive()`.
        """
        mark = self._decide(arrival, again=again)
        now = Opened(at=canonical.timestamp(at))
        self._store.put(_SEEN, self._prefix + arrival.key, canonical.encode(mark))
        place = self._prefix + _place(arrival.sender, arrival.package)
        self._store.put(_OPENED, place, canonical.encode(now))
        if kept is not None:
            self._store.put(_KEPT, place, kept)

    def opened(self, sender: str, package: str) -> Opened | None:
        data = self._store.get(_OPENED, self._prefix + _place(sender, package))
        if data is None:
            return None
        return canonical.decode(data, Opened, limit=_LIMIT, what="record of an opened package")

    def _decide(self, arrival: Arrival, *, again: bool) -> Mark:
        data = self._store.get(_SEEN, self._prefix + arrival.key)
        mark = None
        if data is not None:
            mark = canonical.decode(data, Mark, limit=_LIMIT, what="high-water mark")
        opened = self.opened(arrival.sender, arrival.package)
        return decide(arrival, mark=mark, opened=opened, again=again)
