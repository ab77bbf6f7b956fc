"""A key for one conversation: X-Wing (X25519 + ML-KEM-768) with keys that are used once (SPEC 9.2).

    initiator   share  = ML-KEM-768 encapsulation key 1184 | X25519 public key 32
    responder   answer = ML-KEM-768 ciphertext 1088        | X25519 public key 32
    both        secret = SHA3-256(ML-KEM secret | X25519 secret | both X25519 keys | label)

Byte for byte an X-Wing public key and ciphertext (draft-connolly-cfrg-xwing-kem), so its
proof holds: the secret stays secret while either half does. Nothing here is stored: with
the private halves gone, nobody who steals long-term keys later can compute it again.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

from counterseal.errors import FormatError

__all__ = ["ANSWER_BYTES", "SHARE_BYTES", "Ephemeral", "answer"]

MLKEM768_PUBLIC_BYTES: Final = 1184  # FIPS 203, table 3
MLKEM768_CIPHERTEXT_BYTES: Final = 1088
X25519_BYTES: Final = 32
SHARE_BYTES: Final = MLKEM768_PUBLIC_BYTES + X25519_BYTES
ANSWER_BYTES: Final = MLKEM768_CIPHERTEXT_BYTES + X25519_BYTES
_LABEL: Final = bytes.fromhex("5c2e2f2f5e5c")  # X-Wing's own: \.//^\


class Ephemeral:
    """The initiator's private halves. Good for one `finish`, then they are gone."""

    __slots__ = ("_keys", "share")

    share: bytes

    def __init__(self) -> None:
        pq, ours = mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
        self._keys: tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey] | None = (pq, ours)
        self.share = pq.public_key().public_bytes_raw() + ours.public_key().public_bytes_raw()

    def finish(self, answer: bytes) -> bytes:
        """The secret, 32 bytes. Raises FormatError if `answer` has no valid X25519 half.

        A wrong ML-KEM half raises nothing: FIPS 203 then gives a secret that nobody else
        has, and the handshake ends at the first message that it should open.
        """
        keys, self._keys = self._keys, None  # before anything can fail: one share, one secret
        if keys is None:
            raise RuntimeError("an ephemeral key was used twice")
        pq, ours = keys
        if len(answer) != ANSWER_BYTES:
            raise _invalid()
        pq_ct, theirs = answer[:MLKEM768_CIPHERTEXT_BYTES], answer[MLKEM768_CIPHERTEXT_BYTES:]
        secret = _exchange(ours, theirs)
        return _combine(pq.decapsulate(pq_ct), secret, theirs, self.share[MLKEM768_PUBLIC_BYTES:])

    def __repr__(self) -> str:
        return "<Ephemeral>"


def answer(share: bytes) -> tuple[bytes, bytes]:
    """(answer, secret) for an initiator's share; raises FormatError if it is not one."""
    if len(share) != SHARE_BYTES:
        raise _invalid()
    theirs = share[MLKEM768_PUBLIC_BYTES:]
    ours = x25519.X25519PrivateKey.generate()
    public = ours.public_key().public_bytes_raw()
    try:
        # The modulus check of FIPS 203 7.2 is in here: coefficients are below 3329.
        pq_public = mlkem.MLKEM768PublicKey.from_public_bytes(share[:MLKEM768_PUBLIC_BYTES])
    except ValueError:
        raise _invalid() from None
    secret = _exchange(ours, theirs)
    pq_secret, pq_ct = pq_public.encapsulate()
    return pq_ct + public, _combine(pq_secret, secret, public, theirs)


def _exchange(ours: x25519.X25519PrivateKey, theirs: bytes) -> bytes:
    try:
        # Raises for a point of small order: its shared secret is zero whatever our key is.
        return ours.exchange(x25519.X25519PublicKey.from_public_bytes(theirs))
    except ValueError:
        raise _invalid() from None


def _combine(pq_secret: bytes, secret: bytes, answered: bytes, shared: bytes) -> bytes:
    """`answered`, `shared`: the X25519 halves of answer and share; ML-KEM binds its own."""
    return hashlib.sha3_256(pq_secret + secret + answered + shared + _LABEL).digest()


def _invalid() -> FormatError:
    return FormatError("an ephemeral key share is not valid")
