"""Organizations in their network namespaces, each with a home, and the real command line.

    town.serve()                                       # the relay runs a mailbox
    town.lab.run("send", town.small, "--to", "clinic", "--via", MAILBOX)
    process = town.clinic.start("receive", "--via", MAILBOX, "-o", town.inbox)
    process.finish()                                   # exit code 0, or both sides' words

`lab` sends, `clinic` receives, `relay` carries, and `rival` has keys of its own: all four know
each other. A watcher looks into the clinic's inbox all the time: what is visible there must be
a whole package that the lab sealed, at every moment. When a test fails, what every process has
said is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from broker import MOSQUITTO, Broker
from interceptor import Interceptor
from network import CABLES, RELAY
from workshop import CHEAP

from counterseal.exchange.boxes import box
from counterseal.jobs.seal import seal
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.file import FileKeystore
from counterseal.trust.partner import Partner, PartnerBook

HERE = Path(__file__).resolve().parent
SRC = HERE.parents[1] / "src"
MAILBOX = f"https://relay@{RELAY}:8443"
PASSPHRASE = b"passphrase"
NAMES = ("lab", "clinic", "relay", "rival")
PLACE_OF = {"rival": "middle"}
MIB = 1 << 20
SIZES = {"tiny": 100_000, "small": 3 * MIB, "big": 12 * MIB, "large": 24 * MIB}
PATIENCE = 90.0


def found_town(folder):
    """Homes of everybody, and packages that the lab sealed for the clinic: made once, copied
    for each test."""
    at = datetime.now(UTC) - timedelta(hours=1)
    made = {}
    for name in NAMES:
        home = Home(folder / f"home-{name}")
        made[name] = Identity.create(name, home=home, passphrase=PASSPHRASE, at=at)
        place = home.identity_folder(name) / "keystore.json"
        FileKeystore(place, cost=CHEAP).save(made[name]._ring, PASSPHRASE)
        made[name].card().save(folder / f"{name}.card")
    for identity in made.values():
        book = PartnerBook(identity.store)
        for other in made.values():
            if other is not identity:
                book.add(Partner.pin(other.card(), key_id=other.key_id, at=at))
    clinic = PartnerBook(made["lab"].store).get("clinic")
    for name, size in SIZES.items():
        model = folder / f"{name}.bin"
        model.write_bytes(os.urandom(size))
        seal(
            model, by=made["lab"], to=[clinic], output=folder / f"{name}.sealed", model=name,
            statement=False,
        )  # fmt: skip
    for identity in made.values():
        identity.store.close()
    secret = folder / "passphrase"
    secret.write_bytes(PASSPHRASE + b"\n")
    secret.chmod(0o600)


class Running:
    """A process; what it says goes to files, so that it never waits for us."""

    def __init__(self, popen, label, out, err):
        self.popen, self.label, self._out, self._err = popen, label, out, err

    @property
    def out(self):
        return self._out.read_text()

    @property
    def err(self):
        return self._err.read_text()

    @property
    def events(self):
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    def finish(self, *codes):
        """Wait for its end, which must be with one of these exit codes; 0 if none is given."""
        try:
            ended = self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.label} does not end\n{self.err}") from None
        wanted = codes or (0,)
        assert ended in wanted, (
            f"{self.label} ended with {ended}, not {wanted}\n{self.out}{self.err}"
        )
        return self

    def until(self, text):
        """Wait until it has said this."""
        end = time.monotonic() + PATIENCE
        while text not in self.out + self.err:
            assert self.popen.poll() is None, f"{self.label} ended\n{self.out}{self.err}"
            assert time.monotonic() < end, f"{self.label} never said {text!r}\n{self.err}"
            time.sleep(0.01)
        return self

    def kill(self, how=signal.SIGKILL):
        self.popen.send_signal(how)
        self.popen.wait(PATIENCE)

    def __str__(self):
        return f"── {self.label} [{self.popen.poll()}]\n{self.out}{self.err}"


def together(*processes):
    for one in processes:
        one.finish()


class Organization:
    """One of them, where it lives."""

    def __init__(self, name, town):
        self.name, self._town = name, town
        self.place = PLACE_OF.get(name, name)
        self.home = town.folder / f"home-{name}"

    def start(self, *arguments, skew=None, script=None):
        """`counterseal ARGUMENTS`, or a script, with a clock that is `skew` (timedelta) ahead."""
        program = ["-m", "counterseal"] if script is None else ["-c", script]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(SRC), str(HERE), os.environ.get("PYTHONPATH")])
            ),
            "COUNTERSEAL_HOME": str(self.home),
            "COUNTERSEAL_PASSPHRASE_FILE": str(self._town.folder / "passphrase"),
            "COLUMNS": "100",
        }
        if skew is not None:
            environment |= {
                "LD_PRELOAD": str(self._town.clock),
                "SKEW": str(int(skew.total_seconds())),
            }
        label = f"{self.name}$ {' '.join(map(str, arguments))}"
        command = [sys.executable, *program, *arguments]
        return self._town.start(self.place, command, label, env=environment)

    def run(self, *arguments, code=0, **options):
        return self.start(*arguments, **options).finish(code)

    def remembers(self, *kinds):
        """The records of these kinds in its home, or all."""
        path = self.home / "state.db"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as state:
            rows = state.execute("SELECT kind, key, value FROM records").fetchall()
        state.close()
        return {(kind, key): value for kind, key, value in rows if not kinds or kind in kinds}


class Town:
    """A network with everybody in it, and what they share. A context manager."""

    def __init__(self, folder, network, founded, clock):
        self.folder, self.network, self.clock = folder, network, clock
        self._founded = founded
        self.lab, self.clinic, self.relay, self.rival = (Organization(n, self) for n in NAMES)
        packages = [founded / f"{name}.sealed" for name in SIZES]
        self.tiny, self.small, self.big, self.large = packages
        self.inbox, self.store, self.root = folder / "inbox", folder / "store", folder / "mailbox"
        self.running = []
        self._stack = contextlib.ExitStack()
        self._watcher = Watcher(self.inbox, {path.name: path for path in packages})

    def __enter__(self):
        with self._stack:
            self.mount(self.folder, 512 * MIB)  # in memory: hundreds of processes sync all they do
            for path in self._founded.iterdir():
                if path.is_dir():
                    shutil.copytree(path, self.folder / path.name)
                elif path.stat().st_size < MIB:
                    shutil.copy(path, self.folder)
            for made in (self.inbox, self.store):
                made.mkdir()
            self._watcher.start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_):
        for one in self.running:
            if one.popen.poll() is None:
                one.popen.kill()
            one.popen.wait()
            print(one)  # pytest shows it if the test has failed
        self._watcher.stop()
        self._stack.close()
        assert self._watcher.wrong == []

    def start(self, place, command, label, **options):
        number = len(self.running)
        out, err = self.folder / f".{number}.out", self.folder / f".{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            popen = self.network.start(
                place, command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                cwd=self.folder, **options,
            )  # fmt: skip
        running = Running(popen, label, out, err)
        self.running.append(running)
        return running

    def serve(self, by=None, *, root=None, skew=None):
        """A mailbox; by the relay, unless somebody else is told to."""
        by = by or self.relay
        root = root or self.root
        server = by.start(
            "mailbox", "serve", "--listen", "0.0.0.0:8443", "--root", root, "--json", skew=skew
        )
        return server.until('"serving"')

    def send(self, package=None, *, via=MAILBOX, **options):
        """The lab begins to send."""
        package = package or self.small
        return self.lab.start("send", package, "--to", "clinic", "--via", via, **options)

    def receive(self, *more, via=MAILBOX, **options):
        """The clinic begins to look what is there."""
        command = ["receive", "--from", "lab", "--via", via, "-o", self.inbox, *more]
        return self.clinic.start(*command, **options)

    def listen(self, via):
        """Both have been at the broker once: from now on it keeps letters for them."""
        together(self.receive(via=via), self.hear(via=via, wait=0))

    def hear(self, *, via=MAILBOX, wait=3):
        """The lab begins to look for receipts."""
        command = ["receive", "--from", "clinic", "--via", via, "--wait", wait]
        return self.lab.start(*command, "-o", self.folder)

    def confirmed(self, package=None, *, via=MAILBOX):
        """The lab hears that it has arrived, if it did not while it sent."""
        name = (package or self.small).name
        if f"{name} to clinic: confirmed" not in self.lab.run("send", "--list").out:
            assert f"clinic has {name}" in self.hear(via=via).finish().out

    @contextlib.contextmanager
    def middle(self, port=8443):
        """The rival's machine answers for the relay, and carries everything to it, as yet."""
        self.network.take_over()
        try:
            place = (f"{CABLES['relay']}.2", port)
            with Interceptor(self.network, to=place, port=port) as rival:
                yield rival
        finally:
            self.network.give_back()

    def identity_of(self, name):
        return History.verify(CardDocument.load(self.folder / f"{name}.card")).identity

    def box(self, sender="lab", recipient="clinic"):
        return box(self.identity_of(sender), self.identity_of(recipient))

    def visible(self):
        """The names in the inbox that do not begin with a dot."""
        return sorted(path.name for path in self.inbox.iterdir() if path.name[0] != ".")

    @contextlib.contextmanager
    def index(self, root=None):
        """What a mailbox knows, for its operator to read and change."""
        path = (root or self.root) / "mailbox.sqlite"
        with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as rows:
            yield rows

    def mailbox(self, root=None):
        """(letters, notices, files): all that it keeps for others."""
        root = root or self.root
        with self.index(root) as rows:
            letters = rows.execute("SELECT id, data FROM letters ORDER BY number").fetchall()
            board = rows.execute("SELECT box, data FROM board ORDER BY box").fetchall()
        files = [path for place in ("blocks", "uploads") for path in (root / place).rglob("*")]
        return letters, board, sorted((f.name, f.stat().st_size) for f in files if f.is_file())

    def until_partly(self):
        """Until a block has been written, where nobody sees it."""
        end = time.monotonic() + PATIENCE
        while not any(path.stat().st_blocks * 512 >= MIB for path in self.inbox.iterdir()):
            assert time.monotonic() < end, "no block has arrived"
            time.sleep(0.01)
        self.nothing_visible()

    def nothing_visible(self):
        assert self.visible() == []

    def whole(self, *packages):
        """They are there, and nothing else is: no remains either."""
        packages = packages or [self.small]
        found = sorted(path.name for path in self.inbox.iterdir())
        assert found == sorted(package.name for package in packages)
        for package in packages:
            assert (self.inbox / package.name).read_bytes() == package.read_bytes()

    def mount(self, path, size):
        """A disk of so many bytes, which is easily full."""
        path.mkdir(exist_ok=True)
        options = f"size={size}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
        self._stack.callback(subprocess.run, ["umount", "--lazy", path], check=True)

    def grow(self, path, size):
        subprocess.run(["mount", "-o", f"remount,size={size}", path], check=True)


class Watcher(threading.Thread):
    """Looks into a folder all the time; remembers what was visible and not whole."""

    def __init__(self, folder, packages):
        super().__init__(daemon=True)
        self._folder = folder
        self._packages = packages
        self._ended = threading.Event()
        self._good = set()
        self.wrong = []

    def run(self):
        while not self._ended.wait(0.01):
            self.look()

    def look(self):
        for path in self._folder.iterdir():
            if path.name.startswith(".") or path in self._good:
                continue
            package = self._packages.get(path.name)
            if package is None or path.read_bytes() != package.read_bytes():
                self.wrong.append(f"{path.name} is visible and not whole")
            self._good.add(path)

    def stop(self):
        self._ended.set()
        self.join()
        self.look()


class RelayBroker(Broker):
    """A mosquitto in the relay's namespace, behind the address that everybody knows."""

    def __init__(self, town, *, port=8883, **options):
        if MOSQUITTO is None:
            pytest.skip("Debian's mosquitto is not installed")
        super().__init__(town.folder, **options)
        self._town = town
        self.port = port
        names = ["localhost", "127.0.0.1", RELAY]
        self.certificate, self.key = self.authority.issue("relay", names=names)
        self.via = f"mqtts://{RELAY}:8883?ca={self.ca}"

    def _mosquitto(self):
        command = super()._mosquitto()
        path = self.folder / "mosquitto.conf"
        path.write_text(path.read_text().replace(f"{self.port} 127.0.0.1", f"{self.port} 0.0.0.0"))
        return self._town.network.inside("relay", command)

    def _answers(self):
        sockets = Path(f"/proc/{self.pid}/net/tcp").read_text()  # those of its namespace
        return f":{self.port:04X} 00000000:0000 0A" in sockets
