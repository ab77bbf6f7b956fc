"""Where a broker is, how it is trusted, and what it answers.

TLS here hides who talks from the net; it is classical. What protects the contents, also against
a quantum computer later, is in the letters themselves (SPEC 14.4).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from counterseal.errors import CountersealError, QuotaExceeded, TrustError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Arrived", "Broker", "Posted", "refusal", "tls_context"]

NOBODY: Final = 0x10  # PUBACK: no matching subscribers
_QUOTA: Final = (0x93, 0x96, 0x97, 0x9F)  # receive maximum, rate, quota, connection rate
_OTHER_VERSION: Final = 0x84


@dataclass(frozen=True, slots=True)
class Broker:
    """Where it is, and how it knows us."""

    host: str
    port: int
    tls: ssl.SSLContext
    login: tuple[str, str] | None = field(default=None, repr=False)
    version: Literal["5", "3.1.1"] = "5"


def tls_context(
    ca_file: Path | None, certificate: tuple[Path, Path] | None = None
) -> ssl.SSLContext:
    """TLS 1.3 or 1.2; the broker's certificate is checked against `ca_file` or the system's."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


class _Socket(ssl.SSLSocket):
    """paho leaves a socket open whose handshake failed."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's signature
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


@dataclass(frozen=True, slots=True)
class Arrived:
    topic: str
    data: bytes = field(repr=False)
    number: int
    qos: int
    retained: bool
    again: bool  # the broker says that it sent this before


@dataclass(slots=True)
class Posted:
    """`reason` is what the broker answered, once it did."""

    reason: int | None = None

    @property
    def unheard(self) -> bool:
        """The broker took it, and threw it away: nobody listens there, not even in absence."""
        return self.reason == NOBODY


def refusal(code: int) -> CountersealError:
    if code in _QUOTA:
        return QuotaExceeded(f"the broker takes no more at the moment (reason {code:#x})")
    if code == _OTHER_VERSION:
        return CountersealError("the broker does not speak MQTT 5", hint="use another broker")
    return TrustError(
        f"the broker refuses us (reason {code:#x})",
        hint="check the user name, the password or the certificate that it asks for",
    )
