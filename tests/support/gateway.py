"""A gateway for the tests: lab serves a real model to clinic under a charter that both signed.

    gate = town.open(limits={"concurrency": 1})   # a worker in this process; its clock turns
    gate.call(gate.session())                     # through the pipeline, without a socket
    town.serve("--workers", "2")                  # or as real processes, over real TLS

`rival` is pinned by both, as a partner of other charters; `stranger` by nobody. Keys are slow to
make: they are made once, and every town has homes of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from charters import CHARTER, amended, changed
from gateway_worker import (  # noqa: F401 - tests take all of it from here
    PURPOSE,
    Clock,
    Refused,
    Ticket,
    Worker,
    body_of,
    onnx_model,
)
from workshop import CHEAP, PASSPHRASE

from counterseal.charter import document
from counterseal.charter.chain import Chain
from counterseal.jobs.charters import CharterBook, parties_of
from counterseal.jobs.gateway import narrower
from counterseal.jobs.serve import ModelSource, Plan
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.file import FileKeystore
from counterseal.trust.partner import Partner, PartnerBook

HERE = Path(__file__).resolve().parent
SRC = HERE.parents[1] / "src"
DAY = timedelta(days=1)
PATIENCE = 60.0
NAMES = ("lab", "clinic", "rival")


@cache
def keys_of(name):
    """An identity that lives in memory; its keys are what towns take."""
    return Identity.create(name, at=datetime.now(UTC) - 2 * DAY)


class Town:
    """Everybody, with a home each, in a folder. A context manager."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = Clock()
        self.worker = None
        self.models = {"scan@1.0.0": onnx_model()[0]}
        self._workers, self._running, self._homes = [], [], {}
        self._identities = {}
        for name in NAMES:
            book = PartnerBook(self.store(name))
            for other in NAMES:
                if other != name:
                    book.add(Partner.pin(keys_of(other).card(), key_id=keys_of(other).key_id))
        self.lab, self.clinic, self.rival = (self.identity(name) for name in NAMES)
        self.chain = None  # of lab and clinic
        self.others = []

    @property
    def chains(self):
        return [self.chain, *self.others]

    def home(self, name):
        return self.folder / name

    def store(self, name):
        if name not in self._homes:
            self._homes[name] = Home(self.home(name))
        return self._homes[name].store

    def identity(self, name):
        """With the keys of everybody called so, and a home of this town."""
        if name not in self._identities:
            made = keys_of(name)
            store = self.store(name)
            self._identities[name] = Identity(made.history, made._ring, store=store)
        return self._identities[name]

    def book(self, name):
        us, store = self.identity(name).history, self.store(name)
        return CharterBook(us, PartnerBook(store), store=store, narrower=narrower)

    def partners(self, name):
        return PartnerBook(self.store(name))

    def parties(self):
        return parties_of(self.lab.history, self.partners("lab"))

    def by(self, name):
        at = datetime.now(UTC) - timedelta(minutes=1)
        return {"by": self.identity(name), "parties": self.parties(), "at": at}

    def charter(self, **changes):
        """One that permits clinic to predict with `scan`; few things are in the way."""
        now = datetime.now(UTC).replace(microsecond=0)
        base = changed(
            CHARTER,
            id=os.urandom(16).hex(),
            created=now - DAY,
            begins=now - DAY,
            ends=now + 365 * DAY,
            owner={"identity": self.lab.history.identity},
            partner={"identity": self.clinic.history.identity},
            assets=(document.Asset(name="scan", versions="~1.0", digests=None),),
            permissions=(
                document.Permission(
                    action="predict", assets=("scan",), roles=("analyst",), purposes=None
                ),
            ),
            limits={"rate": None, "hours": None, "networks": None, "concurrency": 8},
            output={"top": None},
            monitoring={"detectors": (), "ladder": ()},
            audit={"durability": "group"},
        )
        return changed(base, **changes)

    def agree(self, **changes):
        """Both sign, and both keep it."""
        chain = Chain.begin(self.charter(**changes), **self.by("lab"))
        self.keep(chain.countersigned(**self.by("clinic")))

    def agree_with_rival(self, **changes):
        """lab serves the rival, too, under a charter of its own."""
        partner = {"name": "rival", "identity": self.rival.history.identity}
        chain = Chain.begin(self.charter(partner=partner, **changes), **self.by("lab"))
        chain = chain.countersigned(**self.by("rival"))
        self.others.append(chain)
        for name in ("lab", "rival"):
            self.book(name).take(chain.document.encode())
        return chain

    def amend(self, **changes):
        """The next version, signed by both."""
        wide = amended(self.chain.charter, **changes)
        from counterseal.charter import signing

        version = signing.sign(wide, by=self.lab, at=self.by("lab")["at"])
        moved = self.chain.moved("amend", version=version, narrower=False, **self.by("lab"))
        self.keep(moved.cosigned(**self.by("clinic")))

    def suspend(self):
        """By the owner, in the home; running gateways find it when they look."""
        self.keep(self.chain.moved("suspend", reason="a question", **self.by("lab")))

    def keep(self, chain):
        self.chain = chain
        for name in ("lab", "clinic"):
            self.book(name).take(chain.document.encode())

    @property
    def plan(self):
        sources = []
        for number, (name, data) in enumerate(self.models.items()):
            path = self.folder / f"model{number}.onnx"
            if not path.exists():
                path.write_bytes(data)
            model, _, version = name.partition("@")
            sources.append(ModelSource(model, version, str(path)))
        return Plan(
            models=sources,
            charters=[chain.charter.id for chain in self.chains],
            references={},
            hosts=["localhost", "127.0.0.1"],
            workers=1,
            threads=4,
            state=None,
            node="node",
        )

    def open(self, **changes):
        """A charter with these changes, and the first worker. Returns the worker."""
        if self.chain is None or changes:
            self.agree(**changes)
        self.worker = self.another(0)
        return self.worker

    def another(self, number):
        """One more worker of the same gateway."""
        worker = Worker(self, number, clock=self.clock)
        self._workers.append(worker)
        return worker

    def restart(self):
        self.worker.close()
        return self.open()

    # As real processes

    def keep_identities(self):
        """In the homes, for programs."""
        for name in ("lab", "clinic"):
            home = Home(self.home(name))
            home.ensure()
            folder = home.identity_folder(name)
            if (folder / "card.json").exists():
                continue
            folder.mkdir(mode=0o700, parents=True)
            identity = self.identity(name)
            FileKeystore(folder / "keystore.json", cost=CHEAP).save(identity._ring, PASSPHRASE)
            identity.card().save(folder / "card.json")
        secret = self.folder / "passphrase"
        secret.write_bytes(PASSPHRASE + b"\n")
        secret.chmod(0o600)

    def start(self, name, *arguments, script=None):
        """`counterseal ARGUMENTS` as this organization, or a script."""
        self.keep_identities()
        program = ["-m", "counterseal"] if script is None else ["-c", script]
        path = [str(SRC), str(HERE), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "COUNTERSEAL_HOME": str(self.home(name)),
            "COUNTERSEAL_PASSPHRASE_FILE": str(self.folder / "passphrase"),
        }
        number = len(self._running)
        out, err = (self.folder / f"{number}.{one}" for one in ("out", "err"))
        with out.open("wb") as one, err.open("wb") as other:
            process = subprocess.Popen(
                [sys.executable, *program, *map(str, arguments)],
                stdout=one,
                stderr=other,
                env=environment,
                cwd=self.folder,
            )
        running = Running(process, out, err)
        self._running.append(running)
        return running

    def serve(self, *more, port=None):
        """The gateway as a user starts it. Its port is `.port`."""
        if self.chain is None:
            self.agree()
        port = port or free_port()
        models = [f"{one.name}@{one.number}={one.where}" for one in self.plan.models]
        running = self.start(
            "lab", "-v", "serve", *models, "--under", self.chain.charter.id,
            "--listen", f"127.0.0.1:{port}", *more,
        )  # fmt: skip
        running.port = port
        return running.until("serving;")

    def close(self):
        for worker in self._workers:
            worker.close()
        for running in self._running:
            running.end()
        for home in self._homes.values():
            home.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Running:
    """A process; what it says goes to files, so that it never waits for us."""

    def __init__(self, process, out, err):
        self.process, self._out, self._err = process, out, err
        self.port = 0

    @property
    def said(self):
        return self._out.read_text() + self._err.read_text()

    def until(self, text):
        end = time.monotonic() + PATIENCE
        while text not in self.said:
            assert self.process.poll() is None, f"it ended\n{self.said}"
            assert time.monotonic() < end, f"it never said {text!r}\n{self.said}"
            time.sleep(0.02)
        return self

    def finish(self):
        code = self.process.wait(PATIENCE)
        assert code == 0, f"it ended with {code}\n{self.said}"
        return self._out.read_text()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        if self.process.poll() is None:
            self.kill()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]
