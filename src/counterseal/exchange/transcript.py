"""What both sides of a handshake must have seen alike, and every key that hangs on it (SPEC 9.3).

    secret ──HKDF, salt: digest of the transcript so far──► root
    root ──"handshake"──► a key for each encrypted message
         ──"confirmation", digest of the whole transcript──► what each side shows the other
         ──"channel", digest of the whole transcript──► a secret for each direction

Changing any field on the way gives the two sides different keys; and each field is in what
both identities sign, so that no signature fits another handshake, purpose, role or line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from counterseal.crypto.derive import bind, derive, derive_from_shares
from counterseal.crypto.digest import sha256
from counterseal.wire.dsse import pae

__all__ = ["HANDSHAKE_TYPE", "TRANSCRIPT_FIELDS", "Role", "Schedule", "Transcript"]

HANDSHAKE_TYPE: Final = "application/vnd.counterseal.handshake.v1"

# In this order, all of them; docs/formal/handshake.pv signs the same terms.
TRANSCRIPT_FIELDS: Final = (
    "version",
    "suite",
    "purpose",
    "session",
    "binding",
    "initiator_share",
    "responder_share",
    "responder_identity",
    "responder_card",
    "initiator_identity",
    "initiator_card",
)

Role = Literal["initiator", "responder"]


@dataclass(frozen=True)
class Transcript:
    """The fields, as bytes. What is not known yet is empty, which is encoded like a value."""

    version: bytes
    suite: bytes
    purpose: bytes
    session: bytes
    binding: bytes
    initiator_share: bytes
    responder_share: bytes
    responder_identity: bytes = b""
    responder_card: bytes = b""
    initiator_identity: bytes = b""
    initiator_card: bytes = b""

    def fields(self) -> list[bytes]:
        return [getattr(self, name) for name in TRANSCRIPT_FIELDS]

    @cached_property
    def digest(self) -> bytes:
        return sha256(bind("handshake transcript", *self.fields()))

    def to_sign(self, role: Role) -> bytes:
        """What `role` signs: of a type that no document has, so no signature is both."""
        return pae(HANDSHAKE_TYPE, bind("handshake", role.encode(), *self.fields()))


class Schedule:
    """The keys of one handshake."""

    __slots__ = ("_root",)

    def __init__(self, secret: bytes, transcript: Transcript) -> None:
        """`transcript`: up to both shares, before anybody has said who they are."""
        self._root = derive_from_shares(secret, "handshake root", salt=transcript.digest)

    def message_key(self, role: Role) -> bytes:
        """Encrypts the one message in which `role` says who it is."""
        return derive(self._root, "handshake", role.encode())

    def confirmation(self, role: Role, transcript: Transcript) -> bytes:
        """Shows that `role` has the keys, and for which identities: SIGMA's MAC.

        The responder shows two, over transcripts that differ: first without the initiator's
        identity, at the end with it.
        """
        return derive(self._root, "confirmation", role.encode(), transcript.digest)

    def channel_secret(self, sender: Role, transcript: Transcript) -> bytes:
        return derive(self._root, "channel", sender.encode(), transcript.digest)

    def __repr__(self) -> str:
        return "<Schedule>"
