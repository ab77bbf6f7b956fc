"""A real broker for tests: mosquitto over TLS on a free port, with certificates made here.

    with Broker(tmp_path) as broker:
        broker.port, broker.ca      # give these to a client
        broker.kill()               # kill -9
        broker.start()              # the same port, and what was persisted

Without mosquitto, `amqtt` serves if it is installed: pure Python, MQTT 3.1.1 only, and without
persistence; tests that ask for more are skipped.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
AMQTT = importlib.util.find_spec("amqtt")
NAMES = ["localhost", "127.0.0.1"]


class Authority:
    """A certificate authority in a folder: `ca.pem`, and a pair of files for each name."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self._certificate = self._sign(self._name, self._key.public_key(), authority=True)
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name, names=NAMES):
        """(certificate file, key file)"""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._sign(subject, key.public_key(), names=names)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def _sign(self, subject, public, *, authority=False, names=()):
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
                if authority
                else x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if authority:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            made = made.add_extension(usage, critical=True)
        if names:
            made = made.add_extension(
                x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
            )
        return made.sign(self._key, hashes.SHA256())


def _general(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """Started when entered. `options`: further lines for mosquitto.conf, such as limits."""

    def __init__(self, folder, *, options=(), persist=True, client_certificates=False):
        self.folder = Path(folder) / "broker"
        self.authority = Authority(self.folder)
        self.ca = self.authority.ca
        self.host, self.port = "localhost", free_port()
        self.version = "5" if MOSQUITTO else "3.1.1"
        self._options = list(options)
        self._persist = persist
        self._client_certificates = client_certificates
        self._process = None
        self.certificate, self.key = self.authority.issue("broker")
        if MOSQUITTO is None and (AMQTT is None or options or persist or client_certificates):
            pytest.skip("Debian's mosquitto is not installed")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill(signal.SIGTERM)

    def start(self):
        command = self._mosquitto() if MOSQUITTO else self._amqtt()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def kill(self, how=signal.SIGKILL):
        self._process.send_signal(how)
        self._process.wait()

    def restart(self):
        self.kill()
        self.start()

    def log(self):
        return (self.folder / "log").read_text()

    @property
    def pid(self):
        return self._process.pid

    def add_user(self, name, password):
        """From the next start on only users that were added may connect."""
        users = self.folder / "users"
        users.touch(mode=0o600)
        subprocess.run(["mosquitto_passwd", "-b", users, name, password], check=True)
        lines = ["allow_anonymous false", f"password_file {users}"]
        self._options += [line for line in lines if line not in self._options]

    def _mosquitto(self):
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"cafile {self.ca}",
            f"certfile {self.certificate}",
            f"keyfile {self.key}",
            f"require_certificate {str(self._client_certificates).lower()}",
        ]
        if not any(line.startswith("allow_anonymous") for line in self._options):
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")
        if self._persist:
            lines += ["persistence true", f"persistence_location {data}/"]
            lines += ["autosave_on_changes true", "autosave_interval 1"]
        path = self.folder / "mosquitto.conf"
        path.write_text("\n".join([*lines, *self._options, ""]))
        return [MOSQUITTO, "-c", str(path)]

    def _amqtt(self):
        path = self.folder / "amqtt.yaml"
        path.write_text(
            "listeners:\n"
            "  default:\n"
            "    type: tcp\n"
            f"    bind: 127.0.0.1:{self.port}\n"
            "    ssl: true\n"
            f"    certfile: {self.certificate}\n"
            f"    keyfile: {self.key}\n"
            "plugins:\n"
            "  amqtt.plugins.authentication.AnonymousAuthPlugin:\n"
            "    allow_anonymous: true\n"
        )
        return [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(path)]

    def _answers(self):
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost"),
        ):
            return True
        return False
