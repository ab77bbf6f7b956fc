"""The models of a gateway: versions that never change, and the names for them (SPEC 18.6).

A version is a digest for good: other files under the same number are refused. An alias is a
name for one of them, `default` is the one for calls that name none. A canary gets a share of
the sessions, a shadow a copy of the calls; a rollback is an alias on its way back. What a
charter does not cover is never chosen for its partner, whatever an alias says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import msgspec

from counterseal.charter.versions import Version, VersionRule, version
from counterseal.errors import FormatError, TamperError
from counterseal.gateway.backends.seam import ChatModel, PartialPredictor, Predictor, TextModel
from counterseal.gateway.refusals import NotServedError
from counterseal.gateway.state import NO_CHARTER
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Name

if TYPE_CHECKING:
    from counterseal.charter.document import Charter
    from counterseal.gateway.vault import Vault

__all__ = ["DEFAULT", "Alias", "Canary", "Offer", "Registry"]

DEFAULT: Final = "default"
_VERSION: Final = "version/"
_ALIAS: Final = "alias/"
_CANARY: Final = "canary/"
_MOST_CHOSEN: Final = 4096

Kind: TypeAlias = Literal["tensors", "texts", "chat"]
Number = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+\Z", max_length=24)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}\Z", max_length=32)]


class Alias(Message, frozen=True):
    """`previous`: where it pointed before, the newest last; a rollback takes it back."""

    kind: Literal["alias"]
    format: Literal[1]
    model: Name
    name: Word
    version: Number
    previous: Annotated[tuple[Number, ...], msgspec.Meta(max_length=32)]


class Canary(Message, frozen=True):
    """`permille` of the sessions get `version`; with `shadow` all calls go there too, and
    nobody gets its answers."""

    kind: Literal["canary"]
    format: Literal[1]
    model: Name
    version: Number
    permille: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    shadow: bool


class _Registered(Message, frozen=True):
    kind: Literal["model-version"]
    format: Literal[1]
    model: Name
    version: Number
    digest: Hex32


@dataclass(frozen=True, slots=True)
class Offer:
    """One version of one model, ready to run. `backend`: see `backends.seam`, and `takes` what
    it takes: found out once, because asking a protocol takes longer than a small model."""

    model: str
    number: str
    version: Version
    digest: str
    backend: Any
    takes: frozenset[Kind]
    partial: bool  # whether it can leave out what nobody asked for

    @classmethod
    def of(cls, model: str, number: Version, digest: str, backend: Any) -> Offer:
        kinds: dict[Kind, Any] = {"tensors": Predictor, "texts": TextModel, "chat": ChatModel}
        takes = frozenset(name for name, kind in kinds.items() if isinstance(backend, kind))
        partial = isinstance(backend, PartialPredictor)
        return cls(model, ".".join(map(str, number)), number, digest, backend, takes, partial)


@dataclass(slots=True)
class Registry:
    """Of one worker; `refresh` reads anew what others may have changed."""

    vault: Vault
    offers: dict[str, dict[str, Offer]] = field(default_factory=dict)
    aliases: dict[tuple[str, str], Alias] = field(default_factory=dict)
    canaries: dict[str, Canary] = field(default_factory=dict)
    _chosen: dict[tuple[str, str | None, str, int, int], Offer] = field(default_factory=dict)

    def add(self, model: str, number: str, digest: str, backend: Any) -> Offer:
        """Offer a version. Raises TamperError if it was another model once."""
        try:
            found = version(number)
        except ValueError as error:
            raise FormatError(str(error)) from None
        offer = Offer.of(model, found, digest, backend)
        number = offer.number
        registered = _Registered(
            kind="model-version", format=1, model=model, version=number, digest=digest
        )

        def register(data: bytes | None) -> tuple[bytes, bytes]:
            kept = data or canonical.encode(registered)
            return kept, kept

        kept = self.vault.change(NO_CHARTER, f"{_VERSION}{model}/{number}", register)
        if _read(kept, _Registered).digest != digest:
            raise TamperError(
                f"version {number} of {model} was another model: {_read(kept, _Registered).digest}",
                hint="a version never changes: serve this one under a new number",
            )
        self.offers.setdefault(model, {})[number] = offer
        return offer

    def refresh(self) -> None:
        self._chosen.clear()
        self.aliases = {}
        for _, data in self.vault.items(NO_CHARTER, _ALIAS):
            alias = _read(data, Alias)
            self.aliases[alias.model, alias.name] = alias
        self.canaries = {}
        for _, data in self.vault.items(NO_CHARTER, _CANARY):
            canary = _read(data, Canary)
            self.canaries[canary.model] = canary

    def choose(self, model: str, wanted: str | None, *, charter: Charter, lot: int) -> Offer:
        """The version that a call gets. `lot`: 0 to 999, the same throughout a session.

        Without a wish: the canary for its share, else where `default` points, else the newest.
        With one or without, only what the charter covers: of anything else nobody under it
        learns whether it is there.
        """
        if model not in self.canaries:
            lot = -1
        key = (model, wanted, charter.id, charter.version, lot)
        chosen = self._chosen.get(key)
        if chosen is None:
            chosen = self._choose(model, wanted, charter, lot)
            if len(self._chosen) >= _MOST_CHOSEN:  # versions are the partner's to name
                self._chosen.clear()
            self._chosen[key] = chosen
        return chosen

    def _choose(self, model: str, wanted: str | None, charter: Charter, lot: int) -> Offer:
        offers = self.covered(model, charter)
        if not offers:
            raise NotServedError(f"no model {model!a} is served here")
        if wanted is not None:
            alias = self.aliases.get((model, wanted))
            offer = offers.get(wanted if alias is None else alias.version)
            if offer is None:
                raise NotServedError(f"no version {wanted!a} of {model} is served here")
            return offer
        canary = self.canaries.get(model)
        alias = self.aliases.get((model, DEFAULT))
        if canary is not None and not canary.shadow and lot < canary.permille:
            names = [canary.version]
        else:
            names = []
        if alias is not None:
            names.append(alias.version)
        newest = sorted(offers.values(), key=lambda one: one.version, reverse=True)
        return next((offers[name] for name in names if name in offers), newest[0])

    def covered(self, model: str, charter: Charter) -> dict[str, Offer]:
        """The versions of a model that a charter is about."""
        asset = charter.asset(model)
        if asset is None:
            return {}
        rule, digests = VersionRule.parse(asset.versions), asset.digests
        return {
            number: offer
            for number, offer in self.offers.get(model, {}).items()
            if rule.covers(offer.version) and (digests is None or offer.digest in digests)
        }

    def shadow_of(self, offer: Offer) -> Offer | None:
        """The version that sees a copy of this call."""
        canary = self.canaries.get(offer.model)
        if canary is None or not canary.shadow or canary.version == offer.number:
            return None
        return self.offers[offer.model].get(canary.version)


def point(vault: Vault, model: str, name: str, to: str) -> Alias:
    """Move an alias to a registered version. The caller writes it down and bumps the epoch."""
    known = {_read(data, _Registered).version for data in _versions(vault, model)}
    number = to if to in known else None
    if number is None:
        raise NotServedError(
            f"no version {to!a} of {model} was ever served here",
            hint=f"there are: {', '.join(sorted(known)) or 'none'}",
        )

    def moved(data: bytes | None) -> tuple[bytes, Alias]:
        before = () if data is None else (*_past(data), _read(data, Alias).version)
        alias = Alias(
            kind="alias", format=1, model=model, name=name, version=number, previous=before[-32:]
        )
        return canonical.encode(alias), alias

    return vault.change(NO_CHARTER, f"{_ALIAS}{model}/{name}", moved)


def roll_back(vault: Vault, model: str, name: str = DEFAULT) -> Alias:
    """Move an alias to where it pointed before."""

    def back(data: bytes | None) -> tuple[bytes | None, Alias | None]:
        past = () if data is None else _past(data)
        if not past:
            return data, None
        alias = Alias(
            kind="alias", format=1, model=model, name=name, version=past[-1], previous=past[:-1]
        )
        return canonical.encode(alias), alias

    found = vault.change(NO_CHARTER, f"{_ALIAS}{model}/{name}", back)
    if found is None:
        raise NotServedError(f"the alias {name} of {model} never pointed elsewhere")
    return found


def try_out(vault: Vault, canary: Canary | None, model: str) -> None:
    """Begin a canary or shadow, or end it (None)."""
    data = None if canary is None else canonical.encode(canary)
    vault.change(NO_CHARTER, f"{_CANARY}{model}", lambda _: (data, None))


def _past(data: bytes) -> tuple[str, ...]:
    alias: Alias = _read(data, Alias)
    return alias.previous


def _versions(vault: Vault, model: str) -> list[bytes]:
    return [data for _, data in vault.items(NO_CHARTER, f"{_VERSION}{model}/")]


def _read(data: bytes, kind: Any) -> Any:
    return canonical.decode(data, kind, limit=4 * limits.KIB, what="record of a model")
