"""Look at an installation: the engine, the home folder, our keys, our partners' keys."""

from __future__ import annotations

import importlib.util
import stat
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from typing import TYPE_CHECKING, Final, Literal

from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.crypto.signing import SigningKey, SigningSuite
from counterseal.errors import CountersealError
from counterseal.trust.identity import Identity
from counterseal.trust.partner import PartnerBook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from counterseal.trust.history import History
    from counterseal.trust.home import Home

__all__ = ["Finding", "examine"]

_SOON: Final = timedelta(days=30)
_EXTRAS: Final = {
    "torch": ("torch", "transformers"),
    "onnx": ("onnxruntime",),
    "sklearn": ("sklearn", "skops"),
    "keras": ("keras", "h5py"),
    "hsm": ("pkcs11",),
    "tpm": ("tpm2_pytss",),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`bad` needs attention now, `note` is worth knowing."""

    what: str
    state: Literal["good", "note", "bad"]
    detail: str


def examine(home: Home, *, at: datetime) -> list[Finding]:
    """All findings; reads only."""
    findings = [_engine(), *_extras(), _folder(home)]
    if home.path.is_dir() and findings[-1].state != "bad":
        findings += _identities(home, at)
        if (home.path / "state.db").exists():
            findings += _partners(home, at)
    return findings


def _engine() -> Finding:
    version = metadata.version("cryptography")
    message = b"doctor"
    try:
        for signing in SigningSuite:
            key = SigningKey.generate(signing)
            key.public.verify(message, key.sign(message))
        for agreement in AgreementSuite:
            pair = AgreementKey.generate(agreement)
            pair.open(pair.public.seal(message, info=b""), info=b"")
    except CountersealError as error:
        return Finding("engine", "bad", f"cryptography {version} fails its self-test: {error}")
    return Finding("engine", "good", f"cryptography {version} signs, seals and opens")


def _extras() -> Iterator[Finding]:
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            yield Finding(extra, "note", f"not installed: pip install 'counterseal[{extra}]'")
        else:
            yield Finding(extra, "good", "installed")


def _folder(home: Home) -> Finding:
    if not home.path.is_dir():
        return Finding("home", "note", f"{home.path} is not there yet: counterseal init NAME")
    mode = stat.S_IMODE(home.path.stat().st_mode)
    if mode & 0o077:
        return Finding("home", "bad", f"{home.path} is open to others: chmod 700 {home.path}")
    return Finding("home", "good", str(home.path))


def _identities(home: Home, at: datetime) -> Iterator[Finding]:
    for name in home.identities():
        what = f"identity {name}"
        try:
            history = Identity.load_history(name, home=home)
        except CountersealError as error:
            yield Finding(what, "bad", error.message)
            continue
        keystore = home.identity_folder(name) / "keystore.json"
        if not keystore.exists():
            yield Finding(what, "bad", "its keystore is gone: counterseal id restore BACKUP")
        elif stat.S_IMODE(keystore.stat().st_mode) & 0o077:
            yield Finding(what, "bad", f"others can read its keys: chmod 600 {keystore}")
        else:
            yield from _token(what, name, home)
        revoked = history.newest.revoked is not None
        verb = "rotate --recovery KEY" if revoked else "rotate"
        yield _card(what, history, at, remedy=f"counterseal id {verb}")
        if not history.newest.card.recovery.keys:
            yield Finding(what, "note", "no recovery key: counterseal id recovery FOLDER")


def _token(what: str, name: str, home: Home) -> Iterator[Finding]:
    """Whether the token is here that holds half of the keys; its PIN is not asked for."""
    try:
        keystore = Identity.keystore_of(name, home=home)
        place = keystore.check()
    except CountersealError as error:
        yield Finding(what, "bad", error.message)
        return
    if keystore.asks_for == "PIN":
        yield Finding(what, "good", f"its keys: {place}")


def _partners(home: Home, at: datetime) -> Iterator[Finding]:
    for partner in PartnerBook(home.store).list():
        remedy = f"counterseal partner refresh {partner.name} CARD"
        yield _card(f"partner {partner.name}", partner.history, at, remedy=remedy)


def _card(what: str, history: History, at: datetime, *, remedy: str) -> Finding:
    try:
        newest = history.current(at=at)
    except CountersealError as error:
        return Finding(what, "bad", f"{error.message}: {remedy}")
    if newest.card.expires - at < _SOON:
        return Finding(what, "note", f"ends on {newest.card.expires:%Y-%m-%d}: {remedy}")
    return Finding(what, "good", f"good until {newest.card.expires:%Y-%m-%d}")
