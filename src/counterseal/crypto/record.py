"""Frames of a channel: AES-256-GCM, counted nonces, a key that only turns forwards (SPEC 10).

    frame = AES-256-GCM(key, nonce = iv xor number, kind 1 byte | payload)

One `Sealer` at one end, one `Opener` at the other, for one direction. The number is counted,
never sent: a frame that is dropped, repeated, moved or of another channel does not open.

How long a key lasts. With s blocks in q frames an attacker tells the ciphertext from random
with at most (s + q + 1)^2 / 2^129 (draft-irtf-cfrg-aead-limits 5.1): for 2^30 bytes in the
shortest frames that is below 2^-75. A forgery succeeds with 2^-111, and there is one try:
the channel ends with it.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterseal.crypto.derive import KEY_BYTES, derive
from counterseal.errors import BadCiphertext

__all__ = ["OVERHEAD_BYTES", "TAG_BYTES", "Opener", "Sealer", "open_once", "seal_once"]

Buffer = bytes | bytearray | memoryview

TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = 1 + TAG_BYTES  # the kind, and the tag
_NONCE_BYTES: Final = 12


class _Direction:
    """The key in force, what was done with it, and a buffer that stays warm.

    The buffer: a new MiB from the system for each frame costs more than its encryption.
    """

    __slots__ = ("_aead", "_buffer", "_iv", "_number", "_secret", "used")

    used: int  # bytes of frames under the key in force

    def __init__(self, secret: bytes) -> None:
        self._buffer = bytearray()
        self._take(secret)

    def ratchet(self) -> None:
        """Go on to the next key. There is no way back: the old one is forgotten."""
        self._take(derive(self._secret, "record ratchet"))

    def forget(self) -> None:
        """Drop keys and plaintext; nothing can be sealed or opened afterwards."""
        self._aead: AESGCM | None = None
        self._secret = b""
        self._buffer = bytearray()

    def _take(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError("the secret of a direction has 32 bytes")
        self._secret = secret
        material = derive(secret, "record", length=KEY_BYTES + _NONCE_BYTES)
        self._aead = AESGCM(material[:KEY_BYTES])
        self._iv = int.from_bytes(material[KEY_BYTES:], "big")
        self._number = 0
        self.used = 0

    def _next(self) -> tuple[AESGCM, bytes]:
        if self._aead is None:
            raise RuntimeError("the keys of this direction were forgotten")
        nonce = (self._iv ^ self._number).to_bytes(_NONCE_BYTES, "big")
        self._number += 1
        return self._aead, nonce

    def _room(self, length: int) -> memoryview:
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        return memoryview(self._buffer)[:length]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Sealer(_Direction):
    __slots__ = ()

    def seal(self, kind: int, payload: Buffer) -> bytes:
        aead, nonce = self._next()
        plain = self._room(1 + len(payload))
        plain[0] = kind
        plain[1:] = payload
        frame = aead.encrypt(nonce, plain, None)
        self.used += len(frame)
        return frame


class Opener(_Direction):
    __slots__ = ()

    def open(self, frame: Buffer) -> tuple[int, memoryview]:
        """(kind, payload). The payload is a view that the next `open` overwrites.

        Raises BadCiphertext; the caller must not go on after that: the count is lost.
        """
        if len(frame) < OVERHEAD_BYTES:
            raise BadCiphertext("a frame of the channel was cut")
        aead, nonce = self._next()
        plain = self._room(len(frame) - TAG_BYTES)
        try:
            aead.decrypt_into(nonce, frame, None, plain)
        except InvalidTag:
            raise BadCiphertext(
                "a frame of the channel was changed, repeated, moved or lost"
            ) from None
        self.used += len(frame)
        return plain[0], plain[1:]


def seal_once(key: bytes, plain: bytes) -> bytes:
    """Encrypt the one message of a key that was derived for it."""
    # Fixed nonce: fresh secrets are in `key`, and each label derives one message's key (SPEC 9.3).
    return AESGCM(key).encrypt(bytes(_NONCE_BYTES), plain, None)


def open_once(key: bytes, sealed: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(bytes(_NONCE_BYTES), sealed, None)
    except InvalidTag:
        raise BadCiphertext("this was not sealed with our keys, or was changed") from None
