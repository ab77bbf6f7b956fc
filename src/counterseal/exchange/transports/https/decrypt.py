"""Decrypted records straight into the caller's buffer.

pyOpenSSL's `recv_into` copies each 16 KiB once more and calls OpenSSL twice for it; with several
connections the threads then hand Python's lock to each other instead of working. This asks
OpenSSL itself, by the names that pyOpenSSL uses inside. Should a release of it rename them,
its public method does the same work, about a tenth slower.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL

__all__ = ["RECORD_BYTES", "fill"]

RECORD_BYTES: Final = 16_384  # what `recv_into` gives at most; asking for more costs memory

ffi: Any
lib: Any
try:
    from OpenSSL._util import ffi, lib
except ImportError:  # pragma: no cover - another pyOpenSSL than ours
    ffi = lib = None

_DIRECT: Final = (
    hasattr(lib, "SSL_read")
    and hasattr(ffi, "from_buffer")
    and hasattr(SSL.Connection, "_raise_ssl_error")
)


def fill(tls: SSL.Connection, view: memoryview) -> tuple[int, SSL.Error | None]:
    """How much of `view` is filled, and why not all of it."""
    return _direct(tls, view) if _DIRECT and hasattr(tls, "_ssl") else _public(tls, view)


def _direct(tls: Any, view: memoryview) -> tuple[int, SSL.Error | None]:
    at, end, ssl, read = 0, len(view), tls._ssl, lib.SSL_read  # noqa: SLF001 - see above
    with ffi.from_buffer(view) as target:
        while at < end:
            count = read(ssl, target + at, end - at)
            if count <= 0:
                try:
                    tls._raise_ssl_error(ssl, count)  # noqa: SLF001 - see above
                except SSL.Error as error:
                    return at, error
            at += count
    return at, None


def _public(tls: SSL.Connection, view: memoryview) -> tuple[int, SSL.Error | None]:
    at, end = 0, len(view)
    while at < end:
        try:
            at += tls.recv_into(view[at:], RECORD_BYTES)
        except SSL.Error as error:
            return at, error
    return at, None
