"""One loaded PKCS#11 library: find tokens, log in once, say in words what went wrong.

What the standard asks of whoever uses a library, and python-pkcs11 leaves to us:

- C_Initialize was called without locking functions, so one thread at a time: `speaking`.
- After a fork the child has no session: it is told so, and leaves the parent's alone.
- Logging in is per process, not per session. A second identity in the same token shares the
  first one's session, but only if it brings the same PIN: a wrong one must not pass, and must
  not cost a try either.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.crypto.digest import equal, sha256
from counterseal.errors import CountersealError, FormatError, MissingExtraError, TrustError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from counterseal.trust.keystores.uri import Pkcs11Uri

__all__ = ["Library", "Login", "libraries"]

KNOWN: Final = (  # asked in this order for a token whose URI names no module
    "/usr/lib/x86_64-linux-gnu/p11-kit-proxy.so",
    "/usr/lib64/p11-kit-proxy.so",
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so",
    "/usr/lib64/opensc-pkcs11.so",
)
_GONE: Final = {  # what libraries say when a token is not there any more; few agree
    "DeviceError",
    "DeviceRemoved",
    "GeneralError",
    "KeyHandleInvalid",
    "ObjectHandleInvalid",
    "SessionClosed",
    "SessionHandleInvalid",
    "SlotIDInvalid",
    "TokenNotPresent",
    "TokenNotRecognised",
    "UserNotLoggedIn",
}
_FULL: Final = {"DeviceMemory", "SessionCount"}

_loaded: dict[str, Library] = {}
_loading: Final = RLock()


def libraries(where: Pkcs11Uri) -> Iterator[Library]:
    """The library that the URI names, or each known one that is installed."""
    names = [where.module] if where.module else [name for name in KNOWN if Path(name).exists()]
    if not names:
        raise CountersealError(
            "no PKCS#11 library is installed in a usual place",
            hint="name it: pkcs11:token=NAME?module-path=/usr/lib/.../lib....so",
        )
    for name in names:
        try:
            library = _load(name)
        except MissingExtraError:
            raise
        except CountersealError:
            if where.module:
                raise
            continue  # one of several, and not the one that was meant
        yield library


def _load(name: str) -> Library:
    with _loading:
        if name not in _loaded:
            _loaded[name] = Library(name)
        return _loaded[name]


@dataclass(slots=True, repr=False)
class Login:
    """A session that was given the PIN, and how many identities use it."""

    session: Any
    salt: bytes
    digest: bytes
    users: int = 0

    def same(self, pin: bytes) -> bool:
        return equal(self.digest, sha256(self.salt, pin))


class Library:
    """One PKCS#11 library of this process."""

    def __init__(self, path: str) -> None:
        self.api = require("pkcs11", extra="hsm")
        self.path = path
        self._lock = RLock()
        self._process = os.getpid()
        self._logins: dict[str, Login] = {}
        _check_file(path)
        try:
            self._lib = self.api.lib(path)
        except self.api.PKCS11Error as error:
            raise CountersealError(
                f"the PKCS#11 library {path} does not start ({_name(error)})",
                hint="is it for this machine, and its own configuration in order?",
            ) from error

    @contextmanager
    def speaking(self, label: str, what: str) -> Iterator[None]:
        """Alone with the library; its errors become ours."""
        if os.getpid() != self._process:  # before the lock, which a fork may leave locked
            raise TrustError(
                f'the session with the token "{label}" belongs to the process before the fork',
                hint="load the identity in a process of its own",
            )
        with self._lock:
            try:
                yield
            except self.api.PKCS11Error as error:
                raise _explained(error, label, what) from error

    def find(self, where: Pkcs11Uri, serial: str) -> Any | None:
        """The token, or None if it is not here. `serial`, if not empty, is what it must have."""
        with self.speaking(where.token, "answer"):
            found = self._named(where)
            if not found and not self._logins:
                # A library may have looked only once, or not got over a token that was pulled
                # out. Nobody has a session, so it may begin again.
                with suppress(self.api.PKCS11Error):
                    self._lib.finalize()
                self._lib.initialize()
                found = self._named(where)
        if not found:
            return None
        right = [token for token in found if not serial or text_of(token.serial) == serial]
        if not right:
            raise TrustError(
                f'the token "{where.token}" is another one of the same name: its serial number is '
                f"{text_of(found[0].serial)}, not {serial}",
                hint="the keys of this identity are in the other one",
            )
        if len(right) > 1:
            raise FormatError(
                f'there are {len(right)} tokens "{where.token}"',
                hint="choose one: pkcs11:token=NAME;serial="
                + " or ".join(text_of(token.serial) for token in right),
            )
        return right[0]

    def login(self, token: Any, pin: bytes) -> Login:
        """A session in which the PIN was accepted; give it back with `logout`."""
        text = _pin_text(pin)
        serial = text_of(token.serial)
        with self.speaking(token.label, "take the PIN"):
            login = self._logins.get(serial)
            if login is None:
                if token.flags & self.api.TokenFlag.USER_PIN_LOCKED:
                    raise _locked(token.label)
                try:
                    session = token.open(rw=True, user_pin=text)
                except (
                    self.api.PinIncorrect,
                    self.api.PinInvalid,
                    self.api.PinLenRange,
                ):
                    raise self._wrong_pin(token) from None
                salt = os.urandom(16)
                login = Login(session, salt, sha256(salt, pin))
                self._logins[serial] = login
            elif not login.same(pin):
                raise TrustError(f'wrong PIN for the token "{token.label}"', hint="no try was used")
            login.users += 1
            return login

    def logout(self, login: Login) -> None:
        """Close the session when nobody uses it any more. Never fails: the token may be gone."""
        if os.getpid() != self._process:
            return
        with self._lock:
            login.users -= 1
            if login.users:
                return
            for serial in [key for key, value in self._logins.items() if value is login]:
                del self._logins[serial]
            with suppress(self.api.PKCS11Error):
                login.session.close()

    def _named(self, where: Pkcs11Uri) -> list[Any]:
        found = []
        for slot in self._lib.get_slots(token_present=True):
            with suppress(self.api.PKCS11Error):  # of one that is not there, or not well
                token = slot.get_token()
                wanted = where.serial is None or text_of(token.serial) == where.serial
                if token.label == where.token and wanted:
                    found.append(token)
        return found

    def _wrong_pin(self, token: Any) -> TrustError:
        flags, state = self.api.TokenFlag, token.slot.get_token().flags
        message = f'wrong PIN for the token "{token.label}"'
        if state & flags.USER_PIN_LOCKED:
            return TrustError(f"{message}, and it is locked now", hint=_locked(token.label).hint)
        if state & flags.USER_PIN_FINAL_TRY:
            return TrustError(message, hint="one try is left; then the token locks itself")
        return TrustError(message, hint="tokens take few wrong PINs, and then lock themselves")

    def __repr__(self) -> str:
        return f"<Library {self.path}>"


def text_of(serial: bytes) -> str:
    return serial.decode("ascii", "backslashreplace").strip("\0 ")


def _check_file(path: str) -> None:
    """A library runs as we do: nobody else may be able to change it."""
    try:
        found = Path(path).stat()
    except OSError:
        raise CountersealError(
            f"there is no PKCS#11 library {path}",
            hint="install the token's software, or name its library: ?module-path=/usr/lib/...",
        ) from None
    others = stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    if others or found.st_uid not in {0, os.getuid()}:
        raise TrustError(
            f"{path} can be changed by others, and it would see the PIN",
            hint="chown root and chmod go-w, or use the one your distribution installs",
        )


def _pin_text(pin: bytes) -> str:
    try:
        text = pin.decode()
    except UnicodeDecodeError:
        text = ""
    if not text:  # outside the handler: its exception holds the bytes
        raise FormatError("a PIN is text in UTF-8, and not empty")
    return text


def _explained(error: Exception, label: str, what: str) -> CountersealError:
    name = _name(error)
    if name in _GONE or "not initialized" in str(error):
        return TrustError(
            f'the token "{label}" could not {what}: it seems to be gone ({name})',
            hint="plug it in again and repeat the command",
        )
    if name == "PinLocked":
        return _locked(label)
    if name in {"PinExpired", "UserPinNotInitialized"}:
        return TrustError(
            f'the PIN of the token "{label}" has to be set first ({name})',
            hint="with the token's own tool: softhsm2-util, pkcs11-tool, ...",
        )
    if name in _FULL:
        return CountersealError(
            f'the token "{label}" is full', hint="counterseal id forget-old-keys makes room"
        )
    detail = f"{name}: {error}" if str(error) else name
    return TrustError(f'the token "{label}" refused to {what} ({detail})')


def _locked(label: str) -> TrustError:
    return TrustError(
        f'the PIN of the token "{label}" is locked',
        hint="ask whoever keeps its security officer's PIN to set a new one",
    )


def _name(error: Exception) -> str:
    return type(error).__name__
