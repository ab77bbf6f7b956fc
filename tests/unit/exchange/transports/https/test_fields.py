import pytest

from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError
from counterseal.exchange.transports.https import fields


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("?1", True), ("?0", False), ("1", None), ("true", None), ("", None), ("?1;a", None)],
)
def test_booleans(value, meaning):
    assert fields.boolean({"upload-complete": value}, "upload-complete") is meaning


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("0", 0), ("17", 17), ("-1", None), ("1e3", None), ("٣", None), ("", None), ("9" * 16, None)],
)
def test_integers(value, meaning):
    assert fields.integer({"upload-offset": value}, "upload-offset") == meaning


RANGES = {
    "bytes=0-9": (0, 10),
    "bytes=90-": (90, 10),
    "bytes=90-500": (90, 10),
    "bytes=-10": (90, 10),
    "bytes=-500": (0, 100),
    "bytes=5-5": (5, 1),
    "": None,
    "bytes=-": None,
    "bytes=9-3": None,
    "bytes=0-1,5-6": None,
    "items=0-9": None,
    "bytes=a-b": None,
}


@pytest.mark.parametrize("value", RANGES)
def test_ranges(value):
    assert fields.read_range({"range": value}, 100) == RANGES[value]


@pytest.mark.parametrize("value", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_outside(value):
    with pytest.raises(ValueError, match="outside"):
        fields.read_range({"range": value}, 100)


def test_digests():
    digest = sha256(b"abc")
    field = fields.digest_field(digest)
    assert field == "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:"
    assert fields.read_digest({"repr-digest": field}, "repr-digest") == digest
    several = f"sha-512=:AAAA:, {field}, unixsum=:AA==:"
    assert fields.read_digest({"repr-digest": several}, "repr-digest") == digest
    assert fields.read_digest({"repr-digest": "md5=:AAAA:"}, "repr-digest") is None
    assert fields.read_digest({}, "repr-digest") is None
    for bad in ("sha-256=:AAAA:", "sha-256", f"{field}, {field}", f"sha-256=:{'=' * 44}:"):
        with pytest.raises(FormatError):
            fields.read_digest({"repr-digest": bad}, "repr-digest")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("sha-256=1", True), ("sha-512=3, sha-256=10", True), ("sha-256=0", False), ("md5=1", False)],
)
def test_a_digest_is_wanted(value, wanted):
    assert fields.wants_digest({"want-repr-digest": value}) is wanted


def test_tags():
    assert fields.tags('"a", W/"b", "c"') == {'"a"', '"b"', '"c"'}
    assert fields.tags(" * ") == {"*"}
    assert fields.tags("") == set()
