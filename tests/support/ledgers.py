"""Logs for the tests: honest ones, and what an owner with good keys and no scruples could show."""

from __future__ import annotations

from workshop import AT

from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.edge import Edge
from counterseal.ledger.keys import LogSigner
from counterseal.ledger.log import Log
from counterseal.ledger.store import MemoryStore
from counterseal.ledger.stored import first_rows
from counterseal.ledger.tiles import CHECKPOINT, tiles_of

SECONDS = int(AT.timestamp())
ORIGIN = "example.com/log"
SIGNER = LogSigner.generate(ORIGIN)
KEYS = SIGNER.keys


class Marks:
    """A mark in memory."""

    def __init__(self):
        self.held = None

    def get(self):
        return self.held

    def put(self, checkpoint):
        self.held = checkpoint


class FileMark(Marks):
    """One in a file, for logs of several processes."""

    def __init__(self, path):
        self.path = path

    def get(self):
        return Checkpoint.parse(self.path.read_text()) if self.path.exists() else None

    def put(self, checkpoint):
        part = self.path.with_suffix(".part")
        part.write_text(checkpoint.text)
        part.replace(self.path)


def some(count, start=0):
    return [b"entry %d" % index for index in range(start, start + count)]


def new_store():
    store = MemoryStore()
    store.commit(new=first_rows())
    return store


def log_of(entries, *, store=None, mark=None, signer=SIGNER):
    """A log with these entries, published."""
    log = Log(store or new_store(), signer, mark or Marks())
    log.append_all(entries)
    log.publish(time=SECONDS)
    return log


def files_of(read, size):
    """Everything of a log of this size that is served, by path."""
    paths = [CHECKPOINT, *(tile.path for tile in tiles_of(size))]
    return {path: read(path) for path in paths}


def shown(entries, *, signer=SIGNER, time=SECONDS, origin=None):
    """The files of a log with these entries, signed: what an owner can always make."""
    edge = Edge()
    files = dict(edge.append(entries))
    for tile in tiles_of(edge.size):
        if tile.path not in files:
            files[tile.path] = edge.cut(tile)
    made = Checkpoint(origin or signer.keys.origin, edge.size, edge.root())
    files[CHECKPOINT] = signer.sign(made, time=time)
    return files


def fetch_of(files):
    def fetch(path):
        try:
            return files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    return fetch
