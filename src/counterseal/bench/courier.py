"""One side of a measured transfer, as a process of its own: prints what it took, as JSON.

    python -m counterseal.bench.courier send HOME PARTNER ADDRESS PACKAGE
    python -m counterseal.bench.courier receive HOME PARTNER ADDRESS FOLDER
    python -m counterseal.bench.courier mailbox HOME ROOT         until stdin closes
    python -m counterseal.bench.courier raw-send PORT FILE
    python -m counterseal.bench.courier raw-receive FILE          one connection
    python -m counterseal.bench.courier ssl-send PORT FILE
    python -m counterseal.bench.courier ssl-receive FILE          the same with Python's `ssl`

Times leave out starting Python and unlocking keys. `peak` is the most resident memory after
that. The raw sides move a file over one TLS connection and do nothing else: what a transfer is
measured against. One pair with the driver of our own HTTPS, one with the `ssl` of Python.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from counterseal.crypto.tls_identity import throw_away
from counterseal.exchange.transports.https.tls import Link
from counterseal.jobs.address import open_transport
from counterseal.jobs.mailbox import serve
from counterseal.jobs.receive import Arrived, await_receipt, listen, receive
from counterseal.jobs.send import send
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import PartnerBook

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.exchange.transports import BlockSource, Progress, Transport

__all__ = ["PASSPHRASE", "main"]

PASSPHRASE: Final = b"bench"
BLOCK: Final = 1 << 20
WAIT: Final = 60.0


class _Timed:
    """A transport that remembers when blocks were on their way."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def deliver(self, box: str, letter: bytes, blocks: BlockSource, *, progress: Progress) -> None:
        started = time.perf_counter()
        self._transport.deliver(box, letter, blocks, progress=progress)
        self.seconds += time.perf_counter() - started


def main(arguments: list[str]) -> None:
    role, *rest = arguments
    roles: dict[str, Callable[..., dict[str, Any]]] = {
        "send": _send,
        "receive": _receive,
        "mailbox": _mailbox,
        "raw-send": _raw_send,
        "raw-receive": _raw_receive,
        "ssl-send": _ssl_send,
        "ssl-receive": _ssl_receive,
    }
    print(json.dumps(roles[role](*rest)), flush=True)


def _send(home: str, partner: str, address: str, package: str) -> dict[str, Any]:
    us, book = _open(home)
    transport = open_transport(address, by=us, book=book)
    timed: Any = _Timed(transport)
    meter = _Meter()
    try:
        if transport.live:  # as the command does: else the receipt finds nobody
            listen(by=us, to=book.get(partner), via=transport)
        sent = send(package, by=us, to=book.get(partner), via=timed)
        result = meter.read(bytes=sent.bytes, carrying=timed.seconds)
        if transport.live:
            await_receipt(sent.letter, by=us, of=book.get(partner), via=transport, wait=WAIT)
    finally:
        transport.close()
    return result


def _receive(home: str, partner: str, address: str, folder: str) -> dict[str, Any]:
    us, book = _open(home)
    transport = open_transport(address, by=us, book=book, keep_letters=True)
    place = book.get(partner)
    for _ in transport.waiting([], wait=0.0):
        pass
    print("ready", flush=True)
    started = 0.0
    meter = _Meter()

    def first(_done: int, _all: int) -> None:
        nonlocal started
        started = started or time.perf_counter()

    count = 0
    end = time.monotonic() + WAIT
    try:
        while not count and time.monotonic() < end:
            for event in receive(
                Path(folder), by=us, partners=[place], via=transport, wait=5.0, progress=first
            ):
                if isinstance(event, Arrived):
                    count += event.bytes
    finally:
        transport.close()
    return meter.read(bytes=count, carrying=time.perf_counter() - started)


def _mailbox(home: str, root: str) -> dict[str, Any]:
    us, book = _open(home)
    mailbox, server = serve(Path(root), by=us, book=book, host="127.0.0.1", port=0)
    meter = _Meter()
    print(server.port, flush=True)
    sys.stdin.read()
    server.close()
    mailbox.close()
    return meter.read(bytes=0, carrying=0.0)


def _raw_send(port: str, file: str) -> dict[str, Any]:
    link = Link.connect("127.0.0.1", int(port), timeout=WAIT)
    return _bare_send(file, link.send, link.read_into, link.close)


def _raw_receive(file: str) -> dict[str, Any]:
    link = Link.accept(_one_caller(), timeout=WAIT)
    return _bare_receive(file, link.send, link.read_into, link.close)


def _ssl_send(port: str, file: str) -> dict[str, Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a measure, no transport
    link = context.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), timeout=WAIT))
    return _bare_send(file, link.sendall, link.recv_into, link.close)


def _ssl_receive(file: str) -> dict[str, Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    pem = Path(f"{file}.pem")
    pem.write_bytes(throw_away().pem)
    context.load_cert_chain(pem)
    pem.unlink()
    link = context.wrap_socket(_one_caller(), server_side=True)
    return _bare_receive(file, link.sendall, link.recv_into, link.close)


def _one_caller() -> socket.socket:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
    return connection


def _bare_send(
    file: str,
    send: Callable[[bytes | memoryview], None],
    read_into: Callable[[memoryview], int],
    close: Callable[[], None],
) -> dict[str, Any]:
    meter = _Meter()
    started = time.perf_counter()
    buffer = memoryview(bytearray(BLOCK))
    count = 0
    send(Path(file).stat().st_size.to_bytes(8, "big"))
    with Path(file).open("rb", buffering=0) as source:
        while got := source.readinto(buffer):
            send(buffer[:got])
            count += got
    read_into(memoryview(bytearray(1)))  # when they have written it
    close()
    return meter.read(bytes=count, carrying=time.perf_counter() - started)


def _bare_receive(
    file: str,
    send: Callable[[bytes | memoryview], None],
    read_into: Callable[[memoryview], int],
    close: Callable[[], None],
) -> dict[str, Any]:
    meter = _Meter()
    buffer = memoryview(bytearray(BLOCK))

    def exactly(view: memoryview) -> memoryview:
        filled = 0
        while filled < len(view):
            filled += read_into(view[filled:])
        return view

    size = int.from_bytes(exactly(buffer[:8]), "big")
    with Path(file).open("wb", buffering=0) as target:
        at = 0
        while at < size:
            at += target.write(exactly(buffer[: min(BLOCK, size - at)]))
    send(b"1")
    close()
    return meter.read(bytes=size, carrying=0.0)


class _Meter:
    """Wall, CPU and the peak of memory from here on."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, **more: float) -> dict[str, Any]:
        status = Path("/proc/self/status").read_text()
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return {
            "wall": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
            "peak": int(peak) * 1024,
            **more,
        }


def _open(home: str) -> tuple[Identity, PartnerBook]:
    place = Home(home)
    us = Identity.load(place.only_identity(), home=place, passphrase=PASSPHRASE)
    us.current(at=datetime.now(UTC))
    return us, PartnerBook(place.store)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main(sys.argv[1:])
