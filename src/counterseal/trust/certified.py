"""A card vouched for by the certificate of an organization's CA, instead of by voice (SPEC 2.10).

Two keys sign for each other, so that neither can be passed off as the other's:

    card's key ──signs──► digest of the certificate, time
    certificate's key ──signs──► key id of the card, and that signature's document

Rules, in order; the first that fails raises:
1. The document has its exact form; the card is a good history, in force now.
2. The card's key signed for this card and this certificate.
3. That was within the last 30 days: an older one could hide a revocation.
4. The certificate's key signed for this card, and the CA that *we* chose says that it
   belongs to the name that *we* expect (`crypto.x509`). The name in the card proves nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.crypto import x509
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import BadSignature, ExpiredKey, FormatError, TrustError
from counterseal.trust import signed
from counterseal.trust.card import CardDocument
from counterseal.trust.history import CLOCK_SKEW, History
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.trust.identity import Identity

__all__ = ["CERTIFIED_TYPE", "FRESH", "certify", "verify"]

CERTIFIED_TYPE: Final = "application/vnd.counterseal.certified.v1+json"
FRESH: Final = timedelta(days=30)


class _Claim(Message, frozen=True):
    """What the card's key signs: this certificate is ours too."""

    kind: Literal["certified"]
    format: Literal[1]
    key_id: Hex32
    certificate: Hex32
    made: Timestamp


class CertifiedCard(Message, frozen=True):
    kind: Literal["certified card"]
    format: Literal[1]
    card: CardDocument
    chain: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=limits.CERTIFICATE_BYTES)], ...],
        msgspec.Meta(min_length=1, max_length=limits.CERTIFICATES),
    ]
    claim: Envelope
    signature: Annotated[bytes, msgspec.Meta(max_length=limits.CERTIFICATE_BYTES)]


def certify(
    us: Identity,
    *,
    chain_pem: bytes,
    key_pem: bytes,
    at: datetime,
    passphrase: bytes | None = None,
) -> bytes:
    """Our card with the CA's word for it: a file to hand over.

    `chain_pem`: our certificate first, then the intermediate ones; the root may be left out.
    """
    chain = x509.read_chain(_bounded(chain_pem))
    if len(chain) > limits.CERTIFICATES:
        raise FormatError(f"more than {limits.CERTIFICATES} certificates in the chain")
    card = us.current(at=at)
    claim = _Claim(
        kind="certified",
        format=1,
        key_id=card.key_id,
        certificate=sha256(chain[0]).hex(),
        made=canonical.timestamp(at),
    )
    envelope = us.sign(claim, CERTIFIED_TYPE, at=at)
    signature = x509.sign(
        _to_sign(card.key_id, envelope.payload),
        key_pem=_bounded(key_pem),
        certificate=chain[0],
        passphrase=passphrase,
    )
    document = CertifiedCard(
        kind="certified card",
        format=1,
        card=us.card(),
        chain=chain,
        claim=envelope,
        signature=signature,
    )
    return canonical.encode(document) + b"\n"


def verify(data: bytes, *, ca_pem: bytes, name: str, at: datetime) -> History:
    """The history that whoever has `name` (a DNS name) from this CA says is theirs.

    To pin it: `Partner.pin(history.document, key_id=history.newest.key_id)`.
    """
    document = canonical.decode(
        data.strip(), CertifiedCard, limit=limits.CERTIFIED_BYTES, what="certified card"
    )
    history = History.verify(document.card)
    card = history.current(at=at)
    signed.verify(document.claim, CERTIFIED_TYPE, by=card.card.signing.key())
    claim = canonical.decode(
        document.claim.payload, _Claim, limit=limits.CERTIFIED_BYTES, what="certified card"
    )
    _check_fresh(claim.made, at)
    if claim.key_id != card.key_id or claim.certificate != sha256(document.chain[0]).hex():
        raise BadSignature("the card's key signed for another certificate")
    x509.verify(
        _to_sign(card.key_id, document.claim.payload),
        document.signature,
        chain=document.chain,
        ca_pem=_bounded(ca_pem),
        name=name,
        at=at,
    )
    return history


def _check_fresh(made: datetime, at: datetime) -> None:
    if made > at + CLOCK_SKEW:
        raise TrustError("this was certified in the future", hint="check the clock of this machine")
    if at - made > FRESH:
        raise ExpiredKey(
            f"this card was certified on {made:%Y-%m-%d}, which is too long ago",
            hint="ask for a fresh one: counterseal id certify",
        )


def _to_sign(key_id: str, claim: bytes) -> bytes:
    """What the certificate's key signs. No TLS handshake signs anything that begins like it."""
    return bind("certified card", bytes.fromhex(key_id), claim)


def _bounded(pem: bytes) -> bytes:
    if len(pem) > limits.PEM_BYTES:
        raise FormatError("a PEM file is too long")
    return pem
