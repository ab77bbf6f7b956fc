"""Signed envelopes: DSSE v1 (secure-systems-lab/dsse), two signatures for each signer.

The payload type is inside what is signed, so a signature made for one kind of document can
never be presented as another kind: this is what keeps one signing key safe for several uses.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from counterseal.wire.canonical import Message

__all__ = ["Envelope", "EnvelopeSignature", "pae"]

MAX_SIGNATURES: Final = 64


class EnvelopeSignature(Message, frozen=True):
    keyid: str
    sig: bytes


class Envelope(Message, frozen=True):
    """`payloadType` is DSSE's own field name."""

    payload: bytes
    payloadType: str  # noqa: N815 - the standard's spelling
    signatures: Annotated[
        tuple[EnvelopeSignature, ...], msgspec.Meta(min_length=1, max_length=MAX_SIGNATURES)
    ]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: what is really signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
