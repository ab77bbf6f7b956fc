"""Carry a package: HTTPS beside a bare TLS socket, MQTT over a real broker, a folder beside cp.

Both ends are processes of their own on this machine, over loopback. Each turn seals a new
package, because a mailbox would not be sent the same blocks twice. The last part breaks a
transfer in the middle and counts what the next attempt carries again.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import counterseal
from counterseal.bench import machine
from counterseal.bench.courier import PASSPHRASE
from counterseal.bench.measures import await_quiet
from counterseal.errors import CountersealError, Dropped
from counterseal.exchange.transports.folder import FolderTransport
from counterseal.jobs.receive import receive
from counterseal.jobs.seal import seal
from counterseal.jobs.send import send
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import Partner, PartnerBook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from counterseal.exchange.transports import BlockSink, BlockSource, Waiting

    Say = Callable[[str], None]

__all__ = ["FORMAT", "PROFILES", "Profile", "run"]

FORMAT: Final = "counterseal-bench-transfer-1"
MIB: Final = 1 << 20
PATIENCE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Profile:
    size: int
    runs: int


PROFILES: Final = {"full": Profile(512 * MIB, 5), "quick": Profile(8 * MIB, 2)}


def run(profile: Profile, *, folder: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Measure in a new private folder under `folder`, and leave nothing behind."""
    free = shutil.disk_usage(folder).free
    if free < 5 * profile.size:
        raise CountersealError(
            f"{folder} has {free // MIB} MiB free; this needs {5 * profile.size // MIB} MiB",
            hint="--size 128MiB, or --folder with more room",
        )
    data: dict[str, Any] = {
        "format": FORMAT,
        "counterseal": counterseal.__version__,
        "machine": machine.facts(),
        "load_before": machine.load_average(),
        "settings": {**asdict(profile), "folder": str(folder)},
        "missing": [],
        "turns": [],
    }
    with tempfile.TemporaryDirectory(prefix="counterseal-bench-", dir=folder) as place:
        stage = _Stage(Path(place), profile.size)
        with ExitStack() as stack:
            address = {"https": stack.enter_context(stage.mailbox())}
            broker = stack.enter_context(stage.broker())
            if broker is None:
                data["missing"].append("without MQTT: mosquitto is not installed")
            else:
                address["mqtt"] = broker
            for turn in range(profile.runs + 1):
                await_quiet(at_most=PATIENCE)
                say(f"turn {turn}/{profile.runs}")
                measured = stage.turn(address, say)
                if turn:  # the first one warms up
                    data["turns"].append(measured)
        data["resume"] = stage.resume()
    data["load_after"] = machine.load_average()
    return data


class _Stage:
    """Three organizations in a folder."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        at = datetime.now(UTC)
        names = ("lab", "clinic", "relay")
        self.homes = {name: Home(folder / f"home-{name}") for name in names}
        self.us = {
            name: Identity.create(name, home=home, passphrase=PASSPHRASE, at=at)
            for name, home in self.homes.items()
        }
        for name, home in self.homes.items():
            for other in names:
                if other != name:
                    one = self.us[other]
                    PartnerBook(home.store).add(Partner.pin(one.card(), key_id=one.key_id, at=at))

    def package(self, number: int = 0) -> Path:
        """A new package of random bytes."""
        model, output = self.folder / "model.bin", self.folder / f"{number}.sealed"
        with model.open("wb") as file:
            for _ in range(self.size // MIB):
                file.write(os.urandom(MIB))
        clinic = PartnerBook(self.homes["lab"].store).get("clinic")
        seal(model, by=self.us["lab"], to=clinic, output=output, statement=False, replace=True)
        model.unlink()
        return output

    def turn(self, address: dict[str, str], say: Say) -> dict[str, Any]:
        say("sealing")
        package = self.package()
        results: dict[str, Any] = {}
        say("bare TLS sockets")
        for name in ("ssl", "raw"):
            results[name] = self._bare(name, package)
        for name, where in address.items():
            say(name)
            results[name] = self._carry(package, where, together=name == "mqtt")
        say("cp")
        started = time.perf_counter()
        subprocess.run(["cp", package, self.folder / "copy"], check=True)
        results["cp"] = {"wall": time.perf_counter() - started}
        (self.folder / "copy").unlink()
        package.unlink()
        return results

    def _bare(self, name: str, package: Path) -> dict[str, Any]:
        target = self.folder / "bare"
        with self._start(f"{name}-receive", str(target)) as receiver:
            port = _line(receiver)
            with self._start(f"{name}-send", port, str(package)) as sender:
                sent = json.loads(_line(sender))
            received = json.loads(_line(receiver))
        target.unlink()
        return {"send": sent, "receive": received}

    def _carry(self, package: Path, address: str, *, together: bool) -> dict[str, Any]:
        inbox = self.folder / "inbox"
        inbox.mkdir()
        lab, clinic = (str(self.homes[name].path) for name in ("lab", "clinic"))
        try:
            with ExitStack() as stack:
                receiver = None
                if together:
                    receiver = stack.enter_context(
                        self._start("receive", clinic, "lab", address, str(inbox))
                    )
                    _line(receiver)
                sender = stack.enter_context(
                    self._start("send", lab, "clinic", address, str(package))
                )
                sent = json.loads(_line(sender))
                if receiver is None:
                    receiver = stack.enter_context(
                        self._start("receive", clinic, "lab", address, str(inbox))
                    )
                    _line(receiver)
                received = json.loads(_line(receiver))
        except CountersealError as error:
            return {"failure": error.message}
        finally:
            shutil.rmtree(inbox)
        return {"send": sent, "receive": received}

    @contextmanager
    def mailbox(self) -> Iterator[str]:
        root = str(self.folder / "mailbox")
        with self._start("mailbox", str(self.homes["relay"].path), root) as process:
            yield f"https://relay@127.0.0.1:{_line(process)}"

    @contextmanager
    def broker(self) -> Iterator[str | None]:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None or shutil.which("openssl") is None:
            yield None
            return
        port, certificate = _free_port(), self.folder / "broker.pem"
        key = self.folder / "broker.key"
        request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        request += ["ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        request += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key)]
        subprocess.run([*request, "-out", str(certificate)], check=True, capture_output=True)
        settings = self.folder / "broker.conf"
        settings.write_text(
            f"listener {port} localhost\ncertfile {certificate}\nkeyfile {key}\n"
            f"allow_anonymous true\nuser {_user()}\nlog_dest none\n"
        )
        process = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL)
        try:
            _await_port(port)
            yield f"mqtts://localhost:{port}?ca={certificate}"
        finally:
            process.terminate()
            process.wait()

    def resume(self) -> dict[str, Any]:
        """Break a transfer over a folder at half, twice: bytes carried again over bytes before."""
        package = self.package()
        post, inbox = self.folder / "post", self.folder / "inbox"
        post.mkdir()
        inbox.mkdir()
        lab, clinic = self.us["lab"], self.us["clinic"]
        to = PartnerBook(self.homes["lab"].store).get("clinic")
        sender = PartnerBook(self.homes["clinic"].store).get("lab")
        way = _Breaking(FolderTransport(post), after=self.size // 2)
        for _ in range(2):
            try:
                send(package, by=lab, to=to, via=way)
            except Dropped:
                way.after = None
        sent = {"bytes": way.total, "carried": way.carried}
        way = _Breaking(FolderTransport(post), after=self.size // 2)
        for _ in range(2):
            for _event in receive(inbox, by=clinic, partners=[sender], via=way):
                pass
            way.after = None
        return {"send": sent, "receive": {"bytes": way.total, "carried": way.carried}}

    @contextmanager
    def _start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "counterseal.bench.courier", *arguments]
        source = str(Path(counterseal.__file__).parents[1])
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": source},
        )
        with process:
            try:
                yield process
                if process.stdin is not None:
                    process.stdin.close()
                process.wait(timeout=60)
            finally:
                process.kill()


class _Breaking:
    """A transport whose line breaks after so many bytes, and that counts what it carried."""

    def __init__(self, transport: FolderTransport, *, after: int | None) -> None:
        self._transport, self.after = transport, after
        self.carried = self.total = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def count(self, data: bytes | memoryview) -> None:
        if self.after is not None and self.carried >= self.after:
            raise Dropped("the line broke, as it was told to")
        self.carried += len(data)

    def deliver(self, box: str, letter: bytes, blocks: BlockSource, **more: Any) -> None:
        self.total = max(self.total, sum(map(blocks.size, dict.fromkeys(blocks.names))))
        self._transport.deliver(box, letter, _CountedSource(blocks, self), **more)

    def fetch(self, letter: Waiting, sink: BlockSink, **more: Any) -> None:
        self.total = max(self.total, sum(map(sink.size, sink.missing())))
        self._transport.fetch(letter, _CountedSink(sink, self), **more)


class _CountedSource:
    def __init__(self, blocks: BlockSource, way: _Breaking) -> None:
        self._blocks, self._way = blocks, way
        self.names = blocks.names
        self.fill = blocks.fill
        self.size = blocks.size

    def read(self, name: str) -> bytes:
        data = self._blocks.read(name)
        self._way.count(data)
        return data


class _CountedSink:
    def __init__(self, sink: BlockSink, way: _Breaking) -> None:
        self._sink, self._way = sink, way
        self.missing = sink.missing
        self.size = sink.size

    def put(self, name: str, data: bytes | memoryview) -> None:
        self._way.count(data)
        self._sink.put(name, data)


def _line(process: subprocess.Popen[str]) -> str:
    line = "" if process.stdout is None else process.stdout.readline().strip()
    if not line:
        raise CountersealError("one side of a transfer ended without a word")
    return line


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise CountersealError("the broker does not start")
