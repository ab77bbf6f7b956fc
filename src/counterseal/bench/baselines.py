"""Other ways to agree on a key, each as plain as its textbook: what ours is measured against.

Nothing here is used by the product, which is why this module may reach past `crypto`. A
baseline does what both sides do in one exchange and returns how many bytes crossed. Long-term
keys are made beforehand; what is fresh in an exchange is made in it.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, mlkem, padding, rsa, x25519
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    CertificateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | mldsa.MLDSA65PrivateKey

__all__ = ["Exchange", "baselines"]

Authenticates = Literal["nobody", "one side", "both", "who knows the password"]

_OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_TLS_RECORD: Final = 1 << 16
_PASSWORD: Final = b"correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Exchange:
    """`run` does one exchange, both sides of it, and returns the bytes that crossed.

    `round_trips` until the initiator may send. `forward_secret`: the recording stays closed to
    whoever steals every long-term key later. `quantum_safe`: and to a quantum computer.
    """

    name: str
    run: Callable[[], int]
    round_trips: float
    authenticates: Authenticates
    forward_secret: bool
    quantum_safe: bool


def baselines() -> list[Exchange]:
    return [*_plain(), *_tls(), *_passwords()]


def _key(secret: bytes, other: bytes) -> None:
    """Both sides derive a session key; a baseline whose sides disagree measures nothing."""
    if secret != other:
        raise RuntimeError("the two sides do not agree")
    for _ in range(2):
        HKDF(hashes.SHA256(), 32, None, b"bench").derive(secret)


def _plain() -> Iterator[Exchange]:
    recipient = rsa.generate_private_key(65537, 3072)
    recipient_public = recipient.public_key()

    def rsa_transport() -> int:
        secret = os.urandom(32)
        sent = recipient_public.encrypt(secret, _OAEP)
        _key(secret, recipient.decrypt(sent, _OAEP))
        return len(sent)

    yield Exchange("RSA-3072 key transport", rsa_transport, 0, "one side", False, False)

    left, right = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    left_public, right_public = left.public_key(), right.public_key()

    def static_p256() -> int:
        _key(left.exchange(ec.ECDH(), right_public), right.exchange(ec.ECDH(), left_public))
        return 0

    yield Exchange("static P-256 ECDH", static_p256, 0, "both", False, False)

    mine, theirs = (x25519.X25519PrivateKey.generate() for _ in range(2))
    mine_public, theirs_public = mine.public_key(), theirs.public_key()

    def static_x25519() -> int:
        _key(mine.exchange(theirs_public), theirs.exchange(mine_public))
        return 0

    yield Exchange("static X25519", static_x25519, 0, "both", False, False)

    def ephemeral_x25519() -> int:
        one, other = (x25519.X25519PrivateKey.generate() for _ in range(2))
        shares = [key.public_key().public_bytes_raw() for key in (one, other)]
        peers = [x25519.X25519PublicKey.from_public_bytes(share) for share in shares]
        _key(one.exchange(peers[1]), other.exchange(peers[0]))
        return sum(map(len, shares))

    yield Exchange("ephemeral X25519", ephemeral_x25519, 1, "nobody", True, False)

    def ephemeral_mlkem() -> int:
        key = mlkem.MLKEM768PrivateKey.generate()
        share = key.public_key().public_bytes_raw()
        secret, answer = mlkem.MLKEM768PublicKey.from_public_bytes(share).encapsulate()
        _key(secret, key.decapsulate(answer))
        return len(share) + len(answer)

    yield Exchange("ephemeral ML-KEM-768", ephemeral_mlkem, 1, "nobody", True, True)


def _tls() -> Iterator[Exchange]:
    for group, certificates, quantum_safe in (
        ("P-256", "P-256", False),
        ("P-256", "RSA-3072", False),
        ("X25519MLKEM768", "P-256", True),
        ("X25519MLKEM768", "ML-DSA-65", True),
    ):
        pair = _Pair(_CERTIFICATE_KEYS[certificates], group)
        name = f"TLS 1.3, {group}, {certificates} certificates"
        yield Exchange(name, pair.run, 1, "both", True, quantum_safe)


_CERTIFICATE_KEYS: Final[dict[str, Callable[[], Any]]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
}


_GROUPS: Final = {"P-256": "secp256r1", "X25519MLKEM768": "X25519MLKEM768"}


class _Pair:
    """A client and a server that both show a certificate of one authority and check the other's."""

    def __init__(self, make: Callable[[], CertificateKey], group: str) -> None:
        authority_key = make()
        authority = _certificate("authority", authority_key, authority_key, "authority", ca=True)
        self._group = group
        self._contexts = []
        for method, name in ((SSL.TLS_CLIENT_METHOD, "client"), (SSL.TLS_SERVER_METHOD, "server")):
            key = make()
            context = SSL.Context(method)
            context.set_min_proto_version(SSL.TLS1_3_VERSION)
            context.use_certificate(_certificate(name, key, authority_key, "authority", ca=False))
            _use_key(context, key)
            store = context.get_cert_store()
            if store is None:
                raise RuntimeError("no certificate store")
            store.add_cert(crypto.X509.from_cryptography(authority))
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
            context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
            context.set_options(SSL.OP_NO_TICKET)
            if group == "P-256":  # else the engine's own choice, which is checked in `run`
                context.set_tmp_ecdh(ec.SECP256R1())
            self._contexts.append(context)

    def run(self) -> int:
        client, server = (SSL.Connection(context, None) for context in self._contexts)
        client.set_connect_state()
        server.set_accept_state()
        crossed, waiting = 0, {client, server}
        for _ in range(8):
            for side, other in ((client, server), (server, client)):
                if side in waiting:
                    try:
                        side.do_handshake()
                        waiting.discard(side)
                    except SSL.WantReadError:
                        pass
                crossed += _carry(side, other)
            if not waiting:
                break
        if waiting or client.get_group_name() != _GROUPS[self._group]:
            raise RuntimeError("the TLS handshake did not come to its end")
        label = b"EXPORTER-bench"
        _key(client.export_keying_material(label, 32), server.export_keying_material(label, 32))
        return crossed


def _use_key(context: SSL.Context, key: CertificateKey) -> None:
    """Through a file: key objects of ML-DSA are not taken."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.use_privatekey_file(file.name)


def _carry(side: SSL.Connection, other: SSL.Connection) -> int:
    try:
        data = side.bio_read(_TLS_RECORD)
    except SSL.WantReadError:
        return 0
    other.bio_write(data)
    return len(data)


def _certificate(
    name: str, key: CertificateKey, issuer_key: CertificateKey, issuer: str, *, ca: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    )
    algorithm = None if isinstance(issuer_key, mldsa.MLDSA65PrivateKey) else hashes.SHA256()
    return builder.sign(issuer_key, algorithm)


def _passwords() -> Iterator[Exchange]:
    """Not an exchange at all: both sides know a password and stretch it, with a fresh salt."""

    def both(stretch: Callable[[bytes], bytes]) -> Callable[[], int]:
        def run() -> int:
            salt = os.urandom(16)
            _key(stretch(salt), stretch(salt))
            return len(salt)

        return run

    stretchers: dict[str, Callable[[bytes], bytes]] = {
        "PBKDF2-SHA256, 600,000 rounds": lambda salt: PBKDF2HMAC(
            hashes.SHA256(), 32, salt, 600_000
        ).derive(_PASSWORD),
        "scrypt, N = 2^17, r = 8": lambda salt: Scrypt(salt, 32, 2**17, 8, 1).derive(_PASSWORD),
        "Argon2id, 64 MiB, 3 passes": lambda salt: Argon2id(
            salt=salt, length=32, iterations=3, lanes=4, memory_cost=64 * 1024
        ).derive(_PASSWORD),
    }
    for name, stretch in stretchers.items():
        yield Exchange(name, both(stretch), 0, "who knows the password", False, True)
