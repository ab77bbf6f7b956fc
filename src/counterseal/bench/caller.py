"""Calls a server, in a process of its own: neither counted nor in the server's way.

    python -m counterseal.bench.caller     reads a plan, then orders, one JSON object a line

    {"connections": n}                               connect and warm up       -> "ready"
    {"requests": n}                                  as fast as answers come   -> what happened
    {"requests": n, "rate": r}                       r a second, whatever comes -> what happened
    {"watch": true}, then any line                   until that line           -> what changed

Kept connections, one thread each, requests made beforehand, answers looked at and not decoded.
With a rate, a latency counts from when the request was due: a slow server delays no clock.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Final

__all__ = ["main"]

WARM: Final = 5
SECONDS: Final = 30.0
WATCH_SECONDS: Final = 1.0  # then nobody answers
_PIECE: Final = 1 << 16


class _Wire:
    """One connection, made again when it breaks."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._where = ("127.0.0.1", int(plan["port"]))
        self._context = _context(plan)
        head = plan["head"]
        self._requests = [
            head.format(length=len(body.encode())).encode() + body.encode()
            for body in plan["bodies"]
        ]
        self._at = 0
        self._link: socket.socket | None = None
        self._seconds = SECONDS

    def hurry(self, seconds: float) -> None:
        """Wait no longer for an answer."""
        self._seconds = seconds
        if self._link is not None:
            self._link.settimeout(seconds)

    def call(self) -> int:
        """The status of the answer; 0 if the connection broke."""
        try:
            if self._link is None:
                self._link = self._connect()
            self._at += 1
            self._link.sendall(self._requests[self._at % len(self._requests)])
            return self._read(self._link)
        except OSError:
            self.close()
            return 0

    def close(self) -> None:
        if self._link is not None:
            with suppress(OSError):
                self._link.close()
            self._link = None

    def _connect(self) -> socket.socket:
        link = socket.create_connection(self._where, timeout=self._seconds)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return link
        return self._context.wrap_socket(link, server_hostname="localhost")

    def _read(self, link: socket.socket) -> int:
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = link.recv(_PIECE)
            if not more:
                raise ConnectionResetError
            data += more
        head = data[:end].lower()
        _, _, said = head.partition(b"content-length:")
        missing = end + 4 + int(said.split(b"\r\n", 1)[0]) - len(data)
        while missing > 0:
            more = link.recv(min(missing, _PIECE))
            if not more:
                raise ConnectionResetError
            missing -= len(more)
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])


def _context(plan: dict[str, Any]) -> ssl.SSLContext | None:
    if plan.get("authority") is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(plan["authority"])
    context.load_cert_chain(plan["certificate"])
    return context


def _calls(wires: list[_Wire], requests: int, rate: float | None) -> dict[str, Any]:
    """All wires at once; `requests` in all."""
    latencies: list[list[float]] = [[] for _ in wires]
    statuses: Counter[int] = Counter()
    guard = threading.Lock()
    begun = time.perf_counter() + 0.01

    def use(number: int) -> None:
        wire, mine, seen = wires[number], latencies[number], Counter[int]()
        for turn in range(number, requests, len(wires)):
            due = time.perf_counter()
            if rate is not None:
                due = begun + turn / rate
                while (wait := due - time.perf_counter()) > 0:
                    time.sleep(wait)
            seen[wire.call()] += 1
            mine.append(time.perf_counter() - due)
        with guard:
            statuses.update(seen)

    started = time.perf_counter()
    threads = [threading.Thread(target=use, args=(number,)) for number in range(len(wires))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return {
        "wall": time.perf_counter() - started,
        "latencies": sorted(value for mine in latencies for value in mine),
        "statuses": {str(status): count for status, count in statuses.items()},
    }


def _watch(wire: _Wire, ended: threading.Event) -> list[dict[str, int]]:
    """Call without a pause. Of each change from yes to no: when the last yes was sent and came,
    when the first no came and what it was (0: no answer), and the first that was an answer, on
    the clock that all processes of a machine share."""
    changes: list[dict[str, int]] = []
    asked = allowed = 0
    before = 200
    wire.hurry(WATCH_SECONDS)
    while not ended.is_set():
        sent = time.monotonic_ns()
        status = wire.call()
        if status == 200:
            asked, allowed = sent, time.monotonic_ns()
        else:
            now = time.monotonic_ns()
            if before == 200:
                changes.append({"asked": asked, "yes": allowed, "no": now, "status": status})
            if status and changes:
                changes[-1].setdefault("answer", now)
        before = status
    return changes


def _until_told(wire: _Wire) -> list[dict[str, int]]:
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        ended.set()

    listener = threading.Thread(target=listen)
    listener.start()
    changes = _watch(wire, ended)
    listener.join()
    return changes


def main() -> None:
    plan = json.loads(sys.stdin.readline())
    wires: list[_Wire] = []
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        answer: Any = "ready"
        if "connections" in order:
            for wire in wires:
                wire.close()
            wires = [_Wire(plan) for _ in range(order["connections"])]
            _calls(wires, order.get("warm", WARM) * len(wires), None)
        elif "watch" in order:
            answer = _until_told(wires[0])
        else:
            answer = _calls(wires, order["requests"], order.get("rate"))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
