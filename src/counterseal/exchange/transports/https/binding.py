"""Who is at the ends of a TLS connection: each signs its exporter (SPEC 14.3.2). Pure.

    client                                   mailbox
      |----- GET /v1/session ------------------>|
      |<---- exporter, mailbox -----------------|  signed by the mailbox
      |----- exporter, mailbox, client -------->|  signed by the client: POST /v1/session
      |<---- 204 -------------------------------|

The exporter is a secret that only the two ends of this one connection can compute. Somebody who
ends TLS in the middle has two connections with two exporters, and can sign neither for the
other. The mailbox goes first: a client tells its name to nobody but its mailbox.

Rules for either proof, in order; the first that fails raises:
1. It is of the other role: a proof cannot be reflected.
2. It names this exporter, and this mailbox.
3. It is signed by a card of the identity that it names, as we have pinned it.
4. That card is the current one: not revoked, not replaced, not expired. The mailbox looks
   again on every request, so that a revocation acts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from counterseal.crypto.digest import equal
from counterseal.errors import Aborted, BadSignature, RevokedKey, TrustError, UnknownPartner
from counterseal.trust import signed
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["BINDING_TYPE", "Who", "check_client", "check_mailbox", "prove"]

BINDING_TYPE: Final = "application/vnd.counterseal.binding.v1+json"
PROOF_BYTES: Final = 32 * limits.KIB  # two signatures and a few digests: 8 KiB

Role = Literal["mailbox", "client"]


class Binding(Message, frozen=True):
    """What is signed. `client` and `card` are key ids; the mailbox's own proof has no client."""

    kind: Literal["binding"]
    format: Literal[1]
    role: Role
    exporter: bytes
    mailbox: Hex32
    client: Hex32 | None
    card: Hex32


class Who(Message, frozen=True):
    """A client that has proven who it is, and with which card."""

    identity: Hex32
    card: Hex32

    def check(self, history: History | None, *, at: datetime) -> None:
        """Rule 4, on every request. Raises TrustError or one of its kinds."""
        if history is None:
            raise UnknownPartner("your card is not pinned here any more")
        current = history.current(at=at).key_id
        if not equal(current.encode(), self.card.encode()):
            raise RevokedKey("this card was replaced", hint="connect again with the new one")


def prove(
    role: Role, exporter: bytes, *, by: Identity, mailbox: str, client: str | None, at: datetime
) -> bytes:
    binding = Binding(
        kind="binding",
        format=1,
        role=role,
        exporter=exporter,
        mailbox=mailbox,
        client=client,
        card=by.current(at=at).key_id,
    )
    return canonical.encode(by.sign(binding, BINDING_TYPE, at=at))


def check_mailbox(proof: bytes, exporter: bytes, *, mailbox: History, at: datetime) -> None:
    """Raises TrustError unless the other end is this mailbox: any other may be a trap."""
    envelope, binding = _read(proof, exporter, role="mailbox", mailbox=mailbox.identity)
    if binding.client is not None:
        raise Aborted("a proof of another kind", party="mailbox", check="binding")
    _check_signature(envelope, binding, mailbox)
    Who(identity=mailbox.identity, card=binding.card).check(mailbox, at=at)


def check_client(
    proof: bytes,
    exporter: bytes,
    *,
    mailbox: str,
    lookup: Callable[[str], History | None],
    at: datetime,
) -> Who:
    """Raises TrustError for everybody that `lookup` does not know."""
    envelope, binding = _read(proof, exporter, role="client", mailbox=mailbox)
    history = None if binding.client is None else lookup(binding.client)
    if history is None or binding.client != history.identity:
        raise _unknown()
    try:
        _check_signature(envelope, binding, history)
    except BadSignature:  # the same answer: it does not tell a stranger who is known here
        raise _unknown() from None
    who = Who(identity=history.identity, card=binding.card)
    who.check(history, at=at)
    return who


def _unknown() -> UnknownPartner:
    return UnknownPartner(
        "this mailbox does not know you", hint="its operator has to pin your newest card"
    )


def _read(proof: bytes, exporter: bytes, *, role: Role, mailbox: str) -> tuple[Envelope, Binding]:
    envelope = canonical.decode(proof, Envelope, limit=PROOF_BYTES, what="proof")
    binding = canonical.decode(envelope.payload, Binding, limit=PROOF_BYTES, what="binding")
    if binding.role != role:
        raise TrustError("a proof of the wrong side: somebody sends ours back")
    if not equal(binding.exporter, exporter):
        raise TrustError(
            "this connection does not end where it should",
            hint="somebody between opens the TLS connection: a proxy, or an attacker",
        )
    if not equal(binding.mailbox.encode(), mailbox.encode()):
        raise TrustError(
            "this is another mailbox", hint="check its address, or pin the card of its operator"
        )
    return envelope, binding


def _check_signature(envelope: Envelope, binding: Binding, history: History) -> None:
    for dated in history.cards:
        if equal(dated.key_id.encode(), binding.card.encode()):
            signed.verify(envelope, BINDING_TYPE, by=dated.card.signing.key())
            return
    raise BadSignature(
        f'the key is not one of "{history.name}"',
        hint=f"if they rotated: counterseal partner refresh {history.name} CARD",
    )
