"""A server that runs models for us, over HTTP/1.1 on connections that are kept and used again.

TLS is verified, and plain HTTP is for this machine only, unless the owner says otherwise: what
partners send goes over it. Redirects are not followed, proxies of the environment not used.
Answers are bounded in size and time. What the server says about an error stays here: its words
name layers, paths and versions, and a refusal is read by a partner.
"""

from __future__ import annotations

import http.client
import ipaddress
import ssl
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from counterseal.errors import Dropped, FormatError, PeerMisbehaved, TimedOut, TrustError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Address", "Answer", "Server", "read_key"]

ANSWER_BYTES: Final = 64 << 20
LINE_BYTES: Final = 1 << 20
_PIECE: Final = 1 << 16
_KEY_BYTES: Final = 4096
_KEPT: Final = 32


@dataclass(frozen=True, slots=True)
class Address:
    """`oip+https://host:8000/MODEL` or `openai+https://host/v1#MODEL`."""

    protocol: str
    host: str
    port: int | None
    path: str
    model: str
    plain: bool

    @classmethod
    def parse(cls, url: str, *, allow_plain: bool = False) -> Address:
        """Raises FormatError; plain HTTP to another machine only with `allow_plain`."""
        form = "oip+https://HOST:PORT/MODEL or openai+https://HOST/v1#MODEL is expected"
        if not url.isascii() or not url.isprintable() or " " in url:  # urlsplit drops line breaks
            raise FormatError("this is no address of a server", hint=form)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise FormatError("this is no address of a server", hint=form) from None
        protocol, _, scheme = parts.scheme.partition("+")
        if protocol not in {"oip", "openai"} or scheme not in {"http", "https"} or not host:
            raise FormatError("this is no address of a server", hint=form)
        if parts.username is not None or parts.password is not None or parts.query:
            raise FormatError(
                "an address has no user, password or query", hint="keys are read from a file"
            )
        path = parts.path.rstrip("/")
        model = parts.fragment
        if protocol == "oip":
            path, _, model = path.rpartition("/")
        if not model:
            raise FormatError("the address does not name a model", hint=form)
        plain = scheme == "http"
        if plain and not allow_plain and not _is_here(host):
            raise FormatError(
                f"http:// to {host} would send what partners ask in plain text",
                hint="use https",
            )
        return cls(protocol, host, port, path, model, plain)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_key(path: Path) -> str:
    """The API key in a file. Never an argument: those are seen by every process."""
    with path.open("rb") as file:
        data = file.read(_KEY_BYTES + 1).strip()
    if not 1 <= len(data) <= _KEY_BYTES or not all(0x21 <= byte < 0x7F for byte in data):
        raise FormatError(f'"{path.name}" does not hold an API key: one line of ASCII is expected')
    return data.decode()


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    headers: Mapping[str, str]


class Server:
    """Asks one server. Safe to use from several threads."""

    def __init__(
        self,
        address: Address,
        *,
        key: str | None = None,
        timeout: float = 30.0,
        context: ssl.SSLContext | None = None,
        answer_bytes: int = ANSWER_BYTES,
    ) -> None:
        if context is not None and context.verify_mode != ssl.CERT_REQUIRED:
            raise ValueError("the certificate of a server is verified")
        self._address = address
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._timeout = timeout
        self._context = context or (None if address.plain else ssl.create_default_context())
        self._answer_bytes = answer_bytes
        self._kept: deque[http.client.HTTPConnection] = deque()  # pop and append are atomic
        self._closed = False

    def __repr__(self) -> str:
        return f"<Server {self._address.host}>"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its whole answer. Raises FormatError if the input was refused."""
        try:
            connection = self._kept.pop()
        except IndexError:
            connection = self._new()
        try:
            # A response that is not read to its end keeps the socket: `with` closes it.
            with _translated(), self._begin(connection, method, path, body, headers) as response:
                answer = Answer(self._read(response), dict(_lower(response)))
        except BaseException:
            connection.close()
            raise
        if len(self._kept) < _KEPT and not self._closed:
            self._kept.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """No connection is kept after this."""
        self._closed = True
        while self._kept:
            self._kept.pop().close()

    def lines(self, path: str, body: bytes, headers: Mapping[str, str]) -> Iterator[bytes]:
        """The lines of a streamed answer, on a connection of their own, as they come."""
        connection = self._new()
        try:
            with _translated():
                response = self._send(connection, "POST", path, body, headers)
            with response:
                _check_status(response)
                yield from self._lines(response)
        finally:
            connection.close()

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        total = 0
        while True:
            with _translated():
                line = response.readline(LINE_BYTES + 1)
            total += len(line)
            if len(line) > LINE_BYTES or total > self._answer_bytes:
                raise PeerMisbehaved("the server behind the model answers without an end")
            if not line:
                return
            yield line.rstrip(b"\r\n")

    def _new(self) -> http.client.HTTPConnection:
        address = self._address
        if address.plain:
            return http.client.HTTPConnection(address.host, address.port, timeout=self._timeout)
        return http.client.HTTPSConnection(
            address.host, address.port, timeout=self._timeout, context=self._context
        )

    def _begin(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> http.client.HTTPResponse:
        reused = connection.sock is not None
        try:
            return self._send(connection, method, path, body, headers)
        except (ConnectionError, http.client.RemoteDisconnected):
            connection.close()
            if not reused:
                raise
            # It was closed while idle: a server that has not begun to answer is asked again.
            return self._send(connection, method, path, body, headers)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> http.client.HTTPResponse:
        wanted = {**self._headers, **(headers or {})}
        connection.request(method, f"{self._address.path}{path}", body=body, headers=wanted)
        return connection.getresponse()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        _check_status(response)
        ends = time.monotonic() + self._timeout  # of the whole: each piece alone may be in time
        pieces: list[bytes] = []
        left = self._answer_bytes - (response.length or 0)
        while left >= 0 and response.length != 0 and (piece := response.read1(_PIECE)):
            pieces.append(piece)
            left -= len(piece) if response.length is None else 0
            if time.monotonic() > ends:
                raise TimedOut("the server behind the model did not answer in time")
        if left < 0:
            raise PeerMisbehaved("the server behind the model answers without an end")
        if response.length:
            raise Dropped("the server behind the model stopped within its answer")
        response.read(1)  # nothing is left: this frees the connection for the next request
        return b"".join(pieces)


def _check_status(response: http.client.HTTPResponse) -> None:
    if response.status == http.HTTPStatus.OK:
        return
    if response.status in {400, 413, 422}:
        raise FormatError("the model cannot answer this input")
    raise PeerMisbehaved(
        f"the server behind the model answered {response.status}",
        hint="its own log says why",
    )


def _lower(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    return ((name.lower(), value) for name, value in response.getheaders())


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise TimedOut("the server behind the model did not answer in time") from error
    except ssl.SSLCertVerificationError as error:
        raise TrustError("the certificate of the server behind the model is not valid") from error
    except http.client.RemoteDisconnected as error:
        raise Dropped("the server behind the model went away") from error
    except http.client.HTTPException as error:
        raise PeerMisbehaved("the server behind the model does not speak HTTP") from error
    except OSError as error:
        raise Dropped("the server behind the model cannot be reached") from error
