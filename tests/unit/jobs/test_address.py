"""What an address says, and what it must not."""

import pytest
from workshop import AT, PASSPHRASE

from counterseal.errors import FormatError, TrustError
from counterseal.jobs.address import open_transport, parse
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import PartnerBook

GOOD = {
    "post": ("file", "", 0),
    "file:post": ("file", "", 0),
    "s3://bucket/prefix": ("s3", "", 0),
    "https://relay@mail.example": ("https", "mail.example", 8443),
    "https://relay@[::1]:9": ("https", "::1", 9),
    "mqtts://broker.example": ("mqtts", "broker.example", 8883),
    "mqtts://me@broker.example:1?ca=ca.pem&version=3.1.1": ("mqtts", "broker.example", 1),
}


@pytest.mark.parametrize("via", GOOD)
def test_a_good_address(via):
    place = parse(via)
    assert (place.scheme, place.host, place.port) == GOOD[via]


BAD = {
    "ftp://host": "no way is known",
    "mqtts://me:secret@host": "a password does not belong in an address",
    "mqtts://host?cafile=x": "knows no cafile",
    "https://host?ca=x": "knows no ca",
    "https://host/path": "is no address",
    "https://": "is no address",
    "https://host:port": "is no address",
}


@pytest.mark.parametrize("via", BAD)
def test_a_bad_address(via):
    with pytest.raises(FormatError, match=BAD[via]):
        parse(via)


@pytest.fixture
def us(tmp_path):
    home = Home(tmp_path / "home")
    identity = Identity.create("lab", home=home, passphrase=PASSPHRASE, at=AT)
    return {"by": identity, "book": PartnerBook(home.store)}


def test_what_a_broker_needs(us, tmp_path):
    pytest.importorskip("paho.mqtt.client")
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    secret.chmod(0o644)
    via = f"mqtts://me@broker.example?password-file={secret}"
    with pytest.raises(TrustError, match="can be read by others"):
        open_transport(via, **us)
    secret.chmod(0o600)
    open_transport(via, **us).close()
    open_transport(f"{via}&version=3.1.1", **us).close()
    with pytest.raises(FormatError, match="no MQTT 4"):
        open_transport(f"{via}&version=4", **us)
    with pytest.raises(FormatError, match="needs both"):
        open_transport("mqtts://broker.example?cert=a", **us)
