"""A shipment without its cryptography: blocks of a file, and a letter that lists them.

For tests and measurements of transports. Run as a program it is one end of a transfer:

    python shipping.py send PORT CA FILE BOX [OPTION=VALUE ...]
    python shipping.py receive PORT CA FILE BOX [OPTION=VALUE ...]
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from pathlib import Path

from counterseal.crypto.digest import leaf_digest
from counterseal.errors import BadCiphertext, CountersealError

BLOCK = 1 << 20


def sealed(text):
    """Stands for a letter: one that was changed does not open."""
    return leaf_digest(text) + text


def opened(letter):
    """None if it was changed."""
    return letter[32:] if leaf_digest(letter[32:]) == letter[:32] else None


class FileSource:
    """Satisfies `BlockSource`."""

    def __init__(self, path, *, block=BLOCK, secret=b""):
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.secret = secret
        self._places = {}
        self.names = []
        size = os.fstat(self._file).st_size
        for at in range(0, size, block):
            data = os.pread(self._file, block, at)
            name = leaf_digest(data).hex()
            self.names.append(name)
            self._places.setdefault(name, (at, len(data)))
        self.reads = []

    def size(self, name):
        return self._places[name][1]

    def read(self, name):
        at, length = self._places[name]
        self.reads.append(name)
        return os.pread(self._file, length, at)

    def fill(self, name, view):
        view[:] = self.read(name)

    def letter(self):
        places = [[name, *self._places[name]] for name in self.names]
        return sealed(json.dumps(places).encode())

    def close(self):
        os.close(self._file)


class FileSink:
    """Satisfies `BlockSink`; a file that is there already is continued."""

    def __init__(self, path, letter, *, secret=b""):
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.secret = secret
        self._lock = threading.Lock()
        self._places = {name: (at, length) for name, at, length in json.loads(opened(letter))}
        self.kept = [n for n, p in self._places.items() if leaf_digest(self._there(*p)).hex() == n]
        self._missing = dict.fromkeys(n for n in self._places if n not in set(self.kept))
        self.got = []

    def _there(self, at, length):
        return os.pread(self._file, length, at)

    def missing(self):
        with self._lock:
            return list(self._missing)

    def size(self, name):
        return self._places[name][1]

    def put(self, name, data):
        at, length = self._places.get(name, (0, -1))
        if len(data) != length or leaf_digest(data).hex() != name:
            raise BadCiphertext("changed on the way")
        os.pwrite(self._file, data, at)
        with self._lock:
            self.got.append(name)
            self._missing.pop(name, None)

    def close(self):
        os.close(self._file)


class MemorySource:
    """Satisfies `BlockSource`."""

    def __init__(self, blocks, *, secret=b""):
        self._blocks = {leaf_digest(block).hex(): block for block in blocks}
        self.names = [leaf_digest(block).hex() for block in blocks]
        self.secret = secret

    def size(self, name):
        return len(self._blocks[name])

    def read(self, name):
        return self._blocks[name]

    def fill(self, name, view):
        view[:] = self.read(name)


class MemorySink:
    """Satisfies `BlockSink`."""

    def __init__(self, source, *, without=(), secret=None):
        self.wanted = {name: source.size(name) for name in source.names if name not in without}
        self._missing = dict(self.wanted)
        self.secret = source.secret if secret is None else secret
        self.blocks = {}
        self.refused = 0

    def missing(self):
        return list(self._missing)

    def size(self, name):
        return self.wanted[name]

    def put(self, name, data):
        if name not in self.wanted or leaf_digest(data).hex() != name:
            self.refused += 1
            raise BadCiphertext("changed on the way")
        self.blocks[name] = bytes(data)
        self._missing.pop(name, None)


def await_letter(via, box):
    while True:
        for letter in via.waiting([box], wait=60):
            if opened(letter.data) is not None:
                return letter
            via.done(letter)


def peak_mib():
    """Of this process alone: what exec took over from its parent does not count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def main(role, port, ca, file, box, *options):
    from counterseal.exchange.transports.mqtt import MqttTransport

    keywords = {"patience": 30.0}
    for option in options:
        name, _, value = option.partition("=")
        keywords[name] = value if name in ("session", "version", "username") else float(value)
    if "session" in keywords:
        keywords["keep_letters"] = True
    for name in ("part_bytes", "window_bytes"):
        if name in keywords:
            keywords[name] = int(keywords[name])
    secret = bytes(32) if keywords.pop("secret", 0) else b""
    via = MqttTransport("localhost", int(port), ca_file=Path(ca), **keywords)
    facts = {}

    def progress(done, total):
        print(json.dumps({"done": done, "total": total}), flush=True)

    try:
        if role == "send":
            source = FileSource(file, secret=secret)
            print("ready", flush=True)
            sys.stdin.readline()
            begun, cpu = time.monotonic(), time.process_time()
            via.deliver(box, source.letter(), source, progress=progress)
            facts["read"] = len(source.reads)
            source.close()
        else:
            print("ready", flush=True)
            begun, cpu = time.monotonic(), time.process_time()
            letter = await_letter(via, box)
            begun, cpu = time.monotonic(), time.process_time()
            sink = FileSink(file, letter.data, secret=secret)
            via.fetch(letter, sink, progress=progress)
            facts |= {"kept": len(sink.kept), "got": len(sink.got)}
            via.done(letter)
            sink.close()
        facts |= {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}
    except CountersealError as error:
        facts |= {"error": type(error).__name__, "message": error.message}
    finally:
        via.close()
    facts["peak"] = peak_mib()
    facts["user+sys"] = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
