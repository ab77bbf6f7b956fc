"""Signatures by the key of an X.509 certificate that an organization's CA issued (SPEC 2.10).

Path validation is `cryptography`'s (RFC 5280 with the rules for web servers): the chain, its
dates at a given time, basic constraints, name constraints, key usages. What we add: the name
stands in the leaf itself, not behind a wildcard; no RSA key below 3072 bits anywhere in the
chain; the leaf's key is for signatures. ECDSA P-256 to P-521, RSA-PSS and ML-DSA sign; Ed25519
does not, because the path validation refuses it. Revocation by CRL or OCSP is not looked up.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification

from counterseal.errors import BadCiphertext, BadSignature, FormatError, TrustError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

__all__ = ["read_chain", "sign", "verify"]

RSA_BITS: Final = 3072  # 128 bits of strength, as everything classical here (SP 800-57)
_HASHES: Final = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
_MALFORMED: Final = (ValueError, x509.InvalidVersion, CryptographyDeprecationWarning)
_MLDSA_PRIVATE: Final = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
_MLDSA_PUBLIC: Final = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey


def read_chain(pem: bytes) -> tuple[bytes, ...]:
    """The certificates of a PEM file, as DER, in its order. The caller bounds `pem`."""
    return tuple(one.public_bytes(Encoding.DER) for one in _read_pem(pem))


def sign(message: bytes, *, key_pem: bytes, certificate: bytes, passphrase: bytes | None) -> bytes:
    """Sign with the private key of `certificate` (DER)."""
    try:
        key = load_pem_private_key(key_pem, passphrase)
    except TypeError as error:  # encrypted and no passphrase, or the other way round
        raise FormatError(f"the private key cannot be read ({error})") from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase:
            raise BadCiphertext("wrong passphrase, or not a private key in PEM") from None
        raise FormatError("this is not a private key in PEM") from None
    public = _public_key(_read_der(certificate))
    if key.public_key() != public:
        raise TrustError("the private key is not that of the first certificate")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(_HASHES[key.curve.name]))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, _PSS, hashes.SHA256())
    if isinstance(key, _MLDSA_PRIVATE):
        return key.sign(message)
    raise _refused_key()


def verify(
    message: bytes,
    signature: bytes,
    *,
    chain: Sequence[bytes],
    ca_pem: bytes,
    name: str,
    at: datetime,
) -> None:
    """Return only if the key of chain[0] signed, and a CA of `ca_pem` says that it is `name`'s.

    Raises TrustError if the certificate is not good for that, BadSignature if the signature is
    not, FormatError if something is not a certificate.
    """
    leaf, *intermediates = (_read_der(one) for one in chain)
    try:
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(_read_pem(ca_pem)))
            .time(at)
            .build_server_verifier(x509.DNSName(name))
        )
    except ValueError:
        raise FormatError(f"{name!r} is not a DNS name") from None
    try:
        with _strictly():
            path = verifier.verify(leaf, intermediates)
            _check_leaf(leaf, name)
    except (
        verification.VerificationError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        *_MALFORMED,
    ) as error:
        raise TrustError(
            f'the certificate is not one that this CA issued for "{name}" ({error})',
            hint="ask for the chain up to that CA, and compare the name in it",
        ) from None
    for certificate in path:
        _public_key(certificate)
    _check_signature(_public_key(leaf), message, signature)


def _check_leaf(leaf: x509.Certificate, name: str) -> None:
    """A wildcard certificate lies on many servers, each of which could sign as this name."""
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    listed = {one.lower() for one in names.get_values_for_type(x509.DNSName)}
    if name.lower() not in listed:
        raise ValueError("the name itself is not among its names")
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise ValueError("its key is not for signatures")


def _check_signature(public: object, message: bytes, signature: bytes) -> None:
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, message, ec.ECDSA(_HASHES[public.curve.name]))
        elif isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, message, _PSS, hashes.SHA256())
        elif isinstance(public, _MLDSA_PUBLIC):
            public.verify(signature, message)
        else:
            raise _refused_key()
    except InvalidSignature:
        raise BadSignature("this was not signed with the key of the certificate") from None


def _public_key(certificate: x509.Certificate) -> object:
    """The key in a certificate; TrustError if it is of a kind or size that we do not take."""
    try:
        with _strictly():
            public = certificate.public_key()
    except (*_MALFORMED, UnsupportedAlgorithm):
        raise _refused_key() from None
    if (
        (isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _HASHES)
        or (isinstance(public, rsa.RSAPublicKey) and public.key_size >= RSA_BITS)
        or isinstance(public, _MLDSA_PUBLIC)
    ):
        return public
    raise _refused_key()


def _read_pem(pem: bytes) -> list[x509.Certificate]:
    try:
        with _strictly():
            return x509.load_pem_x509_certificates(pem)
    except _MALFORMED:
        raise FormatError("there are no certificates in PEM here") from None


def _read_der(der: bytes) -> x509.Certificate:
    try:
        with _strictly():
            return x509.load_der_x509_certificate(der)
    except _MALFORMED:
        raise FormatError("this is not a certificate") from None


@contextlib.contextmanager
def _strictly() -> Iterator[None]:
    """What the library still reads and warns about is refused: it is not for users to judge."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        yield


def _refused_key() -> TrustError:
    return TrustError(
        "a certificate has a key of a kind or size that is not accepted",
        hint="ECDSA P-256, P-384 or P-521, RSA from 3072 bits, or ML-DSA",
    )
