"""A machine between a client and its broker that holds the broker's key: it reads MQTT, and
drops, repeats, reorders or changes messages, without either side hearing of it.

    with Middle(broker, lambda message: [message, message]) as middle:
        MqttTransport("localhost", middle.port, ca_file=broker.ca)
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import threading
from dataclasses import dataclass

import pytest

PUBLISH, PUBACK = 3, 4


@dataclass(frozen=True)
class Message:
    """A PUBLISH on its way. `to`: "broker" or "client"."""

    to: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    number: bytes
    raw: bytes

    def changed(self, payload):
        """The same with other contents of the same length."""
        assert len(payload) == len(self.payload)
        return self.raw[: len(self.raw) - len(payload)] + payload


def variable(data, at):
    """A variable byte integer: (value, end)"""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


async def read_packet(reader):
    head = await reader.readexactly(2)
    while head[-1] >= 128:
        head += await reader.readexactly(1)
    return head + await reader.readexactly(variable(head, 1)[0])


def parse(raw, to):
    _, at = variable(raw, 1)
    length = struct.unpack_from(">H", raw, at)[0]
    topic = raw[at + 2 : at + 2 + length].decode()
    at += 2 + length
    qos, number = raw[0] >> 1 & 3, b""
    if qos:
        number, at = raw[at : at + 2], at + 2
    properties, at = variable(raw, at)
    return Message(to, topic, raw[at + properties :], qos, bool(raw[0] & 1), number, raw)


class Middle:
    """`meddle(message)` returns what goes on instead: messages or raw packets, in order."""

    def __init__(self, broker, meddle):
        if broker.version != "5":
            pytest.skip("Debian's mosquitto is not installed")
        self._broker, self._meddle = broker, meddle
        self._server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server_side.load_cert_chain(broker.certificate, broker.key)
        self._client_side = ssl.create_default_context(cafile=broker.ca)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers = set()
        self._tasks = set()
        self.messages = 0

    def __enter__(self):
        self._thread.start()
        self._server = self._wait(
            asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._server_side, limit=1 << 22)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self):
        """All connections break."""
        self._loop.call_soon_threadsafe(self._cut)

    def _wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _cut(self):
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self):
        self._server.close()
        self._cut()
        for task in list(self._tasks):
            with contextlib.suppress(Exception):
                await task
        await asyncio.sleep(0)  # transports that were aborted are closed by the loop

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        try:
            onward_reader, onward = await asyncio.open_connection(
                "127.0.0.1",
                self._broker.port,
                ssl=self._client_side,
                server_hostname="localhost",
                limit=1 << 22,
            )
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, onward}
        self._writers |= pair
        await asyncio.gather(
            self._carry(reader, onward, writer, "broker", pair),
            self._carry(onward_reader, writer, onward, "client", pair),
        )
        self._writers -= pair

    async def _carry(self, reader, writer, giver, to, pair):
        try:
            while True:
                for packet in self._pass(await read_packet(reader), giver, to):
                    writer.write(packet)
                await writer.drain()
        except (OSError, EOFError, ValueError):
            for one in pair:
                one.transport.abort()

    def _pass(self, raw, giver, to):
        if raw[0] >> 4 != PUBLISH:
            return [raw]
        message = parse(raw, to)
        self.messages += 1
        out = self._meddle(message)
        if not out and message.qos:  # nobody notices: the giver hears that all is well
            giver.write(bytes([PUBACK << 4, 2]) + message.number)
        return [getattr(one, "raw", one) for one in out]


def unreliable(rng, *, drop=0.0, twice=0.0, swap=0.0, change=0.0, only=""):
    """A `meddle` that does each of these to so many of the messages whose topic ends in `only`."""
    held = {}

    def meddle(message):
        if not message.topic.endswith(only):
            return [message]
        out = [message]
        if rng.random() < drop:
            out = []
        elif rng.random() < twice:
            out = [message, message]
        elif rng.random() < change:
            at = rng.randrange(len(message.payload))
            payload = bytearray(message.payload)
            payload[at] ^= 1 << rng.randrange(8)
            out = [message.changed(bytes(payload))]
        key = message.to, message.topic
        out += held.pop(key, [])
        if out and rng.random() < swap:
            held[key] = [out.pop(0)]
            if not out and message.qos:
                out = held.pop(key)  # an answer is due for it: it cannot be held alone
        return out

    return meddle
