import pytest

from counterseal.crypto.chunked import PREFIX_BYTES, sealed_bytes
from counterseal.errors import FormatError, UnknownVersion
from counterseal.exchange import layout
from counterseal.exchange.layout import FIXED_BYTES, MAGIC, Lengths
from counterseal.wire import limits


def test_the_first_bytes_are_24():
    data = layout.fixed(Lengths(7, 9))
    assert len(data) == FIXED_BYTES == 24
    assert layout.parse_fixed(data + b"more") == Lengths(7, 9)
    assert Lengths(7, 9).end == 24 + 16


def test_limits_are_inclusive():
    lengths = Lengths(limits.HEADER_BYTES, limits.STANZAS_BYTES)
    assert layout.parse_fixed(layout.fixed(lengths)) == lengths
    for header, stanzas in ((0, 1), (1, 0), (lengths.header + 1, 1), (1, lengths.stanzas + 1)):
        with pytest.raises(FormatError):
            layout.parse_fixed(layout.fixed(Lengths(header, stanzas)))


@pytest.mark.parametrize("cut", range(24))
def test_too_few_bytes(cut):
    with pytest.raises(FormatError):
        layout.parse_fixed(layout.fixed(Lengths(1, 1))[:cut])


def test_a_newer_version_is_told_from_another_file():
    with pytest.raises(UnknownVersion) as caught:
        layout.parse_fixed(MAGIC[:12] + b"\x02" + MAGIC[13:] + bytes(8))
    assert "version 2" in caught.value.message
    with pytest.raises(FormatError) as caught:
        layout.parse_fixed(b"GIF89a" + bytes(30))
    assert not isinstance(caught.value, UnknownVersion)
    assert "inspect" in caught.value.hint


@pytest.mark.parametrize("stanzas", [100, 1217, 100_000])
@pytest.mark.parametrize("payload", [0, 5000, 1 << 30, 1 << 40])
def test_the_body_has_room_before_it(stanzas, payload):
    body = layout.body_offset(stanzas, payload)
    assert body % layout.ALIGNMENT == 0
    assert body >= FIXED_BYTES + layout.HEADER_ROOM + stanzas + min(payload // 4096, 1 << 18)
    assert body <= layout.MAX_BODY


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 1 << 20, (1 << 20) + 1])
def test_plain_bytes_is_the_inverse_of_sealed_bytes(size):
    assert layout.plain_bytes(sealed_bytes(size)) == size


@pytest.mark.parametrize("sealed", [0, 1, PREFIX_BYTES, PREFIX_BYTES + 15, PREFIX_BYTES + 16400])
def test_an_impossible_length(sealed):
    with pytest.raises(FormatError):
        layout.plain_bytes(sealed)
