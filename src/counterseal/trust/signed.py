"""Sign a document with hybrid keys, and check that a given key signed it (SPEC 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterseal.crypto.signing import Signature
from counterseal.errors import BadSignature
from counterseal.wire import canonical
from counterseal.wire.dsse import Envelope, EnvelopeSignature, pae

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from counterseal.crypto.signing import Signer, VerifyKey

__all__ = ["sign", "sign_bytes", "signers", "verify"]


def sign(document: canonical.Message, payload_type: str, *, by: Iterable[Signer]) -> Envelope:
    """Wrap a document in an envelope with two signatures of each signer, in order."""
    return sign_bytes(canonical.encode(document), payload_type, by=by)


def sign_bytes(payload: bytes, payload_type: str, *, by: Iterable[Signer]) -> Envelope:
    message = pae(payload_type, payload)
    signatures: list[EnvelopeSignature] = []
    for signer in by:
        made = signer.sign(message)
        classical_id, pq_id = signer.public.key_ids
        signatures += [
            EnvelopeSignature(keyid=classical_id, sig=made.classical),
            EnvelopeSignature(keyid=pq_id, sig=made.pq),
        ]
    return Envelope(payload=payload, payloadType=payload_type, signatures=tuple(signatures))


def verify(envelope: Envelope, payload_type: str, *, by: VerifyKey) -> None:
    """Return only if `by`, and nobody else, signed this payload as this type."""
    if signers(envelope, payload_type, known=[by]) != [by]:
        raise BadSignature("a required signature is missing")


def signers(
    envelope: Envelope, payload_type: str, *, known: Sequence[VerifyKey]
) -> list[VerifyKey]:
    """Return whose good signatures the envelope carries, in order; the caller's policy decides.

    Signatures come in pairs (classical, post-quantum). Every pair must be of a `known` key
    and good, and none may come twice: a byte that nobody vouches for is refused, so a relay
    cannot make a second, different envelope out of a signed one.
    """
    if envelope.payloadType != payload_type:
        raise BadSignature("this was signed as another kind of document")
    if len(envelope.signatures) % 2:
        raise BadSignature("a required signature is missing")
    by_ids = {key.key_ids: key for key in known}
    message = pae(payload_type, envelope.payload)
    found: list[VerifyKey] = []
    pairs = zip(envelope.signatures[::2], envelope.signatures[1::2], strict=True)
    for classical, pq in pairs:
        key = by_ids.get((classical.keyid, pq.keyid))
        if key is None or key in found:
            raise BadSignature("a signature by an unknown key, or twice by the same")
        key.verify(message, Signature(classical.sig, pq.sig))
        found.append(key)
    return found
