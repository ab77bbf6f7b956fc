"""Clients of a gateway that runs as real processes: sessions over real TLS, calls from many threads.

    caller = Caller(town, town.serve().port)
    caller.ask().status                        # one call; whatever comes back
    crowd(caller, threads=8, calls=100)        # many at once; the statuses, counted

`Upstream` is a server of the lab's own that speaks OpenAI's API, as a process.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from gateway import PURPOSE, body_of, free_port

from counterseal.errors import CountersealError
from counterseal.gateway.client.calling import Session
from counterseal.gateway.client.line import Line, context_of
from counterseal.gateway.client.opening import Where, open_session
from counterseal.jobs.session import keep
from counterseal.jobs.witness import hand_out

INFER = "/v2/models/scan/infer"
LIMIT = 60.0


class Caller:
    """clinic's session at a gateway, and connections of its own: one for each thread.

    They are closed by `town.lines`, an ExitStack.
    """

    def __init__(self, town, port, *, role="analyst", owner=False):
        self.opened = open_session(
            Where("localhost", port),
            by=town.identity("lab" if owner else "clinic"),
            to=town.lab.history,
            charter=None if owner else town.chain.charter,
            role="owner" if owner else role,
            purpose=None if owner else PURPOSE,
            at=datetime.now(UTC),
        )
        self.town = town
        self.headers = {
            "authorization": f"Bearer {self.opened.grant.token}",
            "counterseal-purpose": PURPOSE,
        }
        if not owner:  # what is called here no SDK remembers
            hand_out(town.store("clinic"), self.opened.us, self.opened.charter, self.opened.digest)
        self.at(port)

    def at(self, port):
        """The same session, at another node or after a restart."""
        self.port = port
        tls = context_of(self.opened.authority, self.opened.pem)
        self.line = Line("localhost", port, tls, seconds=30)
        self.town.lines.callback(self.line.close)
        return self

    def ask(self, body=None, *, path=INFER, record=None):
        headers = {**self.headers, "counterseal-record": record} if record else self.headers
        return self.line.ask("POST", path, body=body or body_of(), headers=headers)

    def get(self, path):
        return self.line.ask("GET", path, headers=self.headers)

    def again(self):
        """The same session on new connections: perhaps at another worker."""
        return Caller.__new__(Caller)._take(self)

    def _take(self, other):
        self.opened, self.town, self.headers = other.opened, other.town, other.headers
        return self.at(other.port)

    def several(self, count=12):
        """Connections that are open at the same time, so that every worker gets some."""
        found = [self.again() for _ in range(count)]
        for one in found:
            one.get("/v2/models/scan")
        return found

    def folder(self, name="session"):
        """Kept as `counterseal session open` does."""
        keep(self.opened, self.town.folder / name)
        return self.town.folder / name

    def session(self, **more):
        return Session(self.opened, **more)


def crowd(caller, *, threads, calls, body=None, meanwhile=None, until=None):
    """So many threads, each with a connection and so many calls; a lost connection is opened
    again. `until`: the status after which a thread stops. Returns the statuses, counted, and the
    records of what was answered."""
    counted, records = Counter(), []
    lock = threading.Lock()
    ends = time.monotonic() + LIMIT

    def work():
        mine = caller.again()
        for _ in range(calls):
            record = os.urandom(16).hex()
            try:
                status = mine.ask(body, record=record).status
            except CountersealError:
                status = "lost"
                mine = caller.again()
                time.sleep(0.05)
            with lock:
                counted[status] += 1
                if status == 200:
                    records.append(record)
            if status == until or time.monotonic() > ends:
                break

    crew = [threading.Thread(target=work) for _ in range(threads)]
    for one in crew:
        one.start()
    if meanwhile is not None:
        while sum(counted.values()) < threads * 2:
            time.sleep(0.005)
        meanwhile()
    for one in crew:
        one.join(LIMIT)
    return counted, records


def wait_until(is_so, *, seconds=LIMIT):
    """How long it took."""
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < seconds
        time.sleep(0.02)
    return time.monotonic() - begun


def workers_of(running):
    """The process ids of a gateway's workers."""
    process = running.process.pid
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(one) for one in text.split()]


def is_alive(process):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


class Upstream:
    """An OpenAI-compatible server as vLLM or llama.cpp would be; a context manager.

    Its chat repeats what was asked, a word at a time; `slow` seconds before each word.
    """

    def __init__(self, town, *, slow=0.0):
        self.port = free_port()
        self.url = f"openai+http://127.0.0.1:{self.port}/v1#repeat"
        self._running = town.start("lab", self.port, slow, script=_SERVER).until("ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._running.end()


_SERVER = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/embeddings":
            self.whole(embeddings(asked))
        elif asked.get("stream"):
            self.pieces(asked)
        else:
            words = words_of(asked)
            time.sleep(float(sys.argv[2]) * len(words))
            message = {"role": "assistant", "content": " ".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.whole({"choices": [choice], "usage": usage(words)})

    def whole(self, answer):
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def pieces(self, asked):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        words = words_of(asked)
        for word in words:
            time.sleep(float(sys.argv[2]))
            self.event({"choices": [{"index": 0, "delta": {"content": word + " "}}]})
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.event({"choices": [], "usage": usage(words)})
        self.wfile.write(b"data: [DONE]\\n\\n")
        self.close_connection = True

    def event(self, data):
        self.wfile.write(b"data: " + json.dumps(data).encode() + b"\\n\\n")
        self.wfile.flush()

def words_of(asked):
    return asked["messages"][-1]["content"].split()

def usage(words):
    return {"prompt_tokens": len(words), "completion_tokens": len(words), "total_tokens": 0}

def embeddings(asked):
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    rows = [{"index": n, "embedding": [float(len(t)), 0.5]} for n, t in enumerate(texts)]
    return {"data": rows, "usage": {"prompt_tokens": 3 * len(texts)}}

server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""
