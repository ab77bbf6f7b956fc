"""A gateway for the tests: lab serves a real model to clinic under a charter that both signed.

    town.open(limits={"concurrency": 1})      # one worker in this process, with a clock to turn
    answer = town.call(town.session())        # through the pipeline, without a socket
    town.serve("--workers", "2")              # or as real processes, over real TLS

`rival` is pinned by both, as a partner of other charters; `stranger` by nobody. Keys are slow to
make: they are made once, and every town has homes of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path

import msgspec
from charters import CHARTER, amended, changed
from workshop import CHEAP, PASSPHRASE, Cut

from counterseal.charter import document
from counterseal.charter.chain import Chain
from counterseal.crypto.digest import sha256
from counterseal.crypto.tls_authority import TlsKey
from counterseal.errors import CountersealError
from counterseal.gateway import session as tokens
from counterseal.gateway.clock import SteadyClock
from counterseal.gateway.pipeline import Arrival, Pipeline
from counterseal.gateway.refusals import refusal
from counterseal.gateway.tensors import Limits
from counterseal.gateway.work import read_tensors
from counterseal.jobs.charters import CharterBook, parties_of
from counterseal.jobs.gateway import narrower
from counterseal.jobs.serve import ModelSource, Plan, build
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.file import FileKeystore
from counterseal.trust.partner import Partner, PartnerBook

HERE = Path(__file__).resolve().parent
SRC = HERE.parents[1] / "src"
DAY = timedelta(days=1)
PATIENCE = 60.0
PURPOSE = "diagnosis"
NAMES = ("lab", "clinic", "rival")
COLUMNS = 30


@cache
def keys_of(name):
    """An identity that lives in memory; its keys are what towns take."""
    return Identity.create(name, at=datetime.now(UTC) - 2 * DAY)


@cache
def onnx_model():
    """A classifier of the breast cancer data, as ONNX; and 20 rows that it never saw."""
    import skl2onnx
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    fitted = pipeline.fit(rows[20:], labels[20:])
    options = {id(fitted): {"zipmap": False}}
    made = skl2onnx.to_onnx(fitted, rows[:1].astype("f4"), options=options)
    return made.SerializeToString(), rows[:20].astype("f4")


def body_of(rows=1, **more):
    """A request of the Open Inference Protocol, as JSON. `more`: its parameters."""
    data = onnx_model()[1][:rows]
    asked = {
        "inputs": [
            {
                "name": "X",
                "datatype": "FP32",
                "shape": [rows, COLUMNS],
                "data": [float(one) for one in data.ravel()],
            }
        ]
    }
    return msgspec.json.encode({**asked, "parameters": more} if more else asked)


class Refused(CountersealError):
    """What the gateway said no with. `said`: its refusal, whole."""

    def __init__(self, said):
        super().__init__(said.message)
        self.said = said


class Clock:
    """The wall clock and the steady one of a machine, for a test to turn."""

    def __init__(self):
        self.offset = 0.0
        self.passed = 0.0

    def wall(self):
        return time.time() + self.offset

    def steady(self):
        return time.monotonic() + self.passed

    def wait(self, **some):
        """Time passes, for both."""
        seconds = timedelta(**some).total_seconds()
        self.offset += seconds
        self.passed += seconds

    def set_back(self, **some):
        """Somebody sets the wall clock back."""
        self.offset -= timedelta(**some).total_seconds()


@dataclass(frozen=True)
class Ticket:
    """An open session, as its client has it."""

    id: str
    token: str
    certificate: str
    request: bytes


class Worker:
    """One worker, in this process."""

    def __init__(self, town, number, *, clock):
        self.town = town
        plan = town.plan
        self.desk, self.office, self.authority, self._closing = build(
            plan, [town.chain], by=town.identity("lab"), home=Home(town.home("lab")), number=number
        )
        self.clock = clock
        self.desk.clock = SteadyClock(self.desk.vault, wall=clock.wall, steady=clock.steady)
        self.pool = ThreadPoolExecutor(4)
        self.pipeline = Pipeline(self.desk, pool=self.pool)
        self.closed = False

    @property
    def served(self):
        return next(iter(self.desk.served.values()))

    def now(self):
        return self.desk.clock.now()

    def ask(self, by="clinic", *, key=None, **changes):
        """A signed request for a session; `changes` are of its fields."""
        town = self.town
        identity = by if isinstance(by, Identity) else town.identity(by)
        charter = town.chain.charter
        fields = {
            "gateway": town.lab.history.identity,
            "authority": self.authority.certificate,
            "charter": (charter.id, charter.digest),
            "role": "analyst",
            "purpose": PURPOSE,
            "public": (key or TlsKey.create()).public,
            "nonce": os.urandom(16),
            "at": self.now(),
            **changes,
        }
        return tokens.ask(by=identity, **fields)

    def open(self, request):
        grant = msgspec.json.decode(self.office.open_session(request))
        return Ticket(grant["session"], grant["token"], certificate_of(grant), request)

    def session(self, by="clinic", **changes):
        return self.open(self.ask(by, **changes))

    def owner(self, **changes):
        """lab's own session, which administers."""
        fields = {"charter": None, "purpose": None, "role": "owner", **changes}
        return self.session("lab", **fields)

    def visitor(self, ticket):
        return self.office.visitor(ticket.token, ticket.certificate)

    def arrival(self, ticket, body=None, **changes):
        fields = {
            "certificate": ticket.certificate,
            "token": ticket.token,
            "address": "127.0.0.1",
            "purpose": PURPOSE,
            "record": None,
            "model": "scan",
            "version": None,
            "body": body_of() if body is None else body,
            "read": partial(read_tensors, header_length=None, limits=Limits()),
            **changes,
        }
        return Arrival(**fields)

    def answer(self, ticket, body=None, **changes):
        """What comes back, whatever it is."""
        return self.answer_to(self.arrival(ticket, body, **changes))

    def answer_to(self, arrival):
        return asyncio.run(self._whole(arrival))

    async def _whole(self, arrival):
        answer = await self.pipeline.call(arrival)
        if answer.stream is not None:
            answer.body = b"".join([piece async for piece in answer.stream])
        return answer

    def call(self, ticket, body=None, **changes):
        """True; or Refused is raised."""
        answer = self.answer(ticket, body, **changes)
        if answer.refused is not None:
            raise Refused(answer.refused)
        return answer.status == 200

    def together(self, count, ticket, body=None, **changes):
        """So many calls at the same time."""

        async def all_of_them():
            calls = [self._whole(self.arrival(ticket, body, **changes)) for _ in range(count)]
            return await asyncio.gather(*calls)

        return asyncio.run(all_of_them())

    def entries(self):
        """What stands in the charter's ledger, verified."""
        from counterseal.jobs import ledger as ledgers

        self.served.ledger.settle()
        self.served.ledger.publish()
        read = self.served.ledger.read
        _, found = ledgers.show(read, owner=self.town.lab.history, last=10_000)
        return [entry for _, entry in found]

    def events(self):
        return [entry.event for entry in self.entries()]

    def used(self, unit="requests"):
        found = self.served.quotas.usage(self.now())
        return next(one.used for one in found if one.unit == unit)

    def close(self):
        if self.closed:
            return
        self.closed = True
        self.pool.shutdown()
        self.desk.close()
        for close in self._closing:
            close()


def certificate_of(grant):
    """SHA-256 of the session's certificate, hex, as TLS shows it."""
    first, end = grant["certificate"].partition("-----END CERTIFICATE-----")[:2]
    return sha256(ssl.PEM_cert_to_DER_cert(first + end)).hex()


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
        self.chain = None

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
            charters=[self.chain.charter.id],
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


# Attacks


def outcome(victim):
    """True if the attack worked; else the kind of the refusal, as outsiders read it."""
    try:
        said = victim()
    except Refused as error:
        return error.said.kind
    except CountersealError as error:
        assert error.message
        return refusal(error).kind
    return said


@dataclass(frozen=True)
class Attack:
    """`make` prepares it in a town and returns what then happens, which is True if the attacker
    got what he wanted. `kind`: how it is refused; `without`: the checks that stop it."""

    make: object
    kind: str
    without: tuple = ()

    def is_refused(self, town):
        assert outcome(self.make(town)) == self.kind

    def works_undefended(self, town, patch):
        for cut in self.without:
            cut.apply(patch)
        assert outcome(self.make(town)) is True


def attack(kind, *without):
    """Decorator: a function that prepares an attack becomes a row of a table."""
    return lambda make: Attack(make, kind, without)


def cut(where, old, new="pass"):
    """One check of the gateway, taken out: `where` is within `counterseal.`"""
    return Cut(f"counterseal.{where}", old, new)


def renamed(offer, **changes):
    """An offer of a registry, with changes."""
    return replace(offer, **changes)
