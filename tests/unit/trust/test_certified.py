"""A card that an organization's CA vouches for."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from workshop import Cut

from counterseal.crypto.digest import sha256
from counterseal.errors import (
    BadCiphertext,
    BadSignature,
    CountersealError,
    ExpiredKey,
    FormatError,
    RevokedKey,
    TrustError,
)
from counterseal.trust import certified
from counterseal.trust.certified import CERTIFIED_TYPE, CertifiedCard, certify
from counterseal.trust.identity import Identity
from counterseal.trust.partner import Partner
from counterseal.wire import canonical, limits

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NAME = "counterseal.clinic.example"
KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "P-256, another": lambda: ec.generate_private_key(ec.SECP256R1()),
}
HASHES = {"secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}


@cache
def key(kind="P-256"):
    """Slow to make, RSA above all: one of a kind, "P-256/ca" is another than "P-256"."""
    return KEYS[kind.partition("/")[0]]()


@cache
def identity(name="clinic"):
    return Identity.create(name, at=AT - DAY)


@cache
def long_standing():
    return Identity.create("clinic", at=AT - 50 * DAY)


def hash_for(signing):
    if isinstance(signing, ec.EllipticCurvePrivateKey):
        return HASHES.get(signing.curve.name, hashes.SHA256())
    return hashes.SHA256() if isinstance(signing, rsa.RSAPrivateKey) else None


def public_digest(public):
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public.public_bytes(*form)).digest()[:20]


@dataclass
class Certificate:
    certificate: x509.Certificate
    key: object

    @property
    def pem(self):
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self):
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def issue(
    subject, kind, *, by=None, names=(), usage=True, purposes=(), begin=AT - 100 * DAY, days=200
):
    """A certificate by `by` (None: by itself). With `names` it is a leaf, without a CA."""
    ours, ca = key(kind), not names
    signing = by.key if by else ours
    issuer = by.certificate.subject if by else common_name(subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name(subject))
        .issuer_name(issuer)
        .public_key(ours.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + days * DAY)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(public_digest(ours.public_key())), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier(public_digest(signing.public_key()), None, None),
            critical=False,
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=usage and not ca,
                content_commitment=False,
                key_encipherment=not usage and not ca,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=ca,
                crl_sign=ca,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if names:
        listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(listed, critical=False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return Certificate(builder.sign(signing, hash_for(signing)), ours)


def common_name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@cache
def root(kind="P-256/ca"):
    return issue("Clinic Root", kind)


def leaf(kind="P-256", *, by=None, names=(NAME,), **more):
    return issue("server", kind, by=by or root(), names=names, **more)


def made(certificate=None, *, us=None, at=AT, chain=()):
    certificate = certificate or leaf()
    pem = b"".join(one.pem for one in (certificate, *chain))
    return certify(us or identity(), chain_pem=pem, key_pem=certificate.key_pem, at=at)


@cache
def honest():
    return made()


def check(document, *, ca=None, name=NAME, at=AT):
    return certified.verify(document, ca_pem=(ca or root()).pem, name=name, at=at)


def test_a_card_is_vouched_for_and_can_be_pinned():
    history = check(made())
    assert history == identity().history
    partner = Partner.pin(history.document, key_id=history.newest.key_id, at=AT)
    assert partner.identity == identity().history.identity


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "RSA-3072", "ML-DSA-65", "ML-DSA-87"])
def test_kinds_of_keys(kind):
    ca = root(kind + "/ca") if kind != "RSA-3072" else root("RSA-3072")
    assert check(made(leaf(kind, by=ca)), ca=ca).name == "clinic"
    assert check(made(leaf("P-256", by=ca)), ca=ca).name == "clinic"


def test_a_chain_with_an_intermediate_certificate():
    middle = issue("Clinic Issuing", "P-384", by=root())
    certificate = leaf(by=middle)
    assert check(made(certificate, chain=[middle])).name == "clinic"
    assert check(made(certificate, chain=[middle, root()])).name == "clinic"
    with pytest.raises(TrustError):
        check(made(certificate))  # nobody says who issued it


def test_case_of_a_name_does_not_count():
    assert check(made(leaf(names=("CounterSeal.Clinic.Example",)))).name == "clinic"
    assert check(made(), name=NAME.upper()).name == "clinic"


def test_a_key_with_a_passphrase():
    certificate = leaf()
    pem = certificate.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    parts = {"chain_pem": certificate.pem, "key_pem": pem, "at": AT}
    assert check(certify(identity(), passphrase=b"secret", **parts)).name == "clinic"
    with pytest.raises(BadCiphertext):
        certify(identity(), passphrase=b"wrong", **parts)
    with pytest.raises(FormatError):
        certify(identity(), **parts)


REFUSED = {
    "another name than expected": lambda: check(made(), name="counterseal.bank.example"),
    "a wildcard": lambda: check(made(leaf(names=("*.clinic.example",)))),
    "another CA": lambda: check(made(), ca=issue("Clinic Root", "P-256, another")),
    "a certificate that signs for itself": lambda: check(made(issue("x", "P-256", names=(NAME,)))),
    "a certificate not yet valid": lambda: check(made(leaf(begin=AT + DAY))),
    "a certificate that has ended": lambda: check(made(leaf(days=20))),
    "a certificate for clients only": lambda: check(
        made(leaf(purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,)))
    ),
    "a certificate not for signatures": lambda: check(made(leaf(usage=False))),
    "a leaf that issued a leaf": lambda: check(
        made(leaf("P-256, another", by=leaf()), chain=[leaf()])
    ),
    "an RSA key below 3072 bits": lambda: check(made(leaf("RSA-2048"))),
    "a CA with an RSA key below 3072 bits": lambda: check(
        made(leaf(by=root("RSA-2048"))), ca=root("RSA-2048")
    ),
    "Ed25519, which the validation refuses": lambda: check(made(leaf("Ed25519"))),
    "the private key of another certificate": lambda: certify(
        identity(), chain_pem=leaf().pem, key_pem=leaf("P-384").key_pem, at=AT
    ),
    "a clock that was wrong": lambda: check(made(at=AT + DAY)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_not_trusted(what):
    with pytest.raises(TrustError):
        REFUSED[what]()


def test_it_is_good_for_thirty_days():
    document = made()
    assert check(document, at=AT + 30 * DAY).name == "clinic"
    with pytest.raises(ExpiredKey) as caught:
        check(document, at=AT + 30 * DAY + timedelta(seconds=1))
    assert "fresh" in caught.value.hint


def test_a_card_that_is_not_in_force_is_refused():
    them = Identity.create("them", at=AT - DAY)
    document = msgspec.json.decode(made(us=them))
    them.revoke(reason="compromised", at=AT)
    document["card"] = msgspec.to_builtins(them.card())
    changed = canonical.encode(msgspec.convert(document, CertifiedCard))
    with pytest.raises(RevokedKey):
        check(changed)
    with pytest.raises(RevokedKey):
        made(us=them)


# --- one vouching passed off as another ---------------------------------------------------------


def parts(document):
    return canonical.decode(
        document.strip(), CertifiedCard, limit=limits.CERTIFIED_BYTES, what="certified card"
    )


def joined(document, **changes):
    return canonical.encode(msgspec.structs.replace(parts(document), **changes))


def other_card():
    """rival's certificate is good, and rival would like bank's card to be seen as its own."""
    return joined(honest(), card=identity("bank").card())


def other_card_and_claim():
    other = parts(made(us=identity("bank")))
    return joined(honest(), card=other.card, claim=other.claim)


def other_certificate():
    """clinic certified its card with one certificate; rival has another from the same CA."""
    return joined(honest(), chain=parts(made(leaf("P-384"))).chain)


def claim_for_another_certificate():
    """rival takes clinic's card and claim, and signs with its own certificate's key."""
    theirs = parts(honest())
    certificate = leaf("P-384")
    signature = certified.x509.sign(
        certified._to_sign(identity().key_id, theirs.claim.payload),
        key_pem=certificate.key_pem,
        certificate=certificate.certificate.public_bytes(Encoding.DER),
        passphrase=None,
    )
    chain = (certificate.certificate.public_bytes(Encoding.DER),)
    return joined(honest(), chain=chain, signature=signature)


def claim_by_another_card():
    """The claim says clinic, and is signed by rival."""
    claim = msgspec.json.decode(parts(honest()).claim.payload, type=certified._Claim)
    return joined(honest(), claim=identity("rival").sign(claim, CERTIFIED_TYPE, at=AT))


def older_claim_with_a_new_signature():
    certificate = leaf()
    new, old = (parts(made(certificate, at=at)) for at in (AT, AT - timedelta(minutes=1)))
    return joined(honest(), chain=new.chain, claim=old.claim, signature=new.signature)


@pytest.mark.parametrize(
    "make",
    [
        other_card,
        other_card_and_claim,
        other_certificate,
        claim_for_another_certificate,
        claim_by_another_card,
        older_claim_with_a_new_signature,
    ],
)
def test_nothing_of_it_fits_anything_else(make):
    with pytest.raises(BadSignature):
        check(make())


UNDEFENDED = {
    "a claim for another certificate": (
        claim_for_another_certificate,
        Cut(
            "counterseal.trust.certified:verify",
            "claim.certificate != sha256(document.chain[0]).hex()",
            "False",
        ),
    ),
    "a claim by another card": (
        claim_by_another_card,
        Cut(
            "counterseal.trust.certified:verify",
            "signed.verify(document.claim, CERTIFIED_TYPE, by=card.card.signing.key())",
        ),
    ),
    "a wildcard": (
        lambda: made(leaf(names=("*.clinic.example",))),
        Cut("counterseal.crypto.x509:_check_leaf", "name.lower() not in listed", "False"),
    ),
    "a short RSA key": (
        lambda: made(leaf(by=root("RSA-2048"))),
        Cut("counterseal.crypto.x509:verify", "_public_key(certificate)"),
    ),
    "an old one": (
        lambda: made(leaf(), us=long_standing(), at=AT - 31 * DAY),
        Cut("counterseal.trust.certified:_check_fresh", "at - made > FRESH", "False"),
    ),
}


@pytest.mark.parametrize("what", UNDEFENDED)
def test_would_be_accepted_without_the_check(what, monkeypatch):
    make, cut = UNDEFENDED[what]
    ca = root("RSA-2048") if what == "a short RSA key" else root()
    document = make()
    with pytest.raises(CountersealError):
        check(document, ca=ca)
    cut.apply(monkeypatch)
    assert check(document, ca=ca).name == "clinic"


@pytest.mark.parametrize(
    "name", ["", "clinic example", "é.example", "127.0.0.1", ".", "*.clinic.example"]
)
def test_what_is_not_a_name(name):
    with pytest.raises((FormatError, TrustError)):
        check(made(), name=name)


def test_files_that_are_none():
    for pem in (b"", b"x", leaf().key_pem, b"x" * (limits.PEM_BYTES + 1)):
        with pytest.raises(FormatError):
            certify(identity(), chain_pem=pem, key_pem=leaf().key_pem, at=AT)
        with pytest.raises(FormatError):
            certified.verify(made(), ca_pem=pem, name=NAME, at=AT)
    for pem in (b"", b"x", leaf().pem):
        with pytest.raises(FormatError):
            certify(identity(), chain_pem=leaf().pem, key_pem=pem, at=AT)
    with pytest.raises(FormatError, match="more than 8"):
        certify(identity(), chain_pem=leaf().pem * 9, key_pem=leaf().key_pem, at=AT)
    with pytest.raises(FormatError):
        check(bytes(limits.CERTIFIED_BYTES + 1))


@settings(max_examples=300)
@given(st.data())
def test_any_change_of_it_is_refused(data):
    document = honest()
    at = data.draw(st.integers(0, len(document) - 2))  # the line feed at its end may go
    byte = data.draw(st.integers(1, 255))
    with pytest.raises(CountersealError):
        check(document[:at] + bytes([document[at] ^ byte]) + document[at + 1 :])


@settings(max_examples=150)
@given(st.data())
def test_any_certificate_ends_in_a_refusal(data):
    """Signed for by the card's key, so that the certificate itself is looked at."""
    der = bytearray(parts(honest()).chain[0])
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    chain = (bytes(der),)
    claim = msgspec.json.decode(parts(honest()).claim.payload, type=certified._Claim)
    claim = msgspec.structs.replace(claim, certificate=sha256(chain[0]).hex())
    envelope = identity().sign(claim, CERTIFIED_TYPE, at=AT)
    if chain == parts(honest()).chain:
        return
    with pytest.raises(CountersealError):
        check(joined(honest(), chain=chain, claim=envelope))
