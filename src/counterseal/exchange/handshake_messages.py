"""The four messages of a handshake, byte for byte (SPEC 9.1). Every length is fixed.

    1 I -> R   0x01 | version 1 | suite 1 | session 32 | purpose 32 | share 1216      1283 bytes
    2 R -> I   0x02 | answer 1120 | sealed proof                                      4606
    3 I -> R   0x03 | sealed proof                                                    3486
    4 R -> I   0x04 | confirmation 32                                                   33

    proof = identity 32 | card 32 | signature 64 + 3309 | confirmation 32

Purpose is ASCII, filled up with zeros. Both suites of identities have proofs of one length,
so a listener cannot tell who keeps keys in hardware.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from counterseal.crypto.ephemeral import ANSWER_BYTES, SHARE_BYTES
from counterseal.crypto.record import TAG_BYTES, open_once, seal_once
from counterseal.crypto.signing import MLDSA65_SIGNATURE_BYTES, Signature
from counterseal.errors import FormatError, UnknownVersion

__all__ = [
    "ANSWER_MESSAGE_BYTES",
    "CONFIRMATION_MESSAGE_BYTES",
    "HELLO_BYTES",
    "PROOF_MESSAGE_BYTES",
    "SESSION_BYTES",
    "SUITE",
    "VERSION",
    "Hello",
    "Proof",
    "check_purpose",
    "join_answer",
    "join_confirmation",
    "join_proof",
    "split_answer",
    "split_confirmation",
    "split_proof",
]

VERSION: Final = 1
SUITE: Final = 1  # X-Wing, hybrid signatures, HKDF-SHA-512, AES-256-GCM: there is no other
SESSION_BYTES: Final = 32
PURPOSE_BYTES: Final = 32
CONFIRMATION_BYTES: Final = 32
_ID_BYTES: Final = 32
_CLASSICAL_BYTES: Final = 64  # Ed25519, and P-256 as r | s
_PROOF_BYTES: Final = (
    2 * _ID_BYTES + _CLASSICAL_BYTES + MLDSA65_SIGNATURE_BYTES + CONFIRMATION_BYTES
)
_SEALED_BYTES: Final = _PROOF_BYTES + TAG_BYTES
_PURPOSE: Final = re.compile(rb"[a-z0-9][a-z0-9._-]{0,31}\0*\Z")

HELLO_BYTES: Final = 1 + 2 + SESSION_BYTES + PURPOSE_BYTES + SHARE_BYTES
ANSWER_MESSAGE_BYTES: Final = 1 + ANSWER_BYTES + _SEALED_BYTES
PROOF_MESSAGE_BYTES: Final = 1 + _SEALED_BYTES
CONFIRMATION_MESSAGE_BYTES: Final = 1 + CONFIRMATION_BYTES


@dataclass(frozen=True, slots=True)
class Hello:
    """Message 1. It is not signed and not secret; both sides sign what it says later on."""

    session: bytes
    purpose: bytes  # as on the wire, with its zeros
    share: bytes

    def encode(self) -> bytes:
        return bytes([1, VERSION, SUITE]) + self.session + self.purpose + self.share

    @classmethod
    def parse(cls, data: bytes) -> Hello:
        """Raises UnknownVersion before anything else is looked at: nothing is negotiated."""
        if data[:1] == b"\x01":
            _check_version(data[1:3])
        _check(data, 1, HELLO_BYTES)
        session, purpose = data[3:35], data[35:67]
        if not _PURPOSE.match(purpose):
            raise _broken()
        return cls(session, purpose, data[67:])


@dataclass(frozen=True, slots=True)
class Proof:
    """Who somebody is, and that they are."""

    identity: bytes
    card: bytes
    signature: Signature
    confirmation: bytes

    def seal(self, key: bytes) -> bytes:
        signature = self.signature
        return seal_once(
            key,
            b"".join(
                (self.identity, self.card, signature.classical, signature.pq, self.confirmation)
            ),
        )

    @classmethod
    def open(cls, sealed: bytes, key: bytes) -> Proof:
        """Raises BadCiphertext. The length was checked with the message around it."""
        plain = open_once(key, sealed)
        signed, confirmed = 2 * _ID_BYTES + _CLASSICAL_BYTES, _PROOF_BYTES - CONFIRMATION_BYTES
        return cls(
            identity=plain[:_ID_BYTES],
            card=plain[_ID_BYTES : 2 * _ID_BYTES],
            signature=Signature(plain[2 * _ID_BYTES : signed], plain[signed:confirmed]),
            confirmation=plain[confirmed:],
        )


def check_purpose(purpose: str) -> bytes:
    """The bytes of a purpose; raises ValueError for one that cannot be sent."""
    data = purpose.encode()
    if b"\0" in data or not _PURPOSE.match(data):
        raise ValueError("a purpose is 1 to 32 of a-z 0-9 . _ -")
    return data.ljust(PURPOSE_BYTES, b"\0")


def join_answer(answer: bytes, sealed: bytes) -> bytes:
    return b"\x02" + answer + sealed


def split_answer(data: bytes) -> tuple[bytes, bytes]:
    """(answer, sealed proof) of message 2."""
    _check(data, 2, ANSWER_MESSAGE_BYTES)
    return data[1 : 1 + ANSWER_BYTES], data[1 + ANSWER_BYTES :]


def join_proof(sealed: bytes) -> bytes:
    return b"\x03" + sealed


def split_proof(data: bytes) -> bytes:
    _check(data, 3, PROOF_MESSAGE_BYTES)
    return data[1:]


def join_confirmation(confirmation: bytes) -> bytes:
    return b"\x04" + confirmation


def split_confirmation(data: bytes) -> bytes:
    _check(data, 4, CONFIRMATION_MESSAGE_BYTES)
    return data[1:]


def _check_version(pair: bytes) -> None:
    if len(pair) == 2 and pair != bytes([VERSION, SUITE]):
        raise UnknownVersion(
            f"a handshake of version {pair[0]}, suite {pair[1]}",
            hint="one of the two sides needs a newer release of counterseal",
        )


def _check(data: bytes, kind: int, length: int) -> None:
    if len(data) != length or data[0] != kind:
        raise _broken()


def _broken() -> FormatError:
    return FormatError("this is not the handshake message that comes next")
