from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from counterseal.crypto.tls_identity import throw_away


def test_a_certificate_that_says_nothing():
    one, other = throw_away(), throw_away()
    for made in (one, other):
        certificate = made.certificate
        certificate.verify_directly_issued_by(certificate)
        assert certificate.subject == x509.Name.from_rfc4514_string("CN=counterseal")
        assert (certificate.not_valid_before_utc.year, certificate.not_valid_after_utc.year) == (
            2000,
            2999,
        )
        assert len(certificate.extensions) == 0
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        assert certificate.public_key() == made.key.public_key()
    assert one.key.public_key() != other.key.public_key()
    assert one.certificate.serial_number != other.certificate.serial_number
