"""DSSE: the pre-authentication encoding of the standard."""

from __future__ import annotations

import pytest

from counterseal.errors import FormatError
from counterseal.wire import canonical
from counterseal.wire.dsse import MAX_SIGNATURES, Envelope, EnvelopeSignature, pae

ONE = EnvelopeSignature(keyid="a", sig=b"s")


def test_pae_is_the_example_of_the_specification() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_pae_counts_bytes_and_not_letters() -> None:
    assert pae("ü", b"") == b"DSSEv1 2 \xc3\xbc 0 "


def test_type_and_payload_cannot_move_into_each_other() -> None:
    assert pae("a", b"1 b") != pae("a 3 1", b"b")


def test_the_wire_form_is_that_of_dsse() -> None:
    envelope = Envelope(payload=b"{}", payloadType="t", signatures=(ONE,))
    assert canonical.encode(envelope) == (
        b'{"payload":"e30=","payloadType":"t","signatures":[{"keyid":"a","sig":"cw=="}]}'
    )


@pytest.mark.parametrize("count", [0, MAX_SIGNATURES + 1])
def test_no_signature_or_too_many_are_refused(count: int) -> None:
    wire = canonical.encode(Envelope(payload=b"", payloadType="t", signatures=(ONE,) * count))
    with pytest.raises(FormatError):
        canonical.decode(wire, Envelope, limit=10_000, what="envelope")
