"""Two organizations, their charters and models, and the servers that `bench gateway` compares.

Every governed server has a home, a charter and a ledger of its own, so that none waits for
another's. All have one worker and the same number of threads.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from counterseal._extras import require
from counterseal.bench.agreements import PURPOSE, a_charter
from counterseal.bench.callers import Callers
from counterseal.bench.gateway_models import bodies, write_models
from counterseal.bench.gateway_servers import PEER, Server, Terms
from counterseal.bench.processes import PASSPHRASE, Running, free_port, module
from counterseal.charter import document
from counterseal.crypto.tls_authority import pem_of
from counterseal.jobs.charters import CharterBook
from counterseal.jobs.gateway import narrower
from counterseal.jobs.session import open_at
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import Partner, PartnerBook

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["STATE", "THREADS", "Stage"]

THREADS: Final = 4
STATE: Final = "COUNTERSEAL_STATE"
_BARE: Final = (("scan", "scan.onnx"), ("heavy", "heavy.onnx"), ("estimator", "scan.skops"))


class Stage:
    """A folder with everything, and whoever runs in it. A context manager."""

    def __init__(self, folder: Path, *, heavy_rows: int) -> None:
        self.folder, self._stack = folder, ExitStack()
        self._at = datetime.now(UTC)
        write_models(folder)
        rows = require("numpy", extra="serve").load(folder / "rows.npy")
        small = bodies(rows, 1)
        self.bodies = {"scan": small, "estimator": small, "heavy": bodies(rows, heavy_rows)}
        self._found(folder / "base")

    def _found(self, base: Path) -> None:
        homes = {name: Home(base / name) for name in ("lab", "clinic")}
        us = {
            name: Identity.create(name, home=home, passphrase=PASSPHRASE, at=self._at)
            for name, home in homes.items()
        }
        for name, other in (("lab", "clinic"), ("clinic", "lab")):
            pinned = Partner.pin(us[other].card(), key_id=us[other].key_id, at=self._at)
            PartnerBook(homes[name].store).add(pinned)
        for home in homes.values():
            home.close()
        secret = self.folder / "passphrase"
        secret.touch(mode=0o600)
        secret.write_bytes(PASSPHRASE + b"\n")

    def bare(self) -> Server:
        place = self.folder / "bare"
        place.mkdir()
        port = free_port()
        models = [f"{name}={self.folder / file}" for name, file in _BARE]
        running = Running(
            module("counterseal.bench.bare", place, port, THREADS, *models),
            said=place / "said",
        )
        self._stack.callback(running.end)
        pems = str(place / "authority.pem"), str(place / "client.pem")
        return Server("bare", running, port, "", *pems)

    def governed(
        self, name: str, terms: Terms, *, state: str | None = None, like: Server | None = None
    ) -> Server:
        """Start one; `ready` waits for it. `state`: a URL. `like`: another node, with a copy of
        that one's home."""
        place = self.folder / name
        place.mkdir()
        if like is None or like.home is None:
            for who in ("lab", "clinic"):
                shutil.copytree(self.folder / "base" / who, place / who)
            charter = self._agree(place, terms)
        else:
            for who in ("lab", "clinic"):
                shutil.copytree(like.home.parent / who, place / who)
            charter = like.charter
        port = free_port()
        command = ["-v", "serve", *(f"{model}={self.folder / at}" for model, at in terms.files)]
        command += ["--under", charter, "--listen", f"127.0.0.1:{port}"]
        command += ["--threads", str(THREADS), "--workers", str(terms.workers)]
        if state is not None:
            command += ["--node", name]
        if terms.detectors:
            for model, _ in terms.files:
                command += ["--reference", f"{model}={self.folder / 'rows.npy'}"]
        running = Running(
            module("counterseal", *command),
            said=place / "said",
            env={
                "COUNTERSEAL_HOME": str(place / "lab"),
                "COUNTERSEAL_PASSPHRASE_FILE": str(self.folder / "passphrase"),
                **({} if state is None else {STATE: state}),  # it may hold a password
            },
        )
        self._stack.callback(running.end)
        return Server(name, running, port, home=place / "lab", charter=charter)

    def ready(self, server: Server) -> Server:
        """Wait until it serves; with a session, if it wants one."""
        if server.name != PEER:  # which was awaited when it started
            server.running.until("serving;")
        return server if server.home is None else self._with_session(server)

    def _with_session(self, server: Server) -> Server:
        if server.home is None:
            raise ValueError("a server without a charter opens no session")
        place = server.home.parent
        home = Home(place / "clinic")
        us = Identity.load("clinic", home=home, passphrase=PASSPHRASE)
        book = PartnerBook(home.store)
        charters = CharterBook(us.history, book, store=home.store, narrower=narrower)
        opened = open_at(
            f"https://lab@localhost:{server.port}",
            by=us,
            book=book,
            charter=charters.find(server.charter).charter,
            role="analyst",
            purpose=PURPOSE,
        )
        home.close()
        certificate = place / "session.pem"
        certificate.touch(mode=0o600)
        certificate.write_bytes(opened.pem)
        authority = place / "authority.pem"
        authority.write_bytes(pem_of(opened.authority))
        token = f"authorization: Bearer {opened.grant.token}\r\n"
        return replace(
            server,
            more=f"{token}counterseal-purpose: {PURPOSE}\r\n",
            authority=str(authority),
            certificate=str(certificate),
        )

    def _agree(self, place: Path, terms: Terms) -> str:
        """A charter that both sign and keep; its id."""
        at = self._at - timedelta(seconds=1)
        homes = {name: Home(place / name) for name in ("lab", "clinic")}
        us = {
            name: Identity.load(name, home=home, passphrase=PASSPHRASE)
            for name, home in homes.items()
        }
        books = {
            name: CharterBook(
                us[name].history, PartnerBook(home.store), store=home.store, narrower=narrower
            )
            for name, home in homes.items()
        }
        models = tuple(sorted(name for name, _ in terms.files))
        charter = a_charter(
            owner=us["lab"].history.identity,
            partner=us["clinic"].history.identity,
            at=at,
            identifier=os.urandom(16).hex(),
            assets=[document.Asset(name=one, versions="~1.0", digests=None) for one in models],
            permissions=[
                document.Permission(
                    action="predict", assets=models, roles=("analyst",), purposes=None
                )
            ],
            quotas=terms.quotas,
            detectors=terms.detectors,
            strict=terms.strict,
        )
        now = datetime.now(UTC)
        offered = books["lab"].offer(charter, by=us["lab"], at=now)
        taken = books["clinic"].take(offered.document.encode())
        signed = books["clinic"].countersign(taken, by=us["clinic"], at=now)
        books["lab"].take(signed.document.encode())
        for home in homes.values():
            home.close()
        return charter.id

    def mlserver(self, python: Path) -> Server:
        """The same model in MLServer, in its own interpreter; plain HTTP."""
        from counterseal.bench.peer_server import start

        running, port = start(python, self.folder / "mlserver")
        self._stack.callback(running.end)
        return Server(PEER, running, port)

    def callers(self, server: Server, model: str, **more: Any) -> Callers:
        found = Callers(server.target(model, self.texts(server, model)), **more)
        return self._stack.enter_context(found)

    def texts(self, server: Server, model: str) -> tuple[str, ...]:
        """Of the estimator everybody is asked for labels, by what each calls them."""
        if server.name != PEER and model != "estimator":
            return self.bodies[model]
        outputs = [{"name": "predict" if server.name == PEER else "label"}]
        return tuple(
            json.dumps({**json.loads(one), "outputs": outputs}) for one in self.bodies[model]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
