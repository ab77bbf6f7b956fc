"""A real PostgreSQL for tests: a cluster of our own in a folder, on a free port, with a password.

    with Cluster() as cluster:
        url = cluster.create()      # of a new, empty database
        cluster.stop()              # at once, as if the machine had lost its power
        cluster.start()             # the same port, and what was committed

The server refuses to run as root: then it runs as the user `postgres`, who owns the folder.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from broker import free_port

USER = "postgres"
PASSWORD = "pass/word: 100% secret"
BINARIES = sorted(
    Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
)


def why_no_postgres():
    if not BINARIES:
        return "Debian's postgresql is not installed"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed"
    return None


class Cluster:
    def __init__(self):
        self._binaries = BINARIES[-1].parent
        self._as = {}
        # Not pytest's folder: nobody but its owner may go in there.
        self._folder = Path(tempfile.mkdtemp(prefix="counterseal-postgres-"))
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self.port = free_port()
        self._process = None

    def __enter__(self):
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "-D", self._data, "-U", USER, "--pwfile", secret, "-A", "scram-sha-256",
            "--no-sync", "--encoding=UTF8", "--locale=C",
        )  # fmt: skip
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self._folder)

    def start(self):
        command = [self._binaries / "postgres", "-D", self._data, "-p", str(self.port)]
        for setting in (
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self._folder}",
            "max_connections=50",
            "fsync=off",  # nobody pulls a plug here
            "shared_buffers=16MB",
        ):
            command += ["-c", setting]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, **self._as
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def stop(self):
        """Everybody is thrown out, and nothing is put in order."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: an immediate shutdown
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def frozen(self):
        """It neither answers nor goes away, as a machine that hangs: every process of it."""
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        everybody = [parent, *map(int, children)]
        for one in everybody:
            os.kill(one, signal.SIGSTOP)
        try:
            yield
        finally:
            for one in everybody:
                os.kill(one, signal.SIGCONT)

    def create(self):
        """The URL of a new database."""
        name = f"test_{secrets.token_hex(6)}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def cut_off(self, url):
        """End every connection to this database."""
        with self._connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                (url.rpartition("/")[2],),
            )

    def url(self, name):
        return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{name}"

    def _connect(self):
        import psycopg

        return psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5)

    def _answers(self):
        import psycopg

        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program, *arguments):
        done = subprocess.run(
            [self._binaries / program, *arguments],
            capture_output=True, text=True, check=False, cwd=self._folder, **self._as,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def postgres_cluster():
    reason = why_no_postgres()
    if reason is not None:
        pytest.skip(reason)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def postgres(postgres_cluster):
    """The URL of a new database on a server that runs."""
    return postgres_cluster.create()
