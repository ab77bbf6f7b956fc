"""A process that carries TCP connections between two others, and means no good.

    with Interceptor(network, to=("10.77.2.2", 8443)) as rival:
        rival.tell("cut", every=1 << 20, times=3)   # every mebibyte, all connections break
        rival.tell("hold", after=4 << 20)           # then nothing passes any more ...
        rival.await_("held")                        # ... (wait until it is so)
        rival.tell("carry")                         # until honest work is wanted again
        rival.ask("count")                          # {"up": bytes, "down": bytes, ...}

What it can be told, by name of the method below: carry, cut, hold, flip, strip, impersonate,
replay. It runs in the namespace of the middle and answers for the relay's address.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

PIECE = 1 << 16
PATIENCE = 60.0
HYBRID_GROUP = b"\x11\xec"  # X25519MLKEM768 in a ClientHello


class Interceptor:
    """The parent's end: starts the process, tells it what to do."""

    def __init__(self, network, *, to, port=8443, place="middle"):
        command = [sys.executable, __file__, to[0], to[1], port]
        self._process = network.start(
            place, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def ask(self, what, **details):
        """Returns what it answers: when it does, it is done."""
        self._process.stdin.write(json.dumps({"do": what, **details}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "failed" not in answer, answer
        return answer

    tell = ask

    def await_(self, event):
        """Until it has happened since the last order."""
        return self.ask("wait", event=event)

    @property
    def passed(self):
        """Bytes (up to the relay, down to the client), over all connections."""
        count = self.ask("count")
        return count["up"], count["down"]


class Rival:
    """The process's end. One thread accepts, two carry each connection."""

    def __init__(self, target, port):
        self._target = target
        self._lock = threading.Lock()
        self._open = set()
        self._order = {"do": "carry"}
        self._free = threading.Event()
        self._free.set()
        self._happened = {name: threading.Event() for name in ("held", "cut", "flipped")}
        self._passed = {"up": 0, "down": 0}
        self._since = {"up": 0, "down": 0}
        self._connections = 0
        self._times = 0
        self.heard = []  # of each connection, what its client sent
        self.plain = []  # of each that was opened, what was inside
        self._listener = socket.create_server(("0.0.0.0", port))  # noqa: S104 - in a namespace
        threading.Thread(target=self._accept, daemon=True).start()

    # ------------------------------------------------------------------ what it can be told

    def carry(self, **_):
        """Be honest."""

    def cut(self, *, every, times=1 << 30, end="reset"):
        """All connections break whenever `every` more bytes have passed; `end`: reset, or
        "finish", an orderly end that nobody of the two has meant."""

    def hold(self, *, after, way="up"):
        """When `after` bytes have passed this way, nothing passes until the next order."""

    def flip(self, *, at, way="up", times=1):
        """One bit of the byte at this place of each connection."""

    def strip(self, **_):
        """Write another key exchange over the post-quantum one that a client offers."""

    def impersonate(self, *, groups="hybrid"):
        """End TLS here, with a certificate of our own, and begin it anew towards the relay;
        `groups`: hybrid, or "classical" towards the client, who shall take it.
        """
        self._classical = groups == "classical"

    def obey(self, order):
        do = order.pop("do")
        if do == "wait":
            assert self._happened[order["event"]].wait(PATIENCE), f"never {order['event']}"
        elif do == "count":
            return {**self._passed, "connections": self._connections}
        elif do == "plain":
            return {"plain": b"".join(self.plain).hex()}
        elif do == "replay":
            return self._replay(**order)
        else:
            getattr(self, do)(**order)  # knows the names of the details
            with self._lock:
                self._order = {"do": do, **order}
                self._since = {"up": 0, "down": 0}
                self._times = order.get("times", 1)
                for event in self._happened.values():
                    event.clear()
            self._free.set()
        return {}

    # ------------------------------------------------------------------ connections

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with self._lock:
            number = self._connections
            self._connections += 1
            self.heard.append(bytearray())
        with contextlib.closing(client):
            if self._order["do"] == "impersonate":
                self._impersonate(client)
                return
            try:
                relay = socket.create_connection(self._target, timeout=10)
            except OSError:
                return  # it is down: the client finds out
            relay.settimeout(None)
            with contextlib.closing(relay):
                both = {client, relay}
                with self._lock:
                    self._open |= both
                back = threading.Thread(target=self._carry, args=(relay, client, "down", number))
                back.start()
                self._carry(client, relay, "up", number)
                back.join()
                with self._lock:
                    self._open -= both

    def _carry(self, source, sink, way, number):
        place = 0
        try:
            while data := source.recv(PIECE):
                data = self._meddle(bytearray(data), way, number, place)
                place += len(data)
                sink.sendall(data)
                self._note(way, len(data))
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for one in (source, sink):
                _break(one)

    def _meddle(self, data, way, number, place):
        self._free.wait()
        if way == "up" and len(self.heard[number]) < 1 << 20:
            self.heard[number] += data
        do, order = self._order["do"], self._order
        if do == "flip" and way == order.get("way", "up") and self._times:
            at = order["at"] - place
            if 0 <= at < len(data):
                self._times -= 1
                data[at] ^= 4
                self._happened["flipped"].set()
        if do == "strip" and way == "up" and place == 0:
            assert HYBRID_GROUP in data
            data = data.replace(HYBRID_GROUP, b"\x00\x1d")
            self._happened["flipped"].set()
        return data

    def _note(self, way, count):
        with self._lock:
            self._passed[way] += count
            self._since[way] += count
            order = self._order
            if order["do"] == "hold" and self._since[order.get("way", "up")] >= order["after"]:
                self._free.clear()
                self._happened["held"].set()
            if order["do"] != "cut" or not self._times:
                return
            if sum(self._since.values()) < order["every"]:
                return
            self._times -= 1
            self._since = {"up": 0, "down": 0}
            for one in self._open:
                (_finish if order.get("end") == "finish" else _break)(one)
            if not self._times:
                self._happened["cut"].set()

    # ------------------------------------------------------------------ attacks on TLS

    def _replay(self, *, connection):
        """Say once more what a client once said; how much comes back?"""
        with socket.create_connection(self._target, timeout=PATIENCE) as relay:
            answer = b""
            with contextlib.suppress(OSError):
                relay.sendall(self.heard[connection])
                relay.shutdown(socket.SHUT_WR)
                while data := relay.recv(PIECE):
                    answer += data
        return {"said": len(self.heard[connection]), "answer": answer.hex()}

    def _impersonate(self, client):
        from OpenSSL import SSL

        inside = bytearray()
        self.plain.append(inside)
        with (
            contextlib.suppress(OSError, SSL.Error),
            socket.create_connection(self._target) as relay,
        ):
            outer = _tls(client, server=True, classical=self._classical)
            inner = _tls(relay, server=False)
            ends = {client: (outer, inner), relay: (inner, outer)}
            for one in ends:
                one.setblocking(False)  # a record may be there that says nothing to us
            ended = False
            while not ended:
                for one in select.select(list(ends), [], [])[0]:
                    source, sink = ends[one]
                    data, ended = _all_of(source)
                    if source is outer:
                        inside += data
                    sink.sendall(data)


def _all_of(connection):
    """(what is there to read, whether it has ended)"""
    from OpenSSL import SSL

    data = b""
    try:
        while True:
            data += connection.recv(PIECE)
    except SSL.WantReadError:
        return data, False
    except (SSL.Error, OSError):
        return data, True


def _tls(sock, *, server, classical=False):
    """One end, with a certificate of nobody's: they all are. `classical`: as it was in 2020."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from OpenSSL import SSL

    from counterseal.crypto.tls_identity import throw_away

    context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
    ours = throw_away()
    context.use_certificate(ours.certificate)
    context.use_privatekey(ours.key)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    if classical:
        context.set_tmp_ecdh(ec.SECP256R1())
    connection = SSL.Connection(context, sock)
    (connection.set_accept_state if server else connection.set_connect_state)()
    connection.do_handshake()
    return connection


def _break(sock):
    with contextlib.suppress(OSError):  # an end without a farewell
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.shutdown(socket.SHUT_RDWR)


def _finish(sock):
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def main():
    host, port, ours = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rival = Rival((host, port), ours)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            answer = rival.obey(json.loads(line))
        except Exception as error:  # noqa: BLE001 - told to the test
            answer = {"failed": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
    main()
