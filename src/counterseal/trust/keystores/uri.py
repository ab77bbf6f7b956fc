"""What names a token: a subset of PKCS#11 URIs (RFC 7512), and `tpm:` with how to reach it.

    pkcs11:token=lab?module-path=/usr/lib/softhsm/libsofthsm2.so
    pkcs11:token=lab;serial=9ee26800e0688bce;object=counterseal
    tpm:device:/dev/tpmrm0        tpm:swtpm:path=/run/swtpm.sock

Rules: only the attributes above, each once, percent-encoding where RFC 7512 demands it; a
module by its whole path. Two are refused by name: `pin-value`, because every process can read
an argument; `cmd`, because that would start a program that a file names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from counterseal.errors import FormatError

__all__ = ["Pkcs11Uri", "TokenUri", "TpmUri", "parse"]

MAX_CHARACTERS: Final = 1024
_LABEL_BYTES: Final = 32  # CK_TOKEN_INFO.label
_SERIAL_BYTES: Final = 16  # CK_TOKEN_INFO.serialNumber
_OBJECT_BYTES: Final = 96
_PLAIN: Final = ":[]@!$'()*+,=/"  # as RFC 7512 has it, but never `&`, which separates as well
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=/-]|%[0-9A-Fa-f]{2})+")
_TCTI: Final = re.compile(r"(device|swtpm|tabrmd)(?::([A-Za-z0-9_./=,:-]*))?")
_DEFAULT_TCTI: Final = "device:/dev/tpmrm0"  # the kernel's resource manager


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """A token by its label. `object`: how the names of our keys in it begin."""

    token: str
    serial: str | None = None
    object: str | None = None
    module: str | None = None

    def __str__(self) -> str:
        named = {"token": self.token, "serial": self.serial, "object": self.object}
        path = ";".join(
            f"{name}={quote(value, safe=_PLAIN)}" for name, value in named.items() if value
        )
        query = f"?module-path={quote(self.module, safe=_PLAIN)}" if self.module else ""
        return f"pkcs11:{path}{query}"


@dataclass(frozen=True, slots=True)
class TpmUri:
    """A TPM by its TCTI, the way that TPM software names a transport."""

    tcti: str

    def __str__(self) -> str:
        return f"tpm:{self.tcti}"


TokenUri: TypeAlias = Pkcs11Uri | TpmUri


def parse(text: str) -> TokenUri:
    """Raise FormatError for anything else. The error never repeats what could be a PIN."""
    scheme, colon, rest = text.partition(":")
    if len(text) <= MAX_CHARACTERS and colon:
        if scheme == "pkcs11":
            return _pkcs11(rest)
        if scheme == "tpm":
            return _tpm(rest)
    raise FormatError(
        "a keystore is `file`, `pkcs11:token=NAME` or `tpm:`",
        hint="docs/how-to/keys-in-hardware.md has examples",
    )


def _pkcs11(rest: str) -> Pkcs11Uri:
    found: dict[str, str] = {}
    for part in re.split("[;?&]", rest):
        name, equals, value = part.partition("=")
        if name in {"pin-value", "pin-source"}:
            raise FormatError(
                f"a PKCS#11 URI with {name}: every process here can read an argument",
                hint="the PIN is asked for, or: --passphrase-file FILE",
            )
        if name not in {"token", "serial", "object", "module-path"}:
            raise FormatError(
                "this PKCS#11 URI has an attribute that counterseal does not take",
                hint="it takes token, serial, object and module-path",
            )
        if name in found:
            raise FormatError(f"the PKCS#11 URI has {name} twice")
        if not equals or not _VALUE.fullmatch(value):
            raise FormatError(
                f"the {name} of the PKCS#11 URI is empty or has characters that need encoding",
                hint="a space is %20",
            )
        found[name] = _text(name, value)
    if "token" not in found:
        raise FormatError("which token?", hint="pkcs11:token=NAME; its label, not its slot")
    module = found.get("module-path")
    if module is not None and not module.startswith("/"):
        raise FormatError(
            "module-path is not a whole path", hint="module-path=/usr/lib/.../lib....so"
        )
    return Pkcs11Uri(found["token"], found.get("serial"), found.get("object"), module)


def _text(name: str, value: str) -> str:
    most = {"token": _LABEL_BYTES, "serial": _SERIAL_BYTES, "object": _OBJECT_BYTES}
    data = unquote_to_bytes(value)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not text or len(data) > most.get(name, MAX_CHARACTERS):
        raise FormatError(f"the {name} of the PKCS#11 URI is too long or is no text")
    return text


def _tpm(rest: str) -> TpmUri:
    match = _TCTI.fullmatch(rest or _DEFAULT_TCTI)
    if match is None:
        raise FormatError(
            "this is no way to reach a TPM",
            hint="tpm:device:/dev/tpmrm0, tpm:swtpm:path=SOCKET, or tpm: for the one here",
        )
    return TpmUri(match[0])
