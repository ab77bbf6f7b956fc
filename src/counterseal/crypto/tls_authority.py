"""The certificates of a gateway: its own authority, for server and sessions (SPEC 18.2).

Other people's clients speak TLS with classical certificates, so these are P-256. What makes them
an organization's is a statement about the authority, signed with its hybrid identity; what makes
a session's certificate a partner's is the signed request that asked for it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from counterseal.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["Authority", "TlsKey"]

_AHEAD: Final = timedelta(minutes=10)  # clocks of other machines
_LIFETIME: Final = timedelta(days=3650)
_POINT_BYTES: Final = 91  # an uncompressed P-256 point as SubjectPublicKeyInfo


@dataclass(frozen=True, slots=True, repr=False)
class TlsKey:
    """A P-256 key for TLS and nothing else."""

    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls) -> Self:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def pem(self) -> bytes:
        """The private key, for TLS libraries that read it from a file."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Authority:
    """Make one with `create`, later `parse`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key, self._certificate = key, certificate

    @classmethod
    def create(cls, *, at: datetime) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("counterseal gateway")
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _builder(name, name, key.public_key(), at, at + _LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(_key_id(key.public_key()), critical=False)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """What `encode` made: length of the key, key, certificate."""
        length = int.from_bytes(data[:4], "big")
        try:
            key = load_der_private_key(data[4 : 4 + length], None)
            certificate = x509.load_der_x509_certificate(data[4 + length :])
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise FormatError("this is not the authority of a gateway") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise FormatError("the authority of a gateway has another kind of key")
        return cls(key, certificate)

    def encode(self) -> bytes:
        """Private."""
        key = self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return len(key).to_bytes(4, "big") + key + self.certificate

    @property
    def certificate(self) -> bytes:
        """Its own certificate, DER: what a client trusts for this gateway and nothing else."""
        return self._certificate.public_bytes(Encoding.DER)

    def issue_server(self, hosts: Sequence[str], *, at: datetime, until: datetime) -> bytes:
        """A new key and its certificate for `hosts` (names or addresses), PEM in one piece."""
        key = TlsKey.create()
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        certificate = self._issue(
            key.key.public_key(),
            "counterseal gateway server",
            at=at,
            until=until,
            use=ExtendedKeyUsageOID.SERVER_AUTH,
            names=names,
        )
        return key.pem + certificate + pem_of(self.certificate)

    def issue_client(
        self, public: bytes, *, subject: str, at: datetime, until: datetime
    ) -> tuple[bytes, bytes]:
        """For a P-256 key: (PEM of certificate and authority, DER). FormatError for another key."""
        if len(public) != _POINT_BYTES:
            raise FormatError("a session's key is a P-256 key")
        try:
            key = load_der_public_key(public)
        except (ValueError, UnsupportedAlgorithm):
            raise FormatError("a session's key is a P-256 key") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise FormatError("a session's key is a P-256 key")
        made = self._issue(
            key, subject, at=at, until=until, use=ExtendedKeyUsageOID.CLIENT_AUTH, names=None
        )
        der = x509.load_pem_x509_certificate(made).public_bytes(Encoding.DER)
        return made + pem_of(self.certificate), der

    def _issue(
        self,
        public: ec.EllipticCurvePublicKey,
        subject: str,
        *,
        at: datetime,
        until: datetime,
        use: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
    ) -> bytes:
        builder = (
            _builder(_name(subject), self._certificate.subject, public, at, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(_key_id(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def __repr__(self) -> str:
        return "<Authority>"


def pem_of(certificate: bytes) -> bytes:
    """A certificate as TLS libraries read it. FormatError if it is none."""
    try:
        return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
    except ValueError:
        raise FormatError("this is not a certificate") from None


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    at: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _AHEAD)
        .not_valid_after(until)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_id(public: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(public)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError:
        raise FormatError(f"{text!a} is no name of a host") from None
