"""A TLS certificate that carries no trust: made for one process, forgotten with it (SPEC 14.3.1).

TLS wants a certificate before it gives an encrypted channel. Who is at the other end is proven
inside the channel, by hybrid signatures over its exporter; so this one says nothing: the same
name, the same dates everywhere, a fresh P-256 key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

__all__ = ["ThrowAway", "throw_away"]

# Fixed, so that a certificate does not tell the clock of the machine it was made on.
_BEGIN: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - x509 wants UTC without a zone
_END: Final = datetime(2999, 12, 31)  # noqa: DTZ001
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "counterseal")])


@dataclass(frozen=True, slots=True, repr=False)
class ThrowAway:
    """A self-signed certificate and its key, as OpenSSL bindings take them."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """Key and certificate, for bindings that read them from a file."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + self.certificate.public_bytes(Encoding.PEM)


def throw_away() -> ThrowAway:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .sign(key, hashes.SHA256())
    )
    return ThrowAway(certificate, key)
