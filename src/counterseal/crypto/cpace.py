"""CPace: from a short code that two people share to a strong key (SPEC 2.9).

CPACE-X25519-SHA512 of draft-irtf-cfrg-cpace-21, with roles (`transcript_ir`) and the key
confirmation that the draft recommends:

    g    = Elligator 2(SHA-512(password, padding, channel, session))    a point only they know
    A -> B   Ya = ya g, data A                                     B -> A   Yb = yb g, data B
    ISK  = SHA-512(session, ya yb g, Ya, data A, Yb, data B)

Whoever does not know the password learns nothing from listening, and each run with an honest
side tests exactly one guess. Scalar multiplication is X25519 of `cryptography`.

**Not constant time:** the map from the hash to the point works on Python's integers. It has
no branch and no index that depends on the password, and every power has a public exponent,
but the interpreter's arithmetic is not made for secrets. Bearable here, and only here: each
code is random, guarded by three attempts and gone within the hour, so that a listener gets
three timings of 0.2 ms, over a network, of one value. Do not use this for lasting passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric import x25519

from counterseal.crypto.digest import equal
from counterseal.errors import Aborted, TrustError

__all__ = ["CONFIRMATION_BYTES", "SHARE_BYTES", "Agreed", "Role", "Run"]

SHARE_BYTES: Final = 32
CONFIRMATION_BYTES: Final = 64
_P: Final = 2**255 - 19
_A: Final = 486662  # Curve25519 is v^2 = u^3 + A u^2 + u
_Z: Final = 2  # not a square (RFC 9380, appendix G.2.1)
_HALF: Final = (_P + 1) // 2
_DSI: Final = b"CPace255"
_SHA512_BLOCK: Final = 128

Role = Literal["initiator", "responder"]


class Run:
    """One side of one run. Its scalar serves one peer and is then forgotten."""

    __slots__ = ("_data", "_role", "_scalar", "_session", "share")

    share: bytes

    def __init__(
        self, password: bytes, *, role: Role, channel: bytes, session: bytes, data: bytes
    ) -> None:
        """`channel` (CI) and `session` (sid) are what both must have alike, `data` (AD) is
        what this side sends along in the clear; all of it is authenticated.
        """
        self._role = role
        self._session = session
        self._data = data
        self._scalar: bytes | None = os.urandom(SHARE_BYTES)
        self.share = _multiply(self._scalar, _generator(password, channel, session), role)

    def finish(self, share: bytes, data: bytes) -> Agreed:
        """With the other side's share and data; nothing is proven until `Agreed.check`.

        Raises Aborted for a share of small order: with that the key would be the same
        whatever the password is.
        """
        scalar, self._scalar = self._scalar, None  # before anything can fail
        if scalar is None:
            raise RuntimeError("a CPace scalar was used twice")
        theirs: Role = "responder" if self._role == "initiator" else "initiator"
        secret = _multiply(scalar, share, theirs)
        sent, received = _lv_cat(self.share, self._data), _lv_cat(share, data)
        transcript = sent + received if self._role == "initiator" else received + sent
        isk = _sha512(_lv_cat(_DSI + b"_ISK", self._session, secret) + transcript)
        mac_key = _sha512(b"CPaceMac" + self._session + isk)
        return Agreed(
            isk,
            hmac.digest(mac_key, sent, "sha512"),
            hmac.digest(mac_key, received, "sha512"),
        )

    def __repr__(self) -> str:
        return f"<Run {self._role}>"


@dataclass(frozen=True, slots=True, repr=False)
class Agreed:
    """The intermediate session key, 64 bytes, and what shows that a side has it.

    `isk` goes into a key derivation, never directly into a cipher.
    """

    isk: bytes
    confirmation: bytes  # ours, to send
    expected: bytes  # theirs

    def check(self, confirmation: bytes) -> None:
        """Raise TrustError unless the other side has the same key: the same password."""
        if not equal(confirmation, self.expected):
            raise TrustError("the other side does not have the same code")


def _generator(password: bytes, channel: bytes, session: bytes) -> bytes:
    """The u coordinate of g. The padding fills the first block of the hash, so that its
    work does not depend on the length of the password.
    """
    padding = bytes(max(0, _SHA512_BLOCK - 1 - len(_lv_cat(password)) - len(_lv_cat(_DSI))))
    hashed = _sha512(_lv_cat(_DSI, password, padding, channel, session))[:SHARE_BYTES]
    field = int.from_bytes(hashed, "little") & (1 << 255) - 1
    return _elligator2(field).to_bytes(SHARE_BYTES, "little")


def _elligator2(r: int) -> int:
    """A point of the curve, not its twist (RFC 9380 6.7.1). No input is exceptional: -1/Z
    and A^2 - 4 are not squares, so no denominator and no Legendre symbol below is zero.
    """
    v = -_A * pow(1 + _Z * r * r, _P - 2, _P) % _P
    square = pow(v * (v * v + _A * v + 1), (_P - 1) // 2, _P)  # 1, or -1: then -v - A is on it
    return (square * v - (1 - square) * _A * _HALF) % _P


def _multiply(scalar: bytes, point: bytes, sender: Role) -> bytes:
    try:
        return x25519.X25519PrivateKey.from_private_bytes(scalar).exchange(
            x25519.X25519PublicKey.from_public_bytes(point)
        )
    except ValueError:  # not 32 bytes, or the result is zero
        raise _unusable(sender) from None


def _unusable(sender: Role) -> Aborted:
    return Aborted("a CPace share is not a point that can be used", party=sender, check="share")


def _lv_cat(*parts: bytes) -> bytes:
    return b"".join(_leb128(len(part)) + part for part in parts)


def _leb128(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _sha512(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()
